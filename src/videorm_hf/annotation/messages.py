"""A call's content in the wire format of chat completions: one user message of text and images, and a JSON schema."""

import base64
from collections.abc import Sequence
from typing import Any

from videorm_hf.annotation.rubrics import Form, Rubric
from videorm_hf.annotation.types import Mode

_ANSWERS: dict[Mode, tuple[str, dict[str, Any]]] = {
    # "enum" rather than a minimum and maximum: servers that hold replies to a schema know it everywhere.
    "pointwise": ("rating", {"type": "integer", "enum": [1, 2, 3, 4, 5]}),
    "pairwise": ("verdict", {"type": "string", "enum": ["A", "B", "tie"]}),
}


def build_messages(rubric: Rubric, prompt: str, videos: Sequence[Sequence[bytes]], form: Form) -> list[dict[str, Any]]:
    """Write the question about one video, or about two.

    Args:
        rubric ([`Rubric`]): What is asked.
        prompt (`str`): What the videos were to show.
        videos (`Sequence[Sequence[bytes]]`): The JPEG frames of each video.
        form (`"json_schema"` or `"text"`): How to reply.

    Returns:
        `list[dict]`: one user message: question, frames, form of the reply.
    """
    content: list[dict[str, Any]] = [_text(rubric.question(prompt))]
    for name, frames in zip("AB", videos, strict=False):
        if len(videos) > 1:
            content.append(_text(f"Video {name}:"))
        content += [_image(frame) for frame in frames]
    return [{"role": "user", "content": [*content, _text(rubric.form(form))]}]


def response_schema(mode: Mode) -> dict[str, Any]:
    """Return the `response_format` that holds a reply to a rationale and an answer.

    Args:
        mode (`"pointwise"` or `"pairwise"`): What is asked for.

    Returns:
        `dict`: with the rationale first, so that the judge reasons before it decides.
    """
    answer, values = _ANSWERS[mode]
    schema = {
        "type": "object",
        "properties": {"rationale": {"type": "string"}, answer: values},
        "required": ["rationale", answer],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": answer, "strict": True, "schema": schema}}


def text_length(messages: list[dict[str, Any]]) -> int:
    """Return the characters of a message's text."""
    return sum(len(part.get("text", "")) for message in messages for part in message["content"])


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(jpeg: bytes) -> dict[str, Any]:
    url = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
    return {"type": "image_url", "image_url": {"url": url}}
