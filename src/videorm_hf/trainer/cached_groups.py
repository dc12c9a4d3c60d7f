"""Groups whose videos and prompts were encoded before: filling the feature cache, and training data made of it."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedConfig, ProcessorMixin

from videorm_hf.models.videorm.modeling_videorm import VideoRMModel
from videorm_hf.scoring.journal import weights_fingerprint
from videorm_hf.trainer.data_collator import BadClip, CachedGroup, PreferenceCollator, named_videos
from videorm_hf.trainer.feature_cache import FeatureCache, video_key
from videorm_hf.trainer.preference_groups import DrawnDataset, PreferenceGroups

logger = logging.getLogger(__name__)

_PROBE = "A corgi rides a skateboard, 3 times!"


@dataclass(frozen=True)
class FeatureSource:
    """What turns videos and prompts into features.

    Args:
        model ([`VideoRMModel`]): With frozen towers, on its device, in evaluation mode.
        collator ([`PreferenceCollator`]): Reads clips and holds the processor.
        accelerator (`accelerate.Accelerator`): Of the run.
        autocast (`Callable`): Gives the context that the model computes in.
        batch_size (`int`): Videos in one forward pass.
        num_workers (`int`): Decoding processes.
    """

    model: VideoRMModel
    collator: PreferenceCollator
    accelerator: Accelerator
    autocast: Callable[[], AbstractContextManager[Any]]
    batch_size: int
    num_workers: int

    def settings(self) -> dict[str, Any]:
        """Return all that the features depend on beside the videos and prompts themselves."""
        model, processor = self.model, self.collator.processor
        frozen: dict[str, torch.nn.Module] = {
            "vision": model.vision_model,
            "visual_projection": model.visual_projection,
            "text": model.text_model,
            "text_projection": model.text_projection,
        }
        num_frames, config = self.collator.num_frames, model.config
        return {
            "weights": weights_fingerprint(torch.nn.ModuleDict(frozen)),
            "towers": [_own_fields(config.vision_config), _own_fields(config.text_config)],
            "dtype": str(model.dtype).removeprefix("torch."),
            "mixed_precision": str(self.accelerator.mixed_precision),
            "temporal_shift": [
                *(config.temporal_shift, config.temporal_shift_fold_div, config.temporal_shift_padding),
            ],
            "preprocessing": _without_names(processor),
            "tokens_of_probe": processor(text=[_PROBE])["input_ids"][0].tolist(),
            "frame_times": [round((index + 0.5) / num_frames, 6) for index in range(num_frames)],
        }


def _own_fields(config: PreTrainedConfig) -> dict[str, Any]:
    """Return a tower's settings without those that every configuration has, such as where it came from."""
    names = type(config).__dataclass_fields__.keys() - PreTrainedConfig.__dataclass_fields__.keys()
    return {name: getattr(config, name) for name in sorted(names)}


def _without_names(processor: ProcessorMixin) -> dict[str, Any]:
    """Return a video processor's settings without what says only where it came from."""
    settings = processor.video_processor.to_dict()
    # The number of frames is among the frame times; saving a processor adds the rest.
    return {name: settings[name] for name in settings if name not in ("auto_map", "num_frames", "_processor_class")}


class CachedGroups(DrawnDataset):
    """The groups of one data set with their features.

    Args:
        groups ([`PreferenceGroups`]): The data set.
        cache ([`FeatureCache`]): With the features of its videos and prompts.
        keys (`list[tuple[str, ...]]`): Of each group's videos.
        prompts (`list[str]`): Of each group.
        bad (`dict[str, BadClip]`): Videos that have none, by key.
    """

    def __init__(
        self,
        groups: PreferenceGroups,
        cache: FeatureCache,
        keys: list[tuple[str, ...]],
        prompts: list[str],
        bad: dict[str, BadClip],
    ) -> None:
        self.groups = groups
        self.cache = cache
        self.keys = keys
        self.prompts = prompts
        self.bad = bad

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, draw: int) -> CachedGroup:
        place = draw % len(self)
        embeds = tuple(self.bad[key] if key in self.bad else self.cache.frames.get(key) for key in self.keys[place])
        names, pairs, margins = self.groups.outline(place)
        return CachedGroup(names, embeds, self.cache.prompts.get(self.prompts[place]), pairs, margins)


