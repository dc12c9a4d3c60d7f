"""Where the shipped miniature weights lie; `make miniature` builds them anew."""

from pathlib import Path

_WEIGHTS = Path(__file__).parent / "weights"
# A VIDEORM of the small world: `AutoModel.from_pretrained(VIDEORM_MINI)`.
VIDEORM_MINI = _WEIGHTS / "videorm-mini"
# A text-to-video pipeline of the small world: `DiffusionPipeline.from_pretrained(T2V_MINI)`.
T2V_MINI = _WEIGHTS / "t2v-mini"
