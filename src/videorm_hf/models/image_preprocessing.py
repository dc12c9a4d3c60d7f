"""Frames to a model's square input, with gradients: the two ways in which image rewards fit an image.

`resize_and_crop` is CLIP's (short side to the model's, bicubic, centre crop), on images of eight bits;
`resize_and_pad` is HPS v2's (long side, bicubic, black borders), on floating-point images. Sources:
`torchvision.transforms.Resize` and `CenterCrop` as open_clip, CLIP and ImageReward use them; `CLIPImageProcessor` of
transformers; `ResizeMaxSize` of the `hpsv2` package.
"""

import torch
from torchvision.transforms.v2 import functional as tvF


def resize_and_crop(images: torch.Tensor, side: int, floor_offset: bool = False) -> torch.Tensor:
    """Bring the short side to `side` and cut out the middle.

    Args:
        images (`torch.Tensor` of shape `(num_images, 3, height, width)`):
            Floating-point in [0, 1], or `uint8`. Gradients flow through.
        side (`int`):
            Height and width of the result.
        floor_offset (`bool`, defaults to `False`):
            Where an odd number of pixels is cut off, transformers rounds the offset of the crop down and torchvision
            rounds a half to the even number.

    Returns:
        `torch.Tensor` of shape `(num_images, 3, side, side)`.
    """
    height, width = images.shape[-2:]
    short, long = min(height, width), max(height, width)
    if short != side:
        other = int(side * long / short)
        images = _resize_saturating(images, (side, other) if height <= width else (other, side))
    if not floor_offset:
        return tvF.center_crop(images, [side, side])
    top, left = ((length - side) // 2 for length in images.shape[-2:])
    return tvF.crop(images, top, left, side, side)


def resize_and_pad(images: torch.Tensor, side: int) -> torch.Tensor:
    """Bring the long side to `side` and fill up with black, evenly on both sides.

    Args:
        images (`torch.FloatTensor` of shape `(num_images, 3, height, width)`):
            Values in [0, 1]. Gradients flow through. Bicubic interpolation may leave that range a little, as in
            `hpsv2`, which resizes floating-point images.
        side (`int`):
            Height and width of the result.

    Returns:
        `torch.FloatTensor` of shape `(num_images, 3, side, side)`.
    """
    height, width = images.shape[-2:]
    scale = side / max(height, width)
    if scale != 1:
        images = _resize(images, (max(1, round(height * scale)), max(1, round(width * scale))))
    extra_height, extra_width = side - images.shape[-2], side - images.shape[-1]
    left, top = extra_width // 2, extra_height // 2
    return tvF.pad(images, [left, top, extra_width - left, extra_height - top])


def _resize_saturating(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize as Pillow does images of eight bits: bicubic overshoots, and each direction's result saturates."""
    if not images.is_floating_point():
        return _resize(images, size)
    return _resize(_resize(images, (images.shape[-2], size[1])).clamp(0, 1), size).clamp(0, 1)


def _resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize with Pillow's bicubic kernel, which also averages where it makes smaller."""
    return tvF.resize(images, list(size), interpolation=tvF.InterpolationMode.BICUBIC, antialias=True)
