"""Groups to batches: decode, tokenise, lay out pairs, and name what cannot be used. Runs in dataloader workers too."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import ProcessorMixin

from videorm_hf.models.videorm.video_decoding_videorm import VideoDecodingError
from videorm_hf.trainer.preference_groups import PreferenceGroup

# Random sampling takes one of so many evenly spaced frames in each of the `num_frames` parts of a clip.
CHOICES_PER_PART = 4
IDENTICAL = "identical_videos"


@dataclass(frozen=True)
class BadClip:
    """A clip that cannot be used.

    Args:
        name (`str`): What the data set calls it.
        reason (`str`): A reason of [`VideoDecodingError`], or `"identical_videos"`.
        message (`str`): For a person.
    """

    name: str
    reason: str
    message: str


@dataclass(frozen=True)
class PreferenceCollator:
    """Turn groups into a batch.

    Args:
        processor (`ProcessorMixin`): Of the model.
        num_frames (`int`): Frames of a clip.
        frame_sampling (`str`, defaults to `"uniform"`): Or `"random"`: see [`VideoRewardConfig`].
        seed (`int`, defaults to 0): Of random sampling.
    """

    processor: ProcessorMixin
    num_frames: int
    frame_sampling: str = "uniform"
    seed: int = 0

    def __call__(self, groups: Sequence[PreferenceGroup]) -> dict[str, Any]:
        """Decode and lay out.

        A clip that cannot be decoded is black and in no pair; a pair whose frames are all the same is left out.

        Args:
            groups (`Sequence[PreferenceGroup]`): Of the batch.

        Returns:
            `dict[str, Any]`: what [`layout`] returns, with `pixel_values_videos`
            `(num_videos, num_frames, 3, height, width)`, and `input_ids` and `attention_mask`
            `(num_groups, sequence_length)`.
        """
        read = [
            [self.read(video, name, (group.draw, place)) for place, (video, name) in enumerate(named_videos(group))]
            for group in groups
        ]
        batch = layout(groups, read)
        blank = torch.empty(0)
        if batch["bad_clips"]:
            blank = self._prepared(np.zeros((1, 8, 8, 3), dtype=np.uint8))
        clips = [blank if isinstance(clip, BadClip) else clip for clips in read for clip in clips]
        batch["pixel_values_videos"] = self.normalise(clips)
        tokens = self.processor(text=[group.prompt for group in groups])
        return batch | {name: tokens[name] for name in ("input_ids", "attention_mask")}

    def read(self, video: Any, name: str, draw: tuple[int, ...] = (0,)) -> torch.Tensor | BadClip:
        """Sample and resize one video to `(num_frames, 3, height, width)`, files to `uint8`.

        Args:
            video (`Any`): In any form that the processor takes.
            name (`str`): What messages call it.
            draw (`tuple[int, ...]`): Decides its random frames.

        Returns:
            `torch.Tensor` or [`BadClip`]: the latter where there is none, or none that can be decoded.
        """
        if video is None or (isinstance(video, dict) and video.get("bytes") is None and video.get("path") is None):
            return BadClip(name, "missing", "the row names no video")
        try:
            if self.frame_sampling == "uniform":
                return self._prepared(video)
            parts = self.processor.video_processor(
                [video],
                num_frames=self.num_frames * CHOICES_PER_PART,
                do_resize=False,
                do_rescale=False,
                do_normalize=False,
            )["pixel_values_videos"][0]
        except VideoDecodingError as error:
            return BadClip(name, error.reason, str(error))
        choices = np.random.default_rng([self.seed, *draw]).integers(CHOICES_PER_PART, size=self.num_frames)
        return self._prepared(parts[torch.from_numpy(np.arange(self.num_frames) * CHOICES_PER_PART + choices)])

    def normalise(self, clips: Sequence[torch.Tensor]) -> torch.Tensor:
        """Stack what [`read`] returned into normalised `pixel_values_videos`."""
        prepared = self.processor.video_processor(list(clips), do_sample_frames=False, do_resize=False)
        return prepared["pixel_values_videos"]

    def _prepared(self, video: Any) -> torch.Tensor:
        prepared = self.processor.video_processor(
            [video], num_frames=self.num_frames, do_rescale=False, do_normalize=False
        )
        return prepared["pixel_values_videos"][0]


@dataclass(frozen=True)
class CachedGroup:
    """A group whose features were computed before.

    Args:
        names (`tuple[str, ...]`): What messages call its videos.
        frame_embeds (`tuple`): Of each video, `(num_frames, dim)`; or why there are none.
        text_embeds (`torch.FloatTensor` of shape `(dim,)`): Of its prompt.
        pairs (`tuple[tuple[int, int], ...]`): Places of the better and the other video.
        margins (`tuple[float, ...]`): Of each pair.
    """

    names: tuple[str, ...]
    frame_embeds: tuple[torch.Tensor | BadClip, ...]
    text_embeds: torch.Tensor
    pairs: tuple[tuple[int, int], ...]
    margins: tuple[float, ...]


def collate_cached(groups: Sequence[CachedGroup]) -> dict[str, Any]:
    """Turn groups with features into a batch.

    Args:
        groups (`Sequence[CachedGroup]`): Of the batch.

    Returns:
        `dict[str, Any]`: what [`layout`] returns, with `frame_embeds` `(num_videos, num_frames, dim)` and
        `text_embeds` `(num_groups, dim)`.
    """
    read = [group.frame_embeds for group in groups]
    batch = layout(groups, read)
    shape = next((clip for clips in read for clip in clips if not isinstance(clip, BadClip)), None)
    width = groups[0].text_embeds.shape[-1]
    blank = torch.full((1, width), width**-0.5) if shape is None else torch.full_like(shape, width**-0.5)
    batch["frame_embeds"] = torch.stack([blank if isinstance(c, BadClip) else c for clips in read for c in clips])
    return batch | {"text_embeds": torch.stack([group.text_embeds for group in groups])}


def named_videos(group: PreferenceGroup) -> list[tuple[Any, str]]:
    """Return a group's videos with their names."""
    return list(zip(group.videos, group.names, strict=True))


