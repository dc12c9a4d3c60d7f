"""`draftv`: tune a video pipeline by a reward, sample from it before and after, and compare.

Words and YAML files are read by TRL's parser, so that options are spelled as in TRL and transformers.
"""

import argparse
import importlib
import importlib.metadata
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

COMMANDS = {
    "train": "tune a pipeline's LoRA by the gradient of rewards",
    "sample": "sample videos, before and after side by side",
    "compare": "compare two LoRAs or pipelines by rewards, prompt by prompt",
    "demo": "score, tune and judge a miniature, offline, in minutes",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command.

    Args:
        arguments (`list[str]`, *optional*):
            The words after `draftv`; by default those of the command line.

    Returns:
        `int`: the exit code, 0 if all went well, 2 if the command could not be run as given, 130 on Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        with _own_messages():
            importlib.import_module(f"draftv_trainer.cli.{options.command}").run(options.words)
    except KeyboardInterrupt:
        if options.traceback:
            raise
        return 130
    except (ValueError, TypeError, OSError, ImportError) as error:  # videorm_hf.cli.app.USER_ERRORS
        if options.traceback:
            raise
        # Imported here: it takes seconds, which `draftv --help` need not wait for.
        from videorm_hf.cli.app import show_error

        return show_error(error, "draftv", options.command)
    return 0


@contextmanager
def _own_messages() -> Iterator[None]:
    """Show what our packages log; the libraries below show their own."""
    loggers = [logging.getLogger(name) for name in ("draftv_trainer", "videorm_hf")]
    handler, levels = logging.StreamHandler(), [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


def _parser() -> argparse.ArgumentParser:
    """Build the parser of what comes before a sub-command's own words."""
    commands = "\n".join(f"  {name:<9}{text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="draftv",
        description=f"DRaFT-V: tune video pipelines by video rewards.\n\ncommands:\n{commands}",
        epilog="`draftv COMMAND --help` lists its options. Exit code: 0, 2 for what cannot be run as given, 130 on "
        "Ctrl-C.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    version = importlib.metadata.version("videorm-hf")
    parser.add_argument("--version", action="version", version=f"draftv of videorm-hf {version}")
    parser.add_argument("--traceback", action="store_true", help="show where an error arose")
    parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="the command's own options")
    return parser


if __name__ == "__main__":  # for `accelerate launch -m draftv_trainer.cli.draftv train ...`
    sys.exit(main())
