"""Videos to scores of any reward: decoded ahead in worker processes, batched, each one computed once and kept."""

import functools
import hashlib
import inspect
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from videorm_hf.evaluation.score_store import Score, ScoreKey, ScoreStore
from videorm_hf.evaluation.variants import ORIGINAL, read_variant
from videorm_hf.models.videorm.video_decoding_videorm import VideoDecodingError
from videorm_hf.rewards import REWARDS, FunctionReward, Reward, VideoRMBlipReward, VideoRMReward
from videorm_hf.scoring.decode_pool import decode_ahead, default_num_workers
from videorm_hf.scoring.journal import weights_fingerprint

_DEFAULT_NUM_FRAMES = 8


class VideoRequest(NamedTuple):
    """A score that is wanted.

    Args:
        video (`str`, *optional*): A file; `None` where the labels do not name one, which is a failure.
        prompt (`str`): The prompt.
        variant (`str`): `"original"`, or how the video is altered before it is scored; see `variants.py`.
    """

    video: str | None
    prompt: str
    variant: str = ORIGINAL


@dataclass(frozen=True)
class Failure:
    """Why there is no score.

    Args:
        reason (`str`): One of `DecodingFailure`, or `"not_finite"`.
        message (`str`): What was found, for a person.
    """

    reason: str
    message: str


@dataclass(frozen=True)
class VideoScores:
    """What came of a list of requests.

    Args:
        rewards (`dict[VideoRequest, float]`): Of those that could be scored.
        seconds (`dict[VideoRequest, float]`): The share of each in its forward pass.
        failures (`dict[VideoRequest, Failure]`): Why the others could not.
    """

    rewards: dict[VideoRequest, float]
    seconds: dict[VideoRequest, float]
    failures: dict[VideoRequest, Failure]


