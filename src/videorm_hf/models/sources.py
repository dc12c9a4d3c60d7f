"""Where a model is read from: a folder, a Hub id, or the name of a model that comes with the package."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

# `videorm_hf.miniature.shipped` gives them to Python. Paths only: the miniature is above this package.
SHIPPED = {name: Path(__file__).parents[1] / "miniature" / "weights" / name for name in ("videorm-mini", "t2v-mini")}
VIDEORM_FILES = ("config.json", "adapter_config.json")
PIPELINE_FILES = ("model_index.json",)
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def find_source(source: str | os.PathLike[str], meaning: str, files: Sequence[str] = ()) -> str:
    """Tell where a model lies, before anything is asked of a network.

    Args:
        source (`str` or `os.PathLike`):
            A folder, a Hub id, or `videorm-mini` or `t2v-mini`, of which a folder of that name comes first.
        meaning (`str`):
            What it stands for, for messages.
        files (`Sequence[str]`, *optional*):
            Of which a folder must hold one.

    Returns:
        `str`: what `from_pretrained` takes.

    Raises:
        FileNotFoundError: If it is none of these.
    """
    word = os.fspath(source)
    folder = SHIPPED[word] if word in SHIPPED and not Path(word).is_dir() else Path(word)
    if word and folder.is_dir():
        if files and not any((folder / name).is_file() for name in files):
            raise FileNotFoundError(f"{meaning} must be a folder with {' or '.join(files)}: got {word!r}, without.")
        return str(folder) if word in SHIPPED else word
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
