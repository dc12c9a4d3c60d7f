"""Files to rewards: decoded ahead in worker processes, batched across files, each video and prompt encoded once."""

import functools
import math
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import AutoModel, AutoProcessor

from videorm_hf.models.dtypes import parse_dtype
from videorm_hf.models.sources import VIDEORM_FILES, find_source
from videorm_hf.models.videorm.modeling_videorm import VideoRMModel
from videorm_hf.models.videorm.processing_videorm import VideoRMProcessor
from videorm_hf.models.videorm.video_decoding_videorm import VideoDecodingError
from videorm_hf.models.videorm_blip.modeling_videorm_blip import VideoRMBlipModel
from videorm_hf.rewards.base import frames_to_score
from videorm_hf.rewards.complete_models import load_complete
from videorm_hf.scoring.decode_pool import Decoded, decode_ahead, default_num_workers
from videorm_hf.scoring.records import ScoringStats, VideoScore


def score_videos(
    model: VideoRMModel | str | os.PathLike[str],
    videos: Sequence[Any],
    prompts: str | Sequence[str],
    *,
    progress: bool = True,
    **kwargs: Any,
) -> list[VideoScore]:
    """Score videos for prompts.

    A video that cannot be read gives a record with a named `error`; the others are scored all the same.

    Args:
        model ([`VideoRMModel`], `str` or `os.PathLike`): A model, or the folder or Hub id of one.
        videos (`Sequence`): Paths, or anything else that [`VideoRMVideoProcessor`] takes.
        prompts (`str` or `Sequence[str]`): One prompt for all videos, or one for each.
        progress (`bool`, defaults to `True`): Show a progress bar.
        kwargs: Passed to [`iter_scores`].
    Returns:
        `list[VideoScore]`: one record a video, in the order given.
    """
    scores = iter_scores(model, videos, prompts, **kwargs)
    return list(tqdm(scores, total=len(videos), desc="scoring", unit="video", disable=not progress))


