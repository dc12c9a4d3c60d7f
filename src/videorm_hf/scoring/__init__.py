"""Scoring video files with a VIDEORM, from Python and from the command line."""

from videorm_hf.scoring.records import ScoringStats, VideoScore
from videorm_hf.scoring.scorer import iter_scores, load_model, score_videos

__all__ = ["ScoringStats", "VideoScore", "iter_scores", "load_model", "score_videos"]
