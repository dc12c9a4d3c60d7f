"""`draftv demo`: the whole idea in minutes, offline, on the miniature weights that the package carries."""
