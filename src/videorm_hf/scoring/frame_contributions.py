"""What each frame contributes to a reward: an exact division of a VIDEORM's reward over the frames it looks at.

A VIDEORM averages frame features that have seen each other and compares the mean with the prompt:
`reward = <text, mean_t(h_t)> / |mean_t(h_t)|`. So the reward is the sum over frames of
`<text, h_t> / (T * |mean_t(h_t)|)`, with nothing left over. It is no experiment: a frame's feature also holds what the
temporal shift and the temporal head brought to it from other frames.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from videorm_hf.models.videorm.modeling_videorm import VideoRMModel, VideoRMTemporalHead
from videorm_hf.models.videorm.processing_videorm import VideoRMProcessor
from videorm_hf.models.videorm.video_decoding_videorm import VideoDecodingError
from videorm_hf.scoring.decode_pool import decode_ahead
from videorm_hf.scoring.records import VideoScore
from videorm_hf.scoring.scorer import read_clip


@dataclass(frozen=True)
class ExplainedScore:
    """A reward with the frames it comes from.

    Args:
        score ([`VideoScore`]): The reward, or the reason why there is none.
        contributions (`tuple[float, ...]`): One for each frame; their sum is the reward. Empty without a reward.
        frames_THWC (`np.ndarray` of shape `(num_frames, height, width, 3)`):
            The frames as the model sees them, bytes: sampled, resized, padded. Empty for a clip that cannot be read.
    """

    score: VideoScore
    contributions: tuple[float, ...] = ()
    frames_THWC: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0, 3), np.uint8))


def explain_videos(
    model: VideoRMModel,
    processor: VideoRMProcessor,
    videos: Sequence[Any],
    prompt: str,
    *,
    num_workers: int = 1,
    timeout: float | None = 120.0,
) -> list[ExplainedScore]:
    """Score videos for a prompt and tell what each frame contributes.

    Args:
        model ([`VideoRMModel`]): In evaluation mode.
        processor ([`VideoRMProcessor`]): Its processor.
        videos (`Sequence`): Files; one that cannot be read gives a record with a named error.
        prompt (`str`): One for all.
        num_workers (`int`, defaults to 1): Decoding processes; 0 decodes in this one, without protection from crashes.
        timeout (`float`, *optional*, defaults to 120): Seconds that decoding one video may take in a process.

    Returns:
        `list[ExplainedScore]`: one for each video, in their order.
    """
    text_embeds = _encode_prompt(model, processor, prompt)
    read = functools.partial(read_clip, processor.video_processor, None)
    results = []
    for video, clip in zip(videos, decode_ahead(read, videos, num_workers, timeout), strict=True):
        if isinstance(clip, VideoDecodingError):
            results.append(ExplainedScore(VideoScore(video, prompt, None, clip.reason, str(clip))))
        else:
            results.append(_explain(model, processor, video, prompt, clip, text_embeds))
    return results


def _explain(
    model: VideoRMModel,
    processor: VideoRMProcessor,
    video: Any,
    prompt: str,
    clip_TCHW: np.ndarray,
    text_embeds: torch.Tensor,
) -> ExplainedScore:
    inputs = processor.video_processor(
        [torch.from_numpy(clip_TCHW)], do_sample_frames=False, do_resize=False, device=model.device
    )
    with torch.no_grad():
        frame_embeds = model.get_frame_embeds(inputs["pixel_values_videos"].to(model.dtype))
        contributions = frame_contributions(model.temporal_head, frame_embeds, text_embeds)[0].tolist()
    frames_THWC = clip_TCHW.transpose(0, 2, 3, 1)
    if not all(map(math.isfinite, contributions)):
        message = "the model's reward is not a number; try another dtype"
        return ExplainedScore(VideoScore(video, prompt, None, "not_finite", message), frames_THWC=frames_THWC)
    return ExplainedScore(VideoScore(video, prompt, sum(contributions)), tuple(contributions), frames_THWC)


@torch.no_grad()
def _encode_prompt(model: VideoRMModel, processor: VideoRMProcessor, prompt: str) -> torch.Tensor:
    tokens = processor(text=[prompt]).to(model.device)
    return model.get_text_embeds(tokens["input_ids"], tokens["attention_mask"])


def frame_contributions(
    head: VideoRMTemporalHead, frame_embeds: torch.Tensor, text_embeds: torch.Tensor
) -> torch.Tensor:
    """Divide rewards over frames.

    Args:
        head ([`VideoRMTemporalHead`]): Of the model.
        frame_embeds (`torch.FloatTensor` of shape `(batch_size, num_frames, projection_dim)`):
            From [`VideoRMModel.get_frame_embeds`], of clips without padding.
        text_embeds (`torch.FloatTensor` of shape `(batch_size, projection_dim)`): Of unit norm; one for all also fits.

    Returns:
        `torch.FloatTensor` of shape `(batch_size, num_frames)`: the sum over frames is the reward.
    """
    mixed = head.mix_frames(frame_embeds)
    length = mixed.mean(dim=1).norm(dim=-1, keepdim=True)
    return (mixed * text_embeds[:, None]).sum(dim=-1) / (mixed.shape[1] * length)
