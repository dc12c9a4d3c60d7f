"""What scoring yields: one record a row, and how the time was spent."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class VideoScore:
    """The reward of one video for one prompt, or the reason why there is none.

    Args:
        video: The video as it was given, usually a path.
        prompt (`str`): The prompt.
        reward (`float`, *optional*): Cosine in [-1, 1], higher is better; `None` if the video could not be scored.
        error (`str`, *optional*): The reason in one word, one of `DecodingFailure` or `"not_finite"`.
        message (`str`, *optional*): The reason for a person.
    """

    video: Any
    prompt: str
    reward: float | None
    error: str | None = None
    message: str | None = None


@dataclass
class ScoringStats:
    """Where the time went; filled in while scores are drawn.

    Args:
        decode_wait_s (`float`): Seconds the model waited for decoded frames.
        model_s (`float`): Seconds in the two towers.
        total_s (`float`): Seconds from the first row to the last.
    """

    decode_wait_s: float = 0.0
    model_s: float = 0.0
    total_s: float = 0.0
