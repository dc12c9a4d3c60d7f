"""What judges are asked: versioned text files, in our own words after the facts in Wu et al. 2024 (NeurIPS), Sec. 3.1.

A published version never changes; another wording is a new version. `pairwise_...` holds the questions of pairwise
mode, `reply_...` and `verdict_...` the forms in which an answer is asked for.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from videorm_hf.annotation.types import Mode

Form = Literal["json_schema", "text"]


@dataclass(frozen=True)
class Rubric:
    """What a judge is asked about a video, or about two.

    Args:
        dimension (`str`): What is rated.
        version (`str`): Of the wording.
        text (`str`): The question; `{prompt}` stands where the video's prompt belongs, if it belongs in it.
        text_form (`str`): How to reply in text.
        json_form (`str`): How to reply in JSON.
    """

    dimension: str
    version: str
    text: str
    text_form: str
    json_form: str

    @property
    def hash(self) -> str:
        """SHA-256 of all three texts, which tells whether two ratings were asked for with the same words."""
        return hashlib.sha256("\0".join((self.text, self.text_form, self.json_form)).encode()).hexdigest()

    def question(self, prompt: str) -> str:
        """Return the question about a video for a prompt."""
        return self.text.replace("{prompt}", prompt)

    def form(self, form: Form) -> str:
        """Return how to reply."""
        return self.json_form if form == "json_schema" else self.text_form


def load_rubric(dimension: str, mode: Mode = "pointwise", version: str = "v1") -> Rubric:
    """Load one of the package's rubrics.

    Args:
        dimension (`str`): `"prompt_following"` or `"video_quality"`.
        mode (`"pointwise"` or `"pairwise"`, defaults to `"pointwise"`): Whether one is rated or two are compared.
        version (`str`, defaults to `"v1"`): Of the wording.

    Returns:
        [`Rubric`]

    Raises:
        ValueError: If there is no such rubric.
    """
    folder = files(__name__)
    pairwise, form = ("pairwise_", "verdict") if mode == "pairwise" else ("", "reply")
    names = [f"{pairwise}{dimension}_{version}", f"{form}_text_{version}", f"{form}_json_{version}"]
    paths = [folder.joinpath(f"{name}.txt") for name in names]
    if not all(path.is_file() for path in paths):
        known = sorted(path.name[: -len(".txt")] for path in folder.iterdir() if path.name.endswith(".txt"))
        rubrics = [name for name in known if not name.startswith(("reply_", "verdict_"))]
        asked = [name for name in rubrics if name.startswith("pairwise_") == (mode == "pairwise")]
        raise ValueError(f"There is no rubric {names[0]}; there are {', '.join(asked)}.")
    text, text_form, json_form = (path.read_text(encoding="utf-8").strip() for path in paths)
    return Rubric(dimension, version, text, text_form, json_form)
