"""HTML from templates that escape whatever comes from outside: file names, prompts, names of raters."""

from pathlib import Path
from typing import Any

import jinja2

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
)


def fill(name: str, **values: Any) -> str:
    """Fill a template.

    Args:
        name (`str`): Of a file in `templates`, without `.html.jinja2`.
        values: What it shows.

    Returns:
        `str`: HTML.
    """
    return _ENVIRONMENT.get_template(f"{name}.html.jinja2").render(**values)


def problem(message: str) -> str:
    """Say in words what went wrong.

    Args:
        message (`str`): A sentence.

    Returns:
        `str`: HTML.
    """
    return fill("problem", message=message)
