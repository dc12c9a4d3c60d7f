"""VideoRMVideoProcessor: clips in any form to normalised frames, with gradients where the input has them.

Preprocessing is HPS v2's (Wu et al. 2023, `ResizeMaxSize` of open_clip): longest side to 224, bicubic with antialias,
zero padding to a square, CLIP's mean and standard deviation. Frames are sampled uniformly by time
(video_decoding_videorm.py).
"""

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import PIL.Image
import torch
from torchvision.transforms.v2 import functional as tvF
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, PILImageResampling, SizeDict
from transformers.processing_utils import Unpack, VideosKwargs
from transformers.utils import TensorType
from transformers.video_processing_utils import BaseVideoProcessor

from .video_decoding_videorm import read_frames, uniform_indices

Size: TypeAlias = dict[str, int] | SizeDict
# What one call may set; all but the last three are settings of the processor, too.
_CALL_SETTINGS = (
    "num_frames",
    "do_sample_frames",
    "do_resize",
    "size",
    "do_pad",
    "pad_size",
    "do_rescale",
    "do_normalize",
    "image_mean",
    "image_std",
    "input_data_format",
    "device",
    "return_tensors",
)


class VideoRMVideoProcessorKwargs(VideosKwargs, total=False):  # type: ignore[call-arg]
    """Arguments of [`VideoRMVideoProcessor`] beyond those of every video processor.

    Args:
        pad_size (`dict[str, int]`):
            Height and width of the square that clips are padded to.
    """

    pad_size: dict[str, int] | None


