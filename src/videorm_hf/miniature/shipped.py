"""Where the shipped miniature weights lie; `make miniature` builds them anew."""

from videorm_hf.models.sources import SHIPPED

# A VIDEORM of the small world: `AutoModel.from_pretrained(VIDEORM_MINI)`.
VIDEORM_MINI = SHIPPED["videorm-mini"]
# A text-to-video pipeline of the small world: `DiffusionPipeline.from_pretrained(T2V_MINI)`.
T2V_MINI = SHIPPED["t2v-mini"]
