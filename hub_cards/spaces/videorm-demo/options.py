"""What the Space runs on, from the command line or, on the Hub, from variables of the environment."""

import argparse
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from videorm_hf.models.dtypes import DTYPES, parse_dtype

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
        dtype (`torch.dtype`): What the pipeline computes in.
        prompts (`tuple[str, ...]`): Offered as examples.
        example_clips (`tuple[Path, ...]`): To score for the first of the prompts.
        note (`str`): Said on the page about the weights; may be empty.
    """

    reward: str
    base: str
    tuned: Path
    pairs: Path
    data: Path
    dtype: torch.dtype = torch.float32
    prompts: tuple[str, ...] = ()
    example_clips: tuple[Path, ...] = ()
    note: str = ""


def parse_words(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; what it leaves out is read from variables such as `VIDEORM_DATA` for `--data`.

    Args:
        words (`list[str]`, *optional*): Its words; those of this process by default.

    Returns:
        `argparse.Namespace`: `reward`, `base`, `tuned` and `pairs` are `None` where they were not given.
    """
    parser = argparse.ArgumentParser(
        description="Score clips, compare a tuned pipeline with its base, vote blind.",
        epilog="A hosted Space is started without options: there, set variables such as VIDEORM_DATA for --data.",
    )
    reward, base, tuned, pairs = (_from_environment(name) for name in ("REWARD", "BASE", "TUNED", "PAIRS"))
    data, dtype = _from_environment("DATA") or "arena_data", _from_environment("DTYPE") or "float32"
    parser.add_argument(
        "--reward", default=reward, help="folder or Hub id of a VIDEORM (default: the shipped miniature)"
    )
    parser.add_argument(
        "--base", default=base, help="folder or Hub id of a diffusers pipeline (default: the shipped miniature)"
    )
    parser.add_argument(
        "--tuned", type=Path, default=tuned, help="folder of its LoRA (default: one tuned here at first start)"
    )
    parser.add_argument(
        "--pairs",
        type=Path,
        default=pairs,
        help="what the arena shows: a folder of `draftv compare` or a working folder (default: made at first start)",
    )
    parser.add_argument("--data", type=Path, default=data, help="where votes and uploads are kept")
    parser.add_argument(
        "--dtype", default=dtype, help=f"what the pipeline computes in: {', '.join(DTYPES)} (default: float32)"
    )
    # A hosted Space sets these two variables itself; nothing else makes the page visible to other machines.
    host, port = os.environ.get("GRADIO_SERVER_NAME", LOOPBACK), os.environ.get("GRADIO_SERVER_PORT", "7860")
    parser.add_argument("--host", default=host, help=f"address to listen on (default: {LOOPBACK}, this machine only)")
    parser.add_argument("--port", type=int, default=port, help="default: 7860")
    parsed = parser.parse_args(words)
    if parsed.base is not None and (parsed.tuned is None or parsed.pairs is None):
        parser.error("--base needs --tuned and --pairs: a LoRA and pairs are made here for the miniature only")
    for word, folder in (("--tuned", parsed.tuned), ("--pairs", parsed.pairs)):
        if folder is not None and not folder.is_dir():
            parser.error(f"{word} must name a folder: got {folder}, which is none")
    try:
        parsed.dtype = parse_dtype(parsed.dtype)
    except ValueError as error:
        parser.error(f"--{error}")
    return parsed


def check_port(host: str, port: int) -> None:
    """End the process in a sentence if it cannot listen there, which is better known before minutes of preparing.

    Args:
        host (`str`): Address to listen on.
        port (`int`): Where.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            if os.name == "posix":  # what a server left that has just ended does not count; elsewhere this means more
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host.strip("[]"), port))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a port is a number from 0 to 65535"
        sys.stderr.write(f"error: cannot listen on port {port} of {host}, give another --port: {reason}\n")
        raise SystemExit(2) from error


def _from_environment(name: str) -> str | None:
    return os.environ.get(f"VIDEORM_{name}") or None