class VideoRMVideoProcessor(BaseVideoProcessor):
    """Turn clips into `pixel_values_videos` of shape `(batch_size, num_frames, 3, 224, 224)`.

    A clip is a file path, encoded bytes, a value of a `datasets` `Video` column (decoded or not), an array or tensor
    `(T, H, W, C)` or `(T, C, H, W)`, or a list of PIL images or of single-frame arrays. Integer values are 0-255,
    floating ones [0, 1]. A list of clips, or an array `(B, T, ...)`, is a batch. Tensors stay on their device and keep
    their gradients.

    Args:
        num_frames (`int`, defaults to 8):
            Frames sampled from each clip, uniformly by time.
        size (`dict[str, int]`, *optional*):
            `longest_edge`, the length of the longest side after resizing. Defaults to 224.
        pad_size (`dict[str, int]`, *optional*):
            `height` and `width` that clips are padded to with black, evenly on both sides. Defaults to 224 and 224.

    Example:

    ```python
    >>> from videorm_hf import VideoRMVideoProcessor

    >>> processor = VideoRMVideoProcessor()
    >>> processor(["a.mp4", "b.gif"])["pixel_values_videos"].shape
    torch.Size([2, 8, 3, 224, 224])
    ```
    """

    resample = PILImageResampling.BICUBIC
    size = {"longest_edge": 224}
    default_to_square = False
    pad_size = {"height": 224, "width": 224}
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    do_resize = True
    do_pad = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    do_sample_frames = True
    num_frames = 8
    valid_kwargs = VideoRMVideoProcessorKwargs
    model_input_names = ["pixel_values_videos", "frame_mask"]

    def preprocess(self, videos: Any, **kwargs: Unpack[VideoRMVideoProcessorKwargs]) -> BatchFeature:
        """Sample, resize, pad and normalise clips; what is not given is taken from the processor.

        Args:
            videos:
                One clip or a batch; the class docstring lists the forms.
            **kwargs:
                Settings of this call:

                - `num_frames` (`int`): frames to sample from each clip; frames of a shorter clip are repeated.
                - `do_sample_frames` (`bool`): with `False`, all frames of clips that are decoded already are kept, and
                  shorter clips are padded.
                - `do_resize` (`bool`): resize to `size` and pad to `pad_size`. With `False`, frames must have one size
                  already.
                - `size` (`dict[str, int]`): `longest_edge` after resizing.
                - `do_pad` (`bool`): with `False`, resized frames keep their shape.
                - `pad_size` (`dict[str, int]`): `height` and `width` after padding.
                - `do_rescale` (`bool`): divide integer frames by 255. With `False` and `do_normalize=False` they stay
                  `uint8`.
                - `do_normalize` (`bool`): subtract `image_mean` and divide by `image_std`.
                - `image_mean`, `image_std` (`list[float]`): one value for each channel.
                - `input_data_format` (`"channels_first"` or `"channels_last"`): layout of arrays, where it cannot be
                  told from their shape.
                - `device` (`str` or `torch.device`): where to resize and normalise; by default where the frames are.
                - `return_tensors` (`str`): `"pt"`, the default, or `"np"`.

        Returns:
            `BatchFeature` with `pixel_values_videos` of shape `(batch_size, num_frames, 3, height, width)` and, only
            where clips of different lengths were padded, `frame_mask` (`bool`, `(batch_size, num_frames)`), true for
            real frames.

        A file that cannot be read is a `VideoDecodingError`, whose `.reason` names why; an input of no known form, or
        an argument of no known name, is a `TypeError`.

        Raises:
            ValueError: If settings contradict each other, or frames have an impossible shape or range.
        """
        if unknown := sorted(kwargs.keys() - set(_CALL_SETTINGS)):
            raise TypeError(f"Of a call's settings {unknown} are not known: expected some of {list(_CALL_SETTINGS)}.")
        given = {name: value for name, value in kwargs.items() if value is not None}
        settings: dict[str, Any] = {name: getattr(self, name, None) for name in _CALL_SETTINGS} | given
        num_frames, do_rescale, do_normalize = (settings[n] for n in ("num_frames", "do_rescale", "do_normalize"))
        if num_frames < 1:
            raise ValueError(f"num_frames must be at least 1, got {num_frames}.")
        if do_normalize and not do_rescale:
            raise ValueError("do_normalize=True needs do_rescale=True: mean and deviation are those of [0, 1] values.")

        num_sampled = num_frames if settings["do_sample_frames"] else None
        clips = [_to_frames(video, num_sampled, settings["input_data_format"]) for video in _as_batch(videos)]
        if settings["device"] is not None:
            clips = [clip.to(settings["device"]) for clip in clips]
        if settings["do_resize"]:
            pad_size = settings["pad_size"] if settings["do_pad"] else None
            clips = [self._resize_and_pad(clip, settings["size"], pad_size) for clip in clips]
        if do_rescale:
            # Clip by clip: a batch may mix integers and floating values.
            clips = [clip if clip.is_floating_point() else clip.float() * self.rescale_factor for clip in clips]
            if len({clip.dtype for clip in clips}) > 1:
                clips = [clip.float() for clip in clips]
        batch, frame_mask = _stack(clips)
        if do_normalize:
            batch = tvF.normalize(batch, settings["image_mean"], settings["image_std"])
        data = {"pixel_values_videos": batch}
        if frame_mask is not None:
            data["frame_mask"] = frame_mask
        return BatchFeature(data=data, tensor_type=settings["return_tensors"] or TensorType.PYTORCH)

    def _resize_and_pad(self, frames: torch.Tensor, size: Size, pad_size: Size | None) -> torch.Tensor:
        """Bring frames `(T, 3, H, W)` to the target size undistorted, padded unless `pad_size` is `None`."""
        height, width = frames.shape[-2:]
        scale = edge_length(size, "longest_edge") / max(height, width)
        if scale != 1:
            target = (max(1, round(height * scale)), max(1, round(width * scale)))
            if frames.is_floating_point():
                # Bicubic overshoots. Eight-bit images saturate after each direction, so floating ones must too.
                frames = _resize(_resize(frames, (height, target[1])).clamp(0, 1), target).clamp(0, 1)
            else:
                frames = _resize(frames, target)
        if pad_size is None:
            return frames
        extra_height = pad_size["height"] - frames.shape[-2]
        extra_width = pad_size["width"] - frames.shape[-1]
        if extra_height < 0 or extra_width < 0:
            raise ValueError(f"pad_size must hold frames resized to {size}: got {pad_size}.")
        left, top = extra_width // 2, extra_height // 2
        return tvF.pad(frames, [left, top, extra_width - left, extra_height - top])


