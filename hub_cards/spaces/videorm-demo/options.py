"""What the Space runs on, from the command line."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Options:
    """What the Space runs on, when everything is there.

    Args:
        reward (`str`): Folder or Hub id of a VIDEORM.
        base (`str`): Folder or Hub id of a diffusers pipeline.
        tuned (`Path`): Folder of a LoRA that `draftv train` wrote for it.
        pairs (`Path`): What the arena shows.
        data (`Path`): Everything that is written: votes, uploads, videos.
        prompts (`tuple[str, ...]`): Offered as examples.
        example_clips (`tuple[Path, ...]`): To score for the first of the prompts.
        note (`str`): Said on the page about the weights; may be empty.
    """

    reward: str
    base: str
    tuned: Path
    pairs: Path
    data: Path
    prompts: tuple[str, ...] = ()
    example_clips: tuple[Path, ...] = ()
    note: str = ""


def parse_words(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        words (`list[str]`, *optional*): Its words; those of this process by default.

    Returns:
        `argparse.Namespace`: `reward`, `base`, `tuned` and `pairs` are `None` where they were not given.
    """
    parser = argparse.ArgumentParser(description="Score clips, compare a tuned pipeline with its base, vote blind.")
    parser.add_argument("--reward", help="folder or Hub id of a VIDEORM (default: the shipped miniature)")
    parser.add_argument("--base", help="folder or Hub id of a diffusers pipeline (default: the shipped miniature)")
    parser.add_argument("--tuned", type=Path, help="folder of its LoRA (default: one tuned here at first start)")
    parser.add_argument(
        "--pairs",
        type=Path,
        help="what the arena shows: a folder of `draftv compare` or a working folder (default: made at first start)",
    )
    parser.add_argument("--data", type=Path, default=Path("arena_data"), help="where votes and uploads are kept")
    # A hosted Space sets these two variables; nothing else makes the page visible to other machines.
    host, port = os.environ.get("GRADIO_SERVER_NAME", LOOPBACK), os.environ.get("GRADIO_SERVER_PORT", "7860")
    parser.add_argument("--host", default=host, help=f"address to listen on (default: {LOOPBACK}, this machine only)")
    parser.add_argument("--port", type=int, default=int(port), help="default: 7860")
    parsed = parser.parse_args(words)
    if parsed.base is not None and (parsed.tuned is None or parsed.pairs is None):
        parser.error("--base needs --tuned and --pairs: a LoRA and pairs are made here for the miniature only")
    return parsed
