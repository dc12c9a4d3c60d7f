"""Options of a sub-command from a YAML file and words, through TRL's parser: spelled as in TRL and transformers."""

from collections.abc import Sequence
from typing import Any

import yaml


def options_parser(command: str, description: str, dataclasses: Sequence[type]) -> Any:
    """Build a sub-command's parser.

    Args:
        command (`str`):
            How it is called.
        description (`str`):
            What it does, for `--help`.
        dataclasses (`list[type]`):
            Whose fields become options.

    Returns:
        `trl.TrlParser`: it reads options and YAML files; options are not abbreviated.
    """
    from trl import TrlParser

    note = "--config FILE reads options from a YAML file; those given on the command line come first."
    usage = f"{command} [--config FILE] [options]   (`{command} --help` lists them)"  # there are hundreds
    return TrlParser(dataclasses, prog=command, usage=usage, description=description, epilog=note, allow_abbrev=False)


def parse_options(parser: Any, words: Sequence[str]) -> tuple[Any, ...]:
    """Read words and the YAML file that `--config` names.

    Args:
        parser (`trl.TrlParser`):
            With the dataclasses to fill.
        words (`list[str]`):
            The command's own words.

    Returns:
        `tuple`: one instance per dataclass.

    Raises:
        ValueError: If the file is no YAML mapping, or an option does not exist.
    """
    split = [part for word in words for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    if split and split[-1] == "--config":
        raise ValueError("--config must be followed by the path of a YAML file: got nothing.")
    try:
        *values, unknown = parser.parse_args_and_config(split, return_remaining_strings=True)
    except yaml.YAMLError as error:
        raise ValueError(f"--config must name a YAML file: {error}") from error
    if unknown:
        raise ValueError(f"Unknown options: {' '.join(unknown)}. `--help` lists those that exist.")
    return tuple(values)
