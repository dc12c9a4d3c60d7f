"""Where a model is read from: a folder, a Hub id, or the name of a model that comes with the package.

[`find_source`] tells which, and [`loading`] what to do where a Hub id cannot be loaded.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from transformers import AutoConfig, PreTrainedConfig
from transformers.utils import find_adapter_config_file

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
        meant = get_close_matches(word, SHIPPED, n=1)
        hint = f" Was {meant[0]!r} meant?" if meant else ""
        hint += " NAME:SOURCE goes where rewards of every kind do, to --reward or load_reward." if ":" in word else ""
        raise FileNotFoundError(
            f"{meaning} must be a folder, or a Hub id such as owner/name: got {word!r}, and there is no such folder "
            f"from {os.getcwd()}.{hint}"
        )
    return word


def hub_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Choose of a model's `from_pretrained` arguments those that its configuration and processor take too.

    Args:
        arguments (`Mapping[str, Any]`):
            What was given.

    Returns:
        `dict[str, Any]`: where to look for the files, and with which rights.
    """
    names = ("cache_dir", "revision", "token", "trust_remote_code")
    return {name: arguments[name] for name in names if name in arguments}


def load_config(source: str | os.PathLike[str], arguments: Mapping[str, Any]) -> PreTrainedConfig:
    """Load a model's configuration; of an adapter, that of the model which it was trained on.

    Args:
        source (`str` or `os.PathLike`):
            A folder or a Hub id.
        arguments (`Mapping[str, Any]`):
            Of the model's `from_pretrained`.

    Returns:
        `PreTrainedConfig`
    """
    arguments = hub_arguments(arguments)
    where = {name: value for name, value in arguments.items() if name != "trust_remote_code"}
    adapter = find_adapter_config_file(os.fspath(source), **where)
    if adapter is not None:
        source = json.loads(Path(adapter).read_text(encoding="utf-8"))["base_model_name_or_path"]
    return AutoConfig.from_pretrained(source, **arguments)


@contextmanager
def loading(source: str | os.PathLike[str]) -> Iterator[None]:
    """Say which Hub id could not be loaded, what was tried, and what to do; the libraries' errors often do not.

    Args:
        source (`str` or `os.PathLike`):
            What is loaded within the context. Errors of a folder are left as they are.

    Raises:
        OSError: From the library's own, if it is a Hub id and loading it fails.
    """
    try:
        yield
    except OSError as error:
        word = os.fspath(source)
        if Path(word).exists():
            raise
        asked = "was not asked, for HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "was asked"
        raise OSError(
            f"{word!r} could not be loaded: no folder has this name, the cache ({constants.HF_HUB_CACHE}) does not "
            f"hold all of it, and {constants.ENDPOINT} {asked}. Where there is no network, give the folder of a copy "
            f"(`hf download {word} --local-dir FOLDER` makes one), or fill the cache and set HF_HUB_OFFLINE=1, which "
            f"also ends the waiting. The reason: {error}"
        ) from error
