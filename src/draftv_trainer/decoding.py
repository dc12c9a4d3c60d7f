"""Decoding of what a reward reads, and no more, by the pipeline's own code, in little memory.

The pipeline decodes as it always does: its scaling of the latents, its noise, its postprocessing. Only the calls of
its VAE are made differently: one frame or one video at a time, each recomputed in the backward pass, and frames that
no reward reads are left out where the VAE treats frames one by one.

Layouts: frames_BTCHW has axes batch, time, channel, height, width; a per-frame VAE sees rows, batch times time.
"""

import copy
import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from draftv_trainer.checkpointing import checkpointed
from draftv_trainer.pipelines.specs import find_spec

# VIDEORM reads 8 frames of a clip (Wu et al. 2024, Sec. 4).
REWARD_NUM_FRAMES = 8


def spread_indices(time: int, num_frames: int | None) -> list[int]:
    """Choose frames spread over a clip: the middles of equal parts.

    Args:
        time (`int`):
            Number of frames of the clip.
        num_frames (`int`, *optional*):
            How many to choose; by default 8, or all of a shorter clip.

    Returns:
        `list[int]`: ascending indices.

    Raises:
        ValueError: If the clip has fewer frames than asked for.
    """
    chosen = min(REWARD_NUM_FRAMES, time) if num_frames is None else num_frames
    if chosen > time:
        raise ValueError(f"reward_num_frames must be at most the number of frames: got {chosen} of {time}.")
    return [(2 * part + 1) * time // (2 * chosen) for part in range(chosen)]


def spread_frames(frames_BTCHW: torch.Tensor, num_frames: int | None) -> torch.Tensor:
    """Pick the frames of [`spread_indices`].

    Args:
        frames_BTCHW (`torch.Tensor` of shape `(batch_size, time, 3, height, width)`):
            Clips.
        num_frames (`int`, *optional*):
            How many to pick; by default 8, or all of a shorter clip.

    Returns:
        `torch.Tensor` of shape `(batch_size, num_frames, 3, height, width)`: a clip that has fewer frames is a
        `ValueError`.
    """
    indices = spread_indices(frames_BTCHW.shape[1], num_frames)
    return frames_BTCHW if len(indices) == frames_BTCHW.shape[1] else frames_BTCHW[:, indices]


def clip_length(pipe: DiffusionPipeline, pipeline_kwargs: Mapping[str, Any]) -> int | None:
    """Tell how many frames a call of the pipeline makes, before it is called.

    Args:
        pipe (`DiffusionPipeline`):
            The pipeline.
        pipeline_kwargs (`dict[str, Any]`):
            Arguments of its call.

    Returns:
        `int` or `None`: None where neither the arguments nor the signature of the call say it.
    """
    name = find_spec(pipe).frames_argument
    parameter = inspect.signature(inspect.unwrap(type(pipe).__call__)).parameters.get(name)
    default = pipeline_kwargs.get(name, parameter.default if parameter is not None else None)
    num_frames = pipeline_kwargs.get("num_frames", default)
    return num_frames if isinstance(num_frames, int) else None


@contextmanager
def reward_decoding(
    pipe: DiffusionPipeline,
    num_frames: int | None = None,
    wanted: Collection[int] | None = None,
    *,
    checkpointing: bool = True,
    tiling: bool = False,
) -> Iterator[None]:
    """Let calls of the pipeline decode only what is wanted, in little memory.

    Within the context the pipeline works with a shallow copy of its VAE (the weights are shared). A per-frame VAE then
    decodes only the wanted frames; the others are NaN, so that a reward that reads one by mistake is found out. A
    video VAE decodes every frame, for they depend on each other. A pipeline without a component called `vae` decodes
    as it likes. Frames equal the pipeline's own exactly, or to rounding (5e-6) where it decodes a batch at once.

    Args:
        pipe (`DiffusionPipeline`):
            The pipeline.
        num_frames (`int`, *optional*):
            Number of frames of a clip; by default unknown, and everything is decoded.
        wanted (`Collection[int]`, *optional*):
            Indices of the frames to decode; by default all.
        checkpointing (`bool`, defaults to `True`):
            Decode one frame (or one video) at a time and compute it again in the backward pass: a video block by
            block, or latent frame by latent frame, whichever its VAE can. Otherwise every activation is kept.
        tiling (`bool`, defaults to `False`):
            Decode in overlapping tiles, which changes frames slightly. A VAE that cannot is a `ValueError`.
    """
    vae = pipe.components.get("vae")
    if vae is None:
        yield
        return
    watched = copy.copy(vae)
    if tiling:
        _enable_tiling(watched)
    if checkpointing and not vae._supports_gradient_checkpointing:
        _checkpoint_decoder_calls(watched)
    wanted_rows = _WantedRows(num_frames, None if num_frames is None or wanted is None else frozenset(wanted))
    watched.decode = _reward_decode(vae, watched.decode, wanted_rows, checkpointing)
    pipe.vae = watched
    try:
        yield
        wanted_rows.check_whole_clips(type(pipe).__name__)
    finally:
        pipe.vae = vae


def _enable_tiling(vae: Any) -> None:
    """Switch tiles on, or say that this VAE has none."""
    try:
        vae.enable_tiling()
    except (AttributeError, NotImplementedError) as error:
        raise ValueError(f"{type(vae).__name__} cannot decode in tiles: set vae_tiling=False.") from error


def _checkpoint_decoder_calls(vae: Any) -> None:
    """Compute each call of the VAE's decoder again in the backward pass, on this copy of the VAE only.

    Such as Wan's, which decodes latent frame by latent frame. The calls hand features on through lists that they
    change: each call gets lists of its own, so that its repetition starts from the same features.
    """
    decoder = vae._modules.get("decoder")
    if decoder is None:
        return
    forward = decoder.forward

    @functools.wraps(forward)
    def checkpointed_forward(*args: Any, **kwargs: Any) -> Any:
        lists = {name: value for name, value in kwargs.items() if isinstance(value, list)}
        others = {name: value for name, value in kwargs.items() if name not in lists}

        def call(*args: Any, **before: list[Any]) -> tuple[Any, dict[str, list[Any]]]:
            after = {name: list(value) for name, value in before.items()}
            return forward(*args, **others, **after), after

        output, after = checkpointed(call, args, {name: list(value) for name, value in lists.items()})
        for name, value in lists.items():
            value[:] = after[name]
        return output

    own_decoder = copy.copy(decoder)
    own_decoder.forward = checkpointed_forward
    vae._modules = {**vae._modules, "decoder": own_decoder}


@dataclass
class _WantedRows:
    """Which rows (frames of all clips, one after another) a per-frame VAE must decode, over several calls."""

    num_frames: int | None
    wanted: frozenset[int] | None
    num_seen: int = 0

    def next(self, num_rows: int) -> list[int]:
        """Return the wanted ones of the next rows, at least one, for the shape of the others."""
        first, self.num_seen = self.num_seen, self.num_seen + num_rows
        if self.num_frames is None or self.wanted is None:
            return list(range(num_rows))
        return [row for row in range(num_rows) if (first + row) % self.num_frames in self.wanted] or [0]

    def check_whole_clips(self, pipeline_name: str) -> None:
        """Raise when the rows were not whole clips, for then the wrong frames were decoded."""
        if self.num_frames is not None and self.num_seen % self.num_frames:
            raise RuntimeError(
                f"{pipeline_name} decoded {self.num_seen} images where clips of {self.num_frames} frames were "
                "expected: set reward_num_frames to the number of frames."
            )


def _reward_decode(
    vae: Any, decode: Callable[..., Any], wanted_rows: _WantedRows, checkpointing: bool
) -> Callable[..., Any]:
    """Wrap `decode` of a VAE; pipelines pass it the latents first."""

    @functools.wraps(decode)
    def reward_decode(latents: torch.Tensor, *args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
        # With `num_frames` among its arguments an image VAE mixes the frames, so that none may be missing.
        if latents.ndim == 4 and "num_frames" not in kwargs:
            rows = wanted_rows.next(len(latents))
            frames = _decode_rows(functools.partial(decode, **kwargs), latents, args, rows, checkpointing)
        else:
            frames = _decode_videos(vae, functools.partial(decode, **kwargs), latents, args, checkpointing)
        if torch.is_grad_enabled() and latents.requires_grad and not frames.requires_grad:
            raise RuntimeError(
                f"The VAE {type(vae).__name__} cuts the graph: its latents carry one, its frames do not. Rewards "
                "cannot be backpropagated through it: use a VAE whose decode() builds a graph."
            )
        return DecoderOutput(sample=frames) if return_dict else (frames,)

    return reward_decode


def _decode_rows(
    decode: Callable[..., Any], latents: torch.Tensor, args: tuple[Any, ...], rows: list[int], checkpointing: bool
) -> torch.Tensor:
    """Decode these rows of latents (N, C, H, W); the others are NaN."""
    if checkpointing:
        decoded = torch.cat([_checkpointed(decode, latents[row : row + 1], args) for row in rows])
    else:
        decoded = decode(latents[rows], *args, return_dict=False)[0]
    if len(rows) == len(latents):
        return decoded
    frames = decoded.new_full((len(latents), *decoded.shape[1:]), torch.nan)
    return frames.index_copy(0, torch.tensor(rows, device=decoded.device), decoded)


def _decode_videos(
    vae: Any, decode: Callable[..., Any], latents: torch.Tensor, args: tuple[Any, ...], checkpointing: bool
) -> torch.Tensor:
    """Decode whole videos, under checkpointing one by one."""
    if not checkpointing:
        return decode(latents, *args, return_dict=False)[0]
    if vae._supports_gradient_checkpointing:
        # It stays on: the backward pass, long after this call, must find it as the forward pass did.
        vae.enable_gradient_checkpointing()
    # Latents without an axis of time are frames that their VAE mixes: they stay together.
    num_videos = len(latents) if latents.ndim == 5 else 1
    if num_videos == 1:
        return _checkpointed(decode, latents, args)
    videos = []
    for index in range(num_videos):
        part = slice(index, index + 1)
        # Such as the timestep of a decoder that takes one, which has an entry for each video.
        of_video = [
            arg[part] if isinstance(arg, torch.Tensor) and arg.shape[:1] == (num_videos,) else arg for arg in args
        ]
        videos.append(_checkpointed(decode, latents[part], of_video))
    return torch.cat(videos)


def _checkpointed(decode: Callable[..., Any], latents: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    """Decode, keeping the latents only and computing the rest again in the backward pass."""
    return checkpointed(decode, (latents, *args), {"return_dict": False})[0]
