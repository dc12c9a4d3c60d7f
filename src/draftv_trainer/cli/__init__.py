"""The command line: one file a sub-command, each a thin layer over Python calls."""
