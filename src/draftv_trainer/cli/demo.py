"""`draftv demo`: score, tune and judge with the miniature weights, offline, in minutes; writes a page."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from draftv_trainer.demo.demo import SMOKE, Scale, run_demo


def run(words: Sequence[str]) -> None:
    """Run the demo.

    Args:
        words (`list[str]`):
            The command's own options.
    """
    parser = argparse.ArgumentParser(prog="draftv demo", description=__doc__, allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder of the page (demo_output)")
    parser.add_argument("--smoke", action="store_true", help="do as little as possible: tells nothing, takes seconds")
    options = parser.parse_args(words)
    run_demo(options.output, SMOKE if options.smoke else Scale())