@dataclass(frozen=True)
class ScoringSettings:
    """How videos are scored.

    Args:
        num_frames (`int`, *optional*): Frames sampled from each video, uniformly by time. By default as many as a
            VIDEORM looks at, and 8 for other rewards, which is the paper's number.
        batch_size (`int`, defaults to 8): Videos in one call of the reward; those of one size go together.
        num_workers (`int`, *optional*): Decoding processes; 0 decodes in this one. By default all cores but one.
        timeout (`float`, *optional*, defaults to 120): Seconds that decoding one video may take in a process.
        device (`str`, *optional*): Where the reward runs; the GPU if there is one by default.
        progress (`bool`, defaults to `True`): Show progress bars.

    Raises:
        ValueError: If a number is out of range.
    """

    num_frames: int | None = None
    batch_size: int = 8
    num_workers: int | None = None
    timeout: float | None = 120.0
    device: str | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        for name, least in (("num_frames", 1), ("batch_size", 1), ("num_workers", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}.")


def frames_for(reward: Reward, num_frames: int | None = None) -> int:
    """Return how many frames a reward is given.

    Args:
        reward ([`Reward`]): The reward.
        num_frames (`int`, *optional*): What was asked for; see [`ScoringSettings`].

    Returns:
        `int`: the number.

    Raises:
        ValueError: If the reward looks at more frames than were asked for.
    """
    looks_at = reward.num_frames if isinstance(reward, (VideoRMReward, VideoRMBlipReward)) else None
    if num_frames is None:
        return looks_at or _DEFAULT_NUM_FRAMES
    if looks_at is not None and looks_at > num_frames:
        raise ValueError(f"The VIDEORM looks at {looks_at} frames and would be given num_frames={num_frames}.")
    return num_frames


def reward_settings(reward: Reward, spec: str, num_frames: int) -> dict[str, Any]:
    """Return what two scores must share to be comparable; a [`ScoreStore`] refuses any other.

    Args:
        reward ([`Reward`]): The reward.
        spec (`str`): What it was loaded from.
        num_frames (`int`): Frames sampled from each video.

    Returns:
        `dict`: JSON values: the reward, hashes of its weights and configuration, its precision, the frames.
    """
    kind, colon, source = spec.rpartition(":")
    if os.path.exists(source):
        spec = f"{kind}{colon}{os.path.abspath(source)}"
    parts = [module.config.to_json_string() for module in reward.modules() if isinstance(module, PreTrainedModel)]
    if isinstance(reward, (VideoRMReward, VideoRMBlipReward)):
        parts += [reward.processor.video_processor.to_json_string(), str(reward.num_frames)]
    parts += _own_code(reward, kind)
    return {
        "reward": spec,
        "class": type(reward).__name__,
        "weights": weights_fingerprint(reward),
        "configuration": hashlib.sha256("\n".join(parts).encode()).hexdigest(),
        "dtype": sorted({str(parameter.dtype).removeprefix("torch.") for parameter in reward.parameters()}),
        "num_frames": num_frames,
    }


def _own_code(reward: Reward, module_name: str) -> list[str]:
    """Return the files that a user's own reward is written in, for it has no weights to be told by.

    A mixture or a function of one's own may be an object of this package, made in a module of one's own.
    """
    code = reward.function if isinstance(reward, FunctionReward) else type(reward)
    modules = {inspect.getmodule(code), None if module_name in REWARDS else sys.modules.get(module_name)}
    own = {module.__name__: module for module in modules if module and not module.__name__.startswith("videorm_hf.")}
    sources = []
    for name in sorted(own):
        try:
            sources.append(inspect.getsource(own[name]))
        except (OSError, TypeError):  # typed into an interpreter: there is no file
            continue
    return sources


def score_requests(
    reward: Reward, requests: Sequence[VideoRequest], store: ScoreStore, settings: ScoringSettings
) -> VideoScores:
    """Score videos for prompts; what the store holds already is not computed again.

    A video that cannot be read is a failure with a reason, and the others are scored all the same. Failures are not
    kept: the next run tries again.

    Args:
        reward ([`Reward`]): Moved to the device.
        requests (`Sequence[VideoRequest]`): What is to be scored; repetitions are scored once.
        store ([`ScoreStore`]): Where scores are kept.
        settings ([`ScoringSettings`]): How to score.

    Returns:
        [`VideoScores`]
    """
    reward.eval().to(settings.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    requests = list(dict.fromkeys(requests))
    hashes, failures = _hash_videos([request.video for request in requests], settings.progress)
    keys = {r: ScoreKey(hashes[r.video], r.prompt, r.variant) for r in requests if r.video in hashes}
    wanted: dict[tuple[str, str], list[ScoreKey]] = {}  # (video, variant) to the prompts that it is scored for
    paths: dict[tuple[str, str], str] = {}
    for request, key in keys.items():
        if key not in store.scores:
            wanted.setdefault((key.video, key.variant), []).append(key)
            paths.setdefault((key.video, key.variant), os.fspath(request.video or ""))
    unreadable: dict[ScoreKey, Failure] = {}
    read = functools.partial(read_variant, frames_for(reward, settings.num_frames))
    for batch in _clip_batches(read, paths, wanted, unreadable, settings):
        store.add(_score_batch(reward, batch, unreadable))
    scored = {request: store.scores[key] for request, key in keys.items() if key in store.scores}
    return VideoScores(
        rewards={request: score.reward for request, score in scored.items()},
        seconds={request: score.seconds for request, score in scored.items()},
        failures={request: failures[request.video] for request in requests if request.video in failures}
        | {request: unreadable[key] for request, key in keys.items() if key in unreadable},
    )


def _hash_videos(
    videos: Iterable[str | None], progress: bool
) -> tuple[dict[str | None, str], dict[str | None, Failure]]:
    hashes: dict[str | None, str] = {}
    failures: dict[str | None, Failure] = {}
    for video in tqdm(list(dict.fromkeys(videos)), desc="reading", unit="video", disable=not progress, leave=False):
        if video is None:
            failures[video] = Failure("missing", "the labels name no file")
            continue
        try:
            with open(video, "rb") as file:
                digest = hashlib.sha256()
                while block := file.read(2**20):
                    digest.update(block)
                hashes[video] = digest.hexdigest()
        except FileNotFoundError:
            failures[video] = Failure("missing", f"there is no file {video}")
        except OSError as error:
            failures[video] = Failure("unreadable", f"{video}: {error}")
    return hashes, failures


def _clip_batches(
    read: Callable[[Any], np.ndarray],
    paths: dict[tuple[str, str], str],
    wanted: dict[tuple[str, str], list[ScoreKey]],
    unreadable: dict[ScoreKey, Failure],
    settings: ScoringSettings,
) -> Iterator[list[tuple[ScoreKey, np.ndarray]]]:
    """Decode each (video, variant) once and yield batches of (key, frames) whose frames have one shape."""
    workers = default_num_workers() if settings.num_workers is None else settings.num_workers
    sources = [(path, variant) for (_, variant), path in paths.items()]
    ahead = 2 * settings.batch_size + workers
    decoded = decode_ahead(read, sources, min(workers, len(sources)), settings.timeout, ahead)
    waiting: dict[tuple[int, ...], list[tuple[ScoreKey, np.ndarray]]] = {}
    bar = tqdm(decoded, total=len(sources), desc="scoring", unit="video", disable=not settings.progress or not sources)
    for source, frames in zip(paths, bar, strict=True):
        if isinstance(frames, VideoDecodingError):
            unreadable |= dict.fromkeys(wanted[source], Failure(frames.reason, str(frames)))
            continue
        batch = waiting.setdefault(frames.shape, [])
        for key in wanted[source]:
            batch.append((key, frames))
            if len(batch) == settings.batch_size:
                yield waiting.pop(frames.shape)
                batch = waiting.setdefault(frames.shape, [])
        if sum(map(len, waiting.values())) > 4 * settings.batch_size:  # many sizes: do not let frames pile up
            yield waiting.pop(max(waiting, key=lambda shape: len(waiting[shape])))
    yield from (batch for batch in waiting.values() if batch)


@torch.no_grad()
def _score_batch(
    reward: Reward, batch: list[tuple[ScoreKey, np.ndarray]], unreadable: dict[ScoreKey, Failure]
) -> Iterator[tuple[ScoreKey, Score]]:
    start = time.perf_counter()
    device = next(reward.parameters(), torch.empty(0)).device
    frames_BTHWC = torch.from_numpy(np.stack([frames for _, frames in batch])).to(device)
    frames_BTCHW = frames_BTHWC.permute(0, 1, 4, 2, 3).float() / 255
    rewards = reward(frames_BTCHW, [key.prompt for key, _ in batch]).float().tolist()
    seconds = (time.perf_counter() - start) / len(batch)
    for (key, _), value in zip(batch, rewards, strict=True):
        if math.isfinite(value):
            yield key, Score(value, seconds)
        else:
            unreadable[key] = Failure("not_finite", f"the reward is {value}; try another dtype")