def edge_length(size: Size, edge: str) -> int:
    """Read the one length of a size that a video processor goes by.

    Args:
        size (`dict[str, int]`): Such as `{"longest_edge": 224}`.
        edge (`str`): The length's name.

    Returns:
        `int`: the length in pixels.

    Raises:
        ValueError: If it is a size of another kind.
    """
    if not isinstance(size, (dict, SizeDict)) or edge not in size:
        raise ValueError(f"size must be such as {{{edge!r}: 224}}, got {size}.")
    return size[edge]


def _resize(frames: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize frames `(T, 3, H, W)` as Pillow does."""
    return tvF.resize(frames, list(size), interpolation=tvF.InterpolationMode.BICUBIC, antialias=True)


def _as_batch(videos: Any) -> list[Any]:
    """Tell one clip from a batch of clips."""
    if isinstance(videos, (np.ndarray, torch.Tensor)):
        if videos.ndim not in (4, 5):
            raise ValueError(
                "An array of frames must have 4 dimensions (one clip) or 5 (a batch of clips), got "
                f"{tuple(videos.shape)}. A single image is a clip of one frame: add a leading dimension."
            )
        return list(videos) if videos.ndim == 5 else [videos]
    if isinstance(videos, Sequence) and not isinstance(videos, (str, bytes)):
        if len(videos) == 0:
            raise ValueError("Expected at least one clip, got an empty list.")
        return [videos] if _is_single_frame(videos[0]) else list(videos)
    return [videos]


def _is_single_frame(value: Any) -> bool:
    """Tell whether a list item is a frame, so that the list is a clip."""
    return isinstance(value, PIL.Image.Image) or (
        isinstance(value, (np.ndarray, torch.Tensor)) and value.ndim in (2, 3)
    )


def _to_frames(video: Any, num_frames: int | None, data_format: str | None) -> torch.Tensor:
    """Read one clip, in any form, as RGB frames `(T, 3, H, W)`: `num_frames` of them, or all with `None`."""
    if type(video).__name__ == "VideoDecoder":  # torchcodec's, a decoded value of a `datasets` Video column
        video = _source_of_decoder(video) or _frames_of_decoder(video, num_frames)
    if isinstance(video, dict):
        video = video["bytes"] if video.get("bytes") is not None else video["path"]
    if isinstance(video, (str, os.PathLike, bytes)):
        if num_frames is None:
            raise ValueError("do_sample_frames=False needs clips that are decoded already, got a file.")
        return torch.from_numpy(read_frames(video, num_frames).frames).permute(0, 3, 1, 2)
    if isinstance(video, Sequence) and not isinstance(video, (str, bytes)):
        video = _stack_frames(video)
    if isinstance(video, np.ndarray):
        video = torch.from_numpy(np.ascontiguousarray(video))
        data_format = data_format or _infer_data_format(video, prefer="channels_last")
    if not isinstance(video, torch.Tensor):
        raise TypeError(
            "Expected a path, bytes, a datasets Video value, an array, a tensor or PIL frames, got "
            f"{type(video).__name__}."
        )
    frames = _to_rgb(_channels_first(video, data_format))
    if num_frames is not None and len(frames) != num_frames:
        frames = frames[torch.from_numpy(uniform_indices(len(frames), num_frames)).to(frames.device)]
    return frames


def _source_of_decoder(decoder: Any) -> dict[str, Any] | None:
    """Give the local source that `datasets` keeps with a decoder, so that it scores exactly as its file does."""
    source = vars(decoder).get("_hf_encoded") or {}
    is_local = source.get("bytes") is not None or os.path.exists(source.get("path") or "")
    return source if is_local else None


def _frames_of_decoder(decoder: Any, num_frames: int | None) -> torch.Tensor:
    """Read frames uniformly by time from a torchcodec decoder of a remote file, or all of them."""
    if num_frames is None:
        return decoder.get_frames_in_range(0, len(decoder)).data
    start, end = decoder.metadata.begin_stream_seconds, decoder.metadata.end_stream_seconds
    # A hair late: a middle that falls on the start of a frame shows that frame, whatever the rounding.
    middles = (np.arange(num_frames) + 0.5 + 1e-4) / num_frames
    return decoder.get_frames_played_at((start + middles * (end - start)).tolist()).data


def _stack_frames(images: Sequence[Any]) -> np.ndarray | torch.Tensor:
    """Stack single frames of one size into a clip."""
    if all(isinstance(image, torch.Tensor) for image in images):
        return torch.stack(list(images))
    has_alpha = any(isinstance(image, PIL.Image.Image) and image.has_transparency_data for image in images)
    mode = "RGBA" if has_alpha else "RGB"
    arrays = [np.asarray(image.convert(mode) if isinstance(image, PIL.Image.Image) else image) for image in images]
    if len({array.shape for array in arrays}) > 1:
        raise ValueError(f"All frames of a clip must have one size, got {sorted({array.shape for array in arrays})}.")
    return np.stack(arrays)


def _infer_data_format(frames: torch.Tensor, prefer: str) -> str:
    """Tell `(T, C, H, W)` from `(T, H, W, C)`; a shape that fits both is read as is usual for its type."""
    first, last = frames.shape[1] in (1, 3, 4), frames.shape[-1] in (1, 3, 4)
    if first and last:
        return prefer
    if not first and not last:
        raise ValueError(
            f"A clip must be (T, C, H, W) or (T, H, W, C) with 1, 3 or 4 channels, got {tuple(frames.shape)}."
        )
    return "channels_first" if first else "channels_last"


def _channels_first(frames: torch.Tensor, data_format: str | None) -> torch.Tensor:
    """Check shape and range; bring frames to `(T, C, H, W)`, integers as `uint8`."""
    if frames.ndim != 4 or 0 in frames.shape:
        raise ValueError(f"A clip must have 4 dimensions, none of them empty, got {tuple(frames.shape)}.")
    data_format = data_format or _infer_data_format(frames, prefer="channels_first")
    if data_format == "channels_last":
        frames = frames.permute(0, 3, 1, 2)
    # An image model's output overshoots by rounding; anything further is another range.
    tolerance = 1e-2 if frames.is_floating_point() else 0
    low, high = frames.detach().amin().item(), frames.detach().amax().item()
    limit = 1 if frames.is_floating_point() else 255
    if not (low >= -tolerance and high <= limit + tolerance):
        kind = "Floating-point frames must lie in [0, 1]" if limit == 1 else "Integer frames must lie in 0-255"
        raise ValueError(f"{kind}, got values from {low:g} to {high:g}.")
    return frames if frames.is_floating_point() else frames.to(torch.uint8)


def _to_rgb(frames: torch.Tensor) -> torch.Tensor:
    """Repeat grey frames, lay transparent ones on white as transformers does."""
    if frames.shape[1] == 1:
        return frames.expand(-1, 3, -1, -1)
    if frames.shape[1] == 4:
        scale = 1 if frames.is_floating_point() else 255
        rgb, alpha = frames[:, :3].float(), frames[:, 3:].float() / scale
        rgb = rgb * alpha + scale * (1 - alpha)
        return rgb.to(frames.dtype) if frames.is_floating_point() else rgb.round().to(torch.uint8)
    return frames


def _stack(clips: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Batch clips, padding shorter ones with black frames at the end; the mask is true for real frames."""
    sizes = {tuple(clip.shape[1:]) for clip in clips}
    if len(sizes) > 1:
        raise ValueError(f"Clips of one batch must have one size when they are not resized, got {sorted(sizes)}.")
    if len({clip.dtype for clip in clips}) > 1:
        raise ValueError("Integer and floating-point clips share a batch only with do_rescale=True.")
    lengths = [len(clip) for clip in clips]
    longest = max(lengths)
    if min(lengths) == longest:
        return torch.stack(clips), None
    padded = [torch.nn.functional.pad(clip, (0, 0, 0, 0, 0, 0, 0, longest - len(clip))) for clip in clips]
    frame_mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return torch.stack(padded), frame_mask.to(padded[0].device)


__all__ = ["VideoRMVideoProcessor"]