def iter_scores(
    model: VideoRMModel | str | os.PathLike[str],
    videos: Sequence[Any],
    prompts: str | Sequence[str],
    *,
    processor: VideoRMProcessor | None = None,
    batch_size: int = 8,
    num_frames: int | None = None,
    num_workers: int | None = None,
    timeout: float | None = 120.0,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    stats: ScoringStats | None = None,
) -> Iterator[VideoScore]:
    """Score videos for prompts, yielding records in input order as soon as they are known.

    Args:
        model ([`VideoRMModel`], `str` or `os.PathLike`): A model, or the folder or Hub id of one.
        videos (`Sequence`): Paths, or anything else that [`VideoRMVideoProcessor`] takes.
        prompts (`str` or `Sequence[str]`): One prompt for all videos, or one for each.
        processor ([`VideoRMProcessor`], *optional*): Needed where `model` is not a path.
        batch_size (`int`, defaults to 8): Videos in one forward pass.
        num_frames (`int`, *optional*): Frames sampled from each video; the processor's number by default.
        num_workers (`int`, *optional*): Decoding processes; 0 decodes in this process. By default all cores but one.
        timeout (`float`, *optional*, defaults to 120): Seconds that decoding one video may take in a process.
        device (`str` or `torch.device`, *optional*): Where the model runs; its own device, or the GPU if any.
        dtype (`str` or `torch.dtype`, *optional*): Precision of the weights; the checkpoint's by default.
        stats ([`ScoringStats`], *optional*): Filled in while records are drawn.
    Returns:
        `Iterator[VideoScore]`: one record a video, in the order given.
    Raises:
        ValueError: If the numbers of videos and prompts differ, or a setting is out of range.
    """
    if isinstance(videos, (str, bytes, os.PathLike)):
        raise TypeError(f"videos must be a list of videos, got one: write [{videos!r}].")
    if prompts is None:
        raise TypeError("prompts must be a text for all videos, or a list of one for each, got None.")
    videos = list(videos)  # each one stays the same object: a lazy sequence would make it anew at every look
    prompts = [prompts] * len(videos) if isinstance(prompts, str) else list(prompts)
    if len(prompts) != len(videos):
        raise ValueError(f"prompts must be one string or one for each video, got {len(prompts)} for {len(videos)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if isinstance(model, (str, os.PathLike)):
        source = find_source(model, "A VIDEORM", VIDEORM_FILES)
        model = load_model(source, device=device, dtype=dtype)
        processor = processor or AutoProcessor.from_pretrained(source)
    else:
        place(model, device, dtype)
    if processor is None:
        raise ValueError("processor must be given with a model that is not a path: AutoProcessor.from_pretrained(...)")
    frames_to_score(model.config, num_frames)
    num_workers = default_num_workers() if num_workers is None else num_workers
    if num_workers < 0:
        raise ValueError(f"num_workers must be at least 0, got {num_workers}")
    encoder = _Encoder(model.eval(), processor, batch_size, stats or ScoringStats())
    read = functools.partial(read_clip, processor.video_processor, num_frames)
    return _scores(encoder, read, videos, prompts, num_workers, timeout)


def load_model(
    model: str | os.PathLike[str],
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> VideoRMModel:
    """Load a VIDEORM for scoring; weights that are missing, unexpected or misshapen are a `ConversionError`.

    Args:
        model (`str` or `os.PathLike`): Folder or Hub id.
        device (`str` or `torch.device`, *optional*): The GPU if there is one by default.
        dtype (`str` or `torch.dtype`, *optional*): The checkpoint's precision by default.
    Returns:
        [`VideoRMModel`]: in evaluation mode.
    Raises:
        ValueError: If the folder holds another kind of model.
    """
    loaded = load_complete(AutoModel, model, dtype=dtype or "auto")
    if not isinstance(loaded, VideoRMModel):
        advice = "make a VIDEORM of it first: videorm convert"
        if isinstance(loaded, VideoRMBlipModel):
            advice = "order the videos of a prompt with it: videorm rank"
        raise ValueError(f"{model} holds a {type(loaded).__name__}; {advice}")
    place(loaded, device or ("cuda" if torch.cuda.is_available() else "cpu"), None)
    return loaded.eval()


def place(model: torch.nn.Module, device: str | torch.device | None, dtype: str | torch.dtype | None) -> None:
    """Move a model to a device and a dtype, where given.

    Args:
        model (`torch.nn.Module`): Changed in place.
        device (`str` or `torch.device`, *optional*): Where to.
        dtype (`str` or `torch.dtype`, *optional*): Such as `"bfloat16"`.
    """
    model.to(device=device, dtype=None if dtype is None else parse_dtype(dtype))


def read_clip(video_processor: Any, num_frames: int | None, video: Any) -> np.ndarray:
    """Sample, resize and pad one video; runs in the worker processes.

    Args:
        video_processor ([`VideoRMVideoProcessor`]): Of the model.
        num_frames (`int`, *optional*): Frames sampled; the processor's number by default.
        video (`Any`): What [`VideoRMVideoProcessor`] takes.
    Returns:
        `np.ndarray` of shape `(num_frames, 3, height, width)`: of files `uint8`.
    """
    batch = video_processor([video], num_frames=num_frames, do_rescale=False, do_normalize=False)
    frames: torch.Tensor = batch["pixel_values_videos"][0].detach().cpu()
    return (frames.float() if frames.is_floating_point() else frames).numpy()


class _Encoder:
    """The model's two towers with the time they take.

    Args:
        model ([`VideoRMModel`]): In evaluation mode.
        processor ([`VideoRMProcessor`]): Its processor.
        batch_size (`int`): Videos in one forward pass.
        stats ([`ScoringStats`]): Where times are added.
    """

    def __init__(self, model: VideoRMModel, processor: VideoRMProcessor, batch_size: int, stats: ScoringStats) -> None:
        self.model = model
        self.processor = processor
        self.batch_size = batch_size
        self.stats = stats

    @torch.no_grad()
    def encode_clips(self, clips: list[np.ndarray]) -> torch.Tensor:
        """Encode sampled and resized clips to `(B, D)` on the CPU."""
        start = time.perf_counter()
        inputs = self.processor.video_processor(
            [torch.from_numpy(clip) for clip in clips],
            do_sample_frames=False,
            do_resize=False,
            device=self.model.device,
        )
        embeds = self.model.get_video_embeds(inputs["pixel_values_videos"].to(self.model.dtype)).float().cpu()
        self.stats.model_s += time.perf_counter() - start
        return embeds

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> torch.Tensor:
        """Encode prompts to `(B, D)` on the CPU."""
        start = time.perf_counter()
        embeds = []
        for first in range(0, len(prompts), 64):
            tokens = self.processor(text=prompts[first : first + 64]).to(self.model.device)
            embeds.append(self.model.get_text_embeds(tokens["input_ids"], tokens["attention_mask"]).float().cpu())
        self.stats.model_s += time.perf_counter() - start
        return torch.cat(embeds)


def _scores(
    encoder: _Encoder, read: Any, videos: Sequence[Any], prompts: list[str], num_workers: int, timeout: float | None
) -> Iterator[VideoScore]:
    """Yield records in input order; embeddings are kept until their last row is out."""
    start = time.perf_counter()
    keys = [_key(video) for video in videos]
    uses, prompt_uses = Counter(keys), Counter(prompts)
    distinct = dict(zip(keys, videos, strict=True))
    order = list(dict.fromkeys(keys))
    ahead = 2 * encoder.batch_size + num_workers
    decoded = decode_ahead(read, (distinct[key] for key in order), min(num_workers, len(order)), timeout, ahead)

    results: dict[Any, torch.Tensor | VideoDecodingError] = {}
    prompt_embeds: dict[str, torch.Tensor] = {}
    position = 0
    for batch in _batches(zip(order, _timed(decoded, encoder.stats), strict=True), encoder.batch_size):
        results |= _encode_batch(encoder, batch)
        stop = position
        while stop < len(keys) and keys[stop] in results:
            stop += 1
        rows = range(position, stop)
        new = [prompt for prompt in dict.fromkeys(prompts[row] for row in rows) if prompt not in prompt_embeds]
        if new:
            prompt_embeds |= zip(new, encoder.encode_prompts(new), strict=True)
        for row in rows:
            encoder.stats.total_s = time.perf_counter() - start
            yield _record(videos[row], prompts[row], results[keys[row]], prompt_embeds[prompts[row]])
            uses.subtract([keys[row]])
            prompt_uses.subtract([prompts[row]])
            if not uses[keys[row]]:
                del results[keys[row]]
            if not prompt_uses[prompts[row]]:
                del prompt_embeds[prompts[row]]
        position = stop


def _key(video: Any) -> Any:
    """Return what tells equal videos: the path, or the object itself."""
    return os.fspath(video) if isinstance(video, (str, os.PathLike)) else id(video)


def _timed(decoded: Iterator[Decoded], stats: ScoringStats) -> Iterator[Decoded]:
    """Pass on decoded videos and add up the time spent waiting for them."""
    while True:
        start = time.perf_counter()
        result = next(decoded, None)
        stats.decode_wait_s += time.perf_counter() - start
        if result is None:
            return
        yield result


def _batches(decoded: Iterable[tuple[Any, Decoded]], batch_size: int) -> Iterator[list[tuple[Any, Decoded]]]:
    """Group results so that each group holds `batch_size` readable clips; unreadable ones ride along."""
    batch: list[tuple[Any, Decoded]] = []
    num_clips = 0
    for key, result in decoded:
        batch.append((key, result))
        num_clips += isinstance(result, np.ndarray)
        if num_clips == batch_size:
            yield batch
            batch, num_clips = [], 0
    if batch:
        yield batch


def _encode_batch(encoder: _Encoder, batch: list[tuple[Any, Decoded]]) -> dict[Any, torch.Tensor | VideoDecodingError]:
    results: dict[Any, Any] = dict(batch)
    clips = {key: clip for key, clip in batch if isinstance(clip, np.ndarray)}
    if clips:
        results |= zip(clips, encoder.encode_clips(list(clips.values())), strict=True)
    return results


def _record(video: Any, prompt: str, result: torch.Tensor | VideoDecodingError, text: torch.Tensor) -> VideoScore:
    if isinstance(result, VideoDecodingError):
        return VideoScore(video, prompt, None, result.reason, str(result))
    reward = float((result * text).sum())
    if not math.isfinite(reward):
        return VideoScore(video, prompt, None, "not_finite", "the model's reward is not a number; try another dtype")
    return VideoScore(video, prompt, reward)
