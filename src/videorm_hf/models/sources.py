"""Where a model is read from: a folder, a Hub id, or the name of a model that comes with the package."""

import os
import re
from pathlib import Path

# What `videorm_hf.miniature.shipped` names in Python. Paths only: the miniature is above this package.
SHIPPED = {name: Path(__file__).parents[1] / "miniature" / "weights" / name for name in ("videorm-mini", "t2v-mini")}
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def find_source(source: str | os.PathLike[str], meaning: str) -> str:
    """Tell where a model lies, before anything is asked of a network.

    Args:
        source (`str` or `os.PathLike`):
            A folder, a Hub id, or `videorm-mini` or `t2v-mini`, of which a folder of that name comes first.
        meaning (`str`):
            What it stands for, for messages.

    Returns:
        `str`: what `from_pretrained` takes.

    Raises:
        FileNotFoundError: If it is none of these.
    """
    word = os.fspath(source)
    if word and Path(word).is_dir():
        return word
    if word in SHIPPED:
        return str(SHIPPED[word])
    if Path(word).is_file():
        raise FileNotFoundError(
            f"{meaning} must be a folder, or a Hub id such as owner/name: got the file {word!r}. `videorm convert` "
            "makes the folder of a VIDEORM from a checkpoint file."
        )
    if not _HUB_ID.fullmatch(word):
        raise FileNotFoundError(
            f"{meaning} must be a folder, or a Hub id such as owner/name: got {word!r}, and there is no such folder "
            f"from {os.getcwd()}."
        )
    return word