class _Clips(Dataset):
    """Decodes the videos that still lack features."""

    def __init__(self, wanted: Sequence[tuple[PreferenceGroups, int, int]], collator: PreferenceCollator) -> None:
        self.wanted = wanted
        self.collator = collator

    def __len__(self) -> int:
        return len(self.wanted)

    def __getitem__(self, index: int) -> torch.Tensor | BadClip:
        groups, row, place = self.wanted[index]
        return self.collator.read(*named_videos(groups[row])[place])


def cache_groups(parts: Sequence[PreferenceGroups], cache: FeatureCache, source: FeatureSource) -> list[CachedGroups]:
    """Compute the features that the cache lacks, shared out over the processes, and build training data of it.

    Args:
        parts (`Sequence[PreferenceGroups]`):
            All data sets of a run.
        cache ([`FeatureCache`]):
            May hold some of the features.
        source ([`FeatureSource`]):
            Computes the others.

    Returns:
        `list[CachedGroups]`: one for each data set.
    """
    accelerator = source.accelerator
    process, world = accelerator.process_index, accelerator.num_processes
    total = sum(len(part) for part in parts)
    progress = tqdm(total=total, desc="videos", unit="row", disable=not accelerator.is_local_main_process)
    keys: list[list[tuple[str, ...]]] = []
    prompts: list[list[str]] = []
    wanted: dict[str, tuple[PreferenceGroups, int, int]] = {}
    for part in parts:
        keys.append([])
        prompts.append([])
        for row in range(len(part)):
            group = part[row]
            keys[-1].append(tuple(video_key(video) for video in group.videos))
            prompts[-1].append(group.prompt)
            for place, key in enumerate(keys[-1][-1]):
                if key not in cache.frames:
                    wanted.setdefault(key, (part, row, place))
            progress.update()
    progress.close()
    texts = [text for text in dict.fromkeys(text for part in prompts for text in part) if text not in cache.prompts]
    accelerator.wait_for_everyone()  # all have read what there is before any adds to it
    lock = cache.lock(process)
    try:
        _encode_prompts(texts[process::world], cache, source)
        bad = _encode_videos(dict(list(wanted.items())[process::world]), cache, source)
    finally:
        lock.release()
    accelerator.wait_for_everyone()
    cache.refresh()
    for others in gather_object([bad]):
        bad |= others
    return [
        CachedGroups(part, cache, part_keys, part_prompts, bad)
        for part, part_keys, part_prompts in zip(parts, keys, prompts, strict=True)
    ]


@torch.no_grad()
def _encode_prompts(texts: Sequence[str], cache: FeatureCache, source: FeatureSource) -> None:
    for first in range(0, len(texts), source.batch_size):
        batch = texts[first : first + source.batch_size]
        tokens = source.collator.processor(text=list(batch)).to(source.accelerator.device)
        with source.autocast():
            embeds = source.model.get_text_embeds(tokens["input_ids"], tokens["attention_mask"])
        cache.prompts.append(source.accelerator.process_index, batch, embeds)


@torch.no_grad()
def _encode_videos(
    wanted: dict[str, tuple[PreferenceGroups, int, int]], cache: FeatureCache, source: FeatureSource
) -> dict[str, BadClip]:
    """Encode videos and return those that cannot be decoded."""
    loader = DataLoader(
        _Clips(list(wanted.values()), source.collator),
        batch_size=source.batch_size,
        num_workers=source.num_workers,
        collate_fn=list,
    )
    keys, first = list(wanted), 0
    bad: dict[str, BadClip] = {}
    main = source.accelerator.is_local_main_process
    with tqdm(total=len(keys), desc="frame features", unit="video", disable=not main or not keys) as progress:
        for clips in loader:
            batch = keys[first : first + len(clips)]
            first += len(clips)
            bad |= {key: clip for key, clip in zip(batch, clips, strict=True) if isinstance(clip, BadClip)}
            good = {key: clip for key, clip in zip(batch, clips, strict=True) if not isinstance(clip, BadClip)}
            if good:
                pixels = source.collator.normalise(list(good.values())).to(source.accelerator.device)
                with source.autocast():
                    embeds = source.model.get_frame_embeds(pixels.to(source.model.dtype))
                cache.frames.append(source.accelerator.process_index, list(good), embeds)
            progress.update(len(clips))
    return bad
