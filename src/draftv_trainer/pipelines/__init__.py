"""What has to be said about some pipelines; most need nothing said."""

from draftv_trainer.pipelines.spec import PipelineSpec, check_sizes
from draftv_trainer.pipelines.specs import find_spec

__all__ = ["PipelineSpec", "check_sizes", "find_spec"]
