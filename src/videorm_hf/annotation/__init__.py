"""MLLM feedback: judges that rate videos, what their replies say, and how far they agree with people."""

from videorm_hf.annotation.annotator import Forecast, VideoAnnotator
from videorm_hf.annotation.options import AnnotationOptions
from videorm_hf.annotation.parsing import parse_rating, parse_verdict
from videorm_hf.annotation.rubrics import Rubric, load_rubric
from videorm_hf.annotation.run import AnnotationSummary
from videorm_hf.annotation.types import FailureReason, Rating, Verdict

__all__ = [
    "AnnotationOptions",
    "AnnotationSummary",
    "FailureReason",
    "Forecast",
    "Rating",
    "Rubric",
    "Verdict",
    "VideoAnnotator",
    "load_rubric",
    "parse_rating",
    "parse_verdict",
]