def layout(
    groups: Sequence["PreferenceGroup | CachedGroup"], read: Sequence[Sequence[torch.Tensor | BadClip]]
) -> dict[str, Any]:
    """Number a batch's videos from end to end and lay out the pairs that can be used.

    Args:
        groups (`Sequence`):
            With the names of their videos and their pairs.
        read (`Sequence`):
            Each group's clips or features, or why there are none.

    Returns:
        `dict[str, Any]`: `num_pairs` `(num_groups,)`; `prompt_index` `(num_videos,)`; `pairs` `(num_pairs, 2)` and
        `margins` `(num_pairs,)`; and `bad_clips`, a list of [`BadClip`].
    """
    counts: list[int] = []
    prompt_index: list[int] = []
    pairs: list[tuple[int, int]] = []
    margins: list[float] = []
    bad: list[BadClip] = []
    for index, (group, clips) in enumerate(zip(groups, read, strict=True)):
        first, before = len(prompt_index), len(pairs)
        prompt_index += [index] * len(clips)
        bad += [clip for clip in clips if isinstance(clip, BadClip)]
        for (chosen, rejected), margin in zip(group.pairs, group.margins, strict=True):
            a, b = clips[chosen], clips[rejected]
            if isinstance(a, BadClip) or isinstance(b, BadClip):
                continue
            if torch.equal(a, b):
                names = f"{group.names[chosen]} = {group.names[rejected]}"
                bad.append(BadClip(names, IDENTICAL, "all frames that are looked at are the same"))
                continue
            pairs.append((first + chosen, first + rejected))
            margins.append(margin)
        counts.append(len(pairs) - before)
    return {
        "num_pairs": torch.tensor(counts),
        "prompt_index": torch.tensor(prompt_index),
        "pairs": torch.tensor(pairs, dtype=torch.long).reshape(-1, 2),
        "margins": torch.tensor(margins, dtype=torch.float32),
        "bad_clips": bad,
    }
