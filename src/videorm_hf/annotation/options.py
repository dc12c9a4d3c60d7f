"""AnnotationOptions: which judge is asked, how, and within which limits."""

from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlsplit

from videorm_hf.annotation.types import Mode
from videorm_hf.videoprefer.items import DIMENSIONS

ResponseFormat = Literal["auto", "json_schema", "text"]


@dataclass(frozen=True)
class AnnotationOptions:
    """How videos are rated.

    Args:
        model (`str`): The judge, by the name its server knows it by.
        base_url (`str`, *optional*): Where its API starts, such as `http://localhost:8000/v1`; OpenAI's by default.
        api_key_env (`str`): Environment variable that holds the key; a server of one's own needs none.
        mode (`"pointwise"` or `"pairwise"`): One rating a video, or verdicts on two videos in both orders.
        dimensions (`tuple[str, ...]`): What is rated, each in a call of its own.
        rubric_version (`str`): Which of the package's rubrics.
        num_frames (`int`): Frames of each video that the judge sees. The paper found 8 best of 4, 6, 8 and 10.
        frame_size (`int`): Longest side of a frame in pixels; smaller frames are not enlarged.
        temperature (`float`): Of the judge's sampling. The paper found 0.3 best of 0.3, 0.5, 0.7 and 0.9.
        response_format (`"auto"`, `"json_schema"` or `"text"`):
            Whether the server is asked to hold the reply to a JSON schema; `"auto"` does so if it can.
        max_tokens (`int`): Longest reply.
        concurrency (`int`): Calls at the same time.
        requests_per_minute (`float`, *optional*): Upper bound on calls sent, retries among them.
        tokens_per_minute (`float`, *optional*): Upper bound on tokens, of requests and replies together.
        timeout (`float`): Seconds that one call may take.
        max_attempts (`int`): How often a call is sent before it counts as failed.
        max_failures_in_a_row (`int`): Calls without any reply after which the server counts as gone.
        tokens_per_image (`int`): What a frame is assumed to cost until the server has said so.
        price_per_million_input (`float`, *optional*): Price of a million tokens of requests.
        price_per_million_output (`float`, *optional*): Price of a million tokens of replies.
        max_cost (`float`, *optional*): Stop before the journal's calls, those of earlier runs among them, cost more.
        num_workers (`int`): Decoding processes; 0 decodes in this one, where a decoder's crash ends the run.
    """

    model: str
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    mode: Mode = "pointwise"
    dimensions: tuple[str, ...] = DIMENSIONS
    rubric_version: str = "v1"
    num_frames: int = 8
    frame_size: int = 512
    temperature: float = 0.3
    response_format: ResponseFormat = "auto"
    max_tokens: int = 512
    concurrency: int = 16
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout: float = 120.0
    max_attempts: int = 6
    max_failures_in_a_row: int = 10
    tokens_per_image: int = 500
    price_per_million_input: float | None = None
    price_per_million_output: float | None = None
    max_cost: float | None = None
    num_workers: int = 1

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ValueError("model must be the name of a judge, got an empty one.")
        _check_choice("mode", self.mode, get_args(Mode))
        _check_choice("response_format", self.response_format, get_args(ResponseFormat))
        if not self.dimensions or len(set(self.dimensions)) < len(self.dimensions):
            raise ValueError(f"dimensions must be one or more, each once, got {self.dimensions}.")
        for name in ("num_frames", "frame_size", "max_tokens", "concurrency", "max_attempts", "max_failures_in_a_row"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("requests_per_minute", "tokens_per_minute", "timeout"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}.")
        for name in ("price_per_million_input", "price_per_million_output", "max_cost", "temperature", "num_workers"):
            if getattr(self, name) is not None and getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}.")
        if self.max_cost is not None and not self.has_prices:
            raise ValueError("max_cost needs price_per_million_input and price_per_million_output.")
        self._check_base_url()

    @property
    def has_prices(self) -> bool:
        """Whether costs can be told."""
        return self.price_per_million_input is not None and self.price_per_million_output is not None

    def cost(self, input_tokens: float, output_tokens: float) -> float:
        """Return what so many tokens cost; 0 where no prices are given."""
        return (
            input_tokens * (self.price_per_million_input or 0.0)
            + output_tokens * (self.price_per_million_output or 0.0)
        ) / 1e6

    def _check_base_url(self) -> None:
        if self.base_url is None:
            return
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("base_url must be like http://localhost:8000/v1 or https://host/v1.")
        if parts.username or parts.password or parts.query:
            # Not shown: what stands there is likely a key.
            raise ValueError("base_url must hold no user, password or query: keys come from the environment only.")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")
