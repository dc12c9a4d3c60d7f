"""The model card of a converted VIDEORM: facts in, Markdown out, no computation."""

from collections.abc import Sequence

from huggingface_hub import ModelCardData

_SOURCE_NAMES = {
    "hps_v2": "an HPS v2 checkpoint",
    "open_clip": "an open_clip model",
    "transformers": "a transformers CLIPModel",
}
_MOVING_CLIPS = {
    "none": "",
    "residual": "\nOn a moving clip the temporal shift, which has no weights, already mixes neighbouring frames.",
    "block": "\nOn a moving clip the temporal shift, which has no weights, already mixes neighbouring frames.",
}

_TEMPLATE = """---
{metadata}
---

# VIDEORM from {source}

A VIDEORM, a reward model for (prompt, video) pairs, made by `videorm convert` from {source_name}.

**The temporal head is untrained.** Its {num_fresh_parameters} parameters are new, and do nothing until they are
trained: as it stands, the model is the image model averaged over frames, and on a still clip the reward equals the
image model's cosine for that frame.{moving_clips}
Train the head on video preferences before drawing conclusions about motion.

| | |
|---|---|
| Source | {source} |
| Licence of the source | {license} |
| Architecture | {architecture}, {num_converted_parameters} parameters taken over unchanged |
| Temporal shift | {temporal_shift} |
| Temporal head | {temporal_head}, {num_fresh_parameters} parameters, untrained |
| Weights | {dtype} |
| Preprocessing | {num_frames} frames, uniformly by time; longest side to {image_size} pixels (bicubic, antialias); \
zero padding to a square |
| Reward | cosine of prompt and video embedding, in [-1, 1], higher is better |
{notes}
## Use

```python
from transformers import AutoModel, AutoProcessor
import videorm_hf

model = AutoModel.from_pretrained("path/to/this/folder").eval()
processor = AutoProcessor.from_pretrained("path/to/this/folder")
inputs = processor(text=["a corgi on a skateboard"], videos=["clip.mp4"])
reward = model(**inputs).rewards
```
"""


def render_model_card(
    *,
    source: str,
    source_kind: str,
    architecture: str,
    base_model: str | None,
    license: str,
    num_converted_parameters: int,
    num_fresh_parameters: int,
    image_size: int,
    num_frames: int,
    temporal_shift: str,
    temporal_head: str,
    dtype: str,
    notes: Sequence[str],
) -> str:
    """Render the card of a converted model.

    Args:
        source (`str`):
            What was converted.
        source_kind (`str`):
            `"hps_v2"`, `"open_clip"` or `"transformers"`.
        architecture (`str`):
            Name of the source's architecture.
        base_model (`str`, *optional*):
            Hub id of the source, where it has one.
        license (`str`):
            Licence of the source, `"unknown"` where it does not say.
        num_converted_parameters (`int`):
            Numbers taken over.
        num_fresh_parameters (`int`):
            Numbers of the temporal head.
        image_size (`int`):
            Side of the square frames, in pixels.
        num_frames (`int`):
            Frames sampled from a clip.
        temporal_shift (`str`):
            Placement of the temporal shift.
        temporal_head (`str`):
            Kind of temporal head.
        dtype (`str`):
            What weights are stored in.
        notes (`Sequence[str]`):
            Sentences a user should know.

    Returns:
        `str`: Markdown with a metadata header, as the hub reads it.
    """
    metadata = ModelCardData(
        license=license,
        library_name="transformers",
        tags=["videorm", "reward-model", "text-to-video", "video-preference"],
        base_model=base_model,
    )
    return _TEMPLATE.format(
        metadata=metadata.to_yaml(),
        source=source,
        source_name=_SOURCE_NAMES[source_kind],
        license=license if license != "unknown" else "unknown: find it before you publish this folder",
        architecture=architecture,
        num_converted_parameters=f"{num_converted_parameters:,}",
        num_fresh_parameters=f"{num_fresh_parameters:,}",
        image_size=image_size,
        num_frames=num_frames,
        temporal_shift=temporal_shift,
        temporal_head=temporal_head,
        dtype=dtype,
        moving_clips=_MOVING_CLIPS[temporal_shift],
        notes="".join(["\n", *(f"- {note}\n" for note in notes)]) if notes else "",
    )
