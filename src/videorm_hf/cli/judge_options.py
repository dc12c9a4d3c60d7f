"""Options of the commands that ask a judge."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from videorm_hf.annotation import AnnotationOptions

Model = Annotated[str, typer.Option(help="The judge, by the name its server knows it by.")]
BaseUrl = Annotated[
    str | None,
    typer.Option(help="Where the server's API starts, as http://localhost:8000/v1.", show_default="OpenAI's"),
]
ApiKeyEnv = Annotated[str, typer.Option(help="Environment variable with the key; a server of one's own needs none.")]
RubricVersion = Annotated[str, typer.Option(help="Which of the package's rubrics.")]
FrameSize = Annotated[int, typer.Option(min=1, help="Longest side of a frame, in pixels.")]
ResponseFormat = Annotated[
    str, typer.Option(help="auto (JSON schema if the server takes it), json_schema or text.", metavar="FORMAT")
]
MaxTokens = Annotated[int, typer.Option(min=1, help="Longest reply.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Calls at the same time.")]
RequestsPerMinute = Annotated[float | None, typer.Option(help="Upper bound on calls sent, retries among them.")]
TokensPerMinute = Annotated[float | None, typer.Option(help="Upper bound on tokens, requests and replies together.")]
Timeout = Annotated[float, typer.Option(help="Seconds that one call may take.")]
MaxAttempts = Annotated[int, typer.Option(min=1, help="How often a call is sent before it counts as failed.")]
TokensPerImage = Annotated[int, typer.Option(min=1, help="What a frame may cost, until the server has counted.")]
PricePerMillionInput = Annotated[float | None, typer.Option(help="Price of a million tokens of requests.")]
PricePerMillionOutput = Annotated[float | None, typer.Option(help="Price of a million tokens of replies.")]
MaxCost = Annotated[float | None, typer.Option(help="Stop before the calls, of earlier runs too, cost more.")]
NumWorkers = Annotated[int, typer.Option(min=0, help="Decoding processes.")]


def annotation_options(params: Mapping[str, Any], **settings: Any) -> "AnnotationOptions":
    """Gather how a judge is asked from a command's options, which have the names of the settings.

    Args:
        params (`Mapping[str, Any]`): The options, as typer's context has them; those of another name are left out.
        settings (`Any`): Settings that are not an option of the command as they stand.

    Returns:
        [`AnnotationOptions`]: what was given, checked.
    """
    from videorm_hf.annotation import AnnotationOptions

    names = {field.name for field in dataclasses.fields(AnnotationOptions)}
    return AnnotationOptions(**{**{name: params[name] for name in names & params.keys()}, **settings})
