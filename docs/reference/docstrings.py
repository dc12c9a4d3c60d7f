"""For the site's reference pages: docstrings are written as in the Hugging Face libraries."""

import re
from typing import Any

import griffe

_NAMED_OBJECT = re.compile(r"\[`~?(?:\w+\.)*(\w+)`\](?![(\[])")
_PARAMETER = re.compile(r"^(\s+\*{0,2}\w+) \((.+)\):", re.MULTILINE)


class HuggingFaceDocstrings(griffe.Extension):
    """Show [`~package.Name`] as the code `Name`, and types without backticks, for they stand in code anyway."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            text = _NAMED_OBJECT.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = _PARAMETER.sub(_plain, text)


def _plain(match: re.Match[str]) -> str:
    """Return a parameter's line without marks."""
    return match.group().replace("`", "").replace("*optional*", "optional")
