"""The two ways to a square: equal to Pillow and torchvision, within the rounding to eight bits."""

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize, ToTensor

from videorm_hf.models.image_preprocessing import resize_and_crop, resize_and_pad

SIZES = [(45, 67), (67, 45), (32, 32), (32, 47), (20, 21), (100, 32), (33, 65)]


def noise(height: int, width: int) -> np.ndarray:
    """Black and white pixels at random: the interpolation overshoots at every one."""
    return np.random.default_rng(0).integers(0, 2, (height, width, 3), dtype=np.uint8) * 255


@pytest.mark.parametrize("size", SIZES)
def test_crop_equals_pillow(size: tuple[int, int]) -> None:
    image = noise(*size)
    theirs = Compose([Resize(32, InterpolationMode.BICUBIC), CenterCrop(32), ToTensor()])(PIL.Image.fromarray(image))
    images = torch.from_numpy(image).permute(2, 0, 1)[None]
    ours = resize_and_crop(images / 255, 32)[0]
    assert ours.shape == (3, 32, 32)
    # Pillow rounds after each of its two passes.
    assert (ours - theirs).abs().max() < 2 / 255
    assert (ours - theirs).abs().mean() < 0.5 / 255
    eight_bits = resize_and_crop(images, 32)[0]
    assert eight_bits.dtype == torch.uint8
    assert (eight_bits / 255 - theirs).abs().max() < 1.5 / 255


@pytest.mark.parametrize(("width", "offset", "floored"), [(33, 0, 0), (34, 1, 1), (35, 2, 1), (37, 2, 2), (39, 4, 3)])
def test_offset_of_an_odd_crop(width: int, offset: int, floored: int) -> None:
    columns = torch.arange(width).expand(1, 3, 32, width) / width
    assert resize_and_crop(columns, 32)[0, 0, 0, 0].item() == pytest.approx(offset / width)
    assert resize_and_crop(columns, 32, floor_offset=True)[0, 0, 0, 0].item() == pytest.approx(floored / width)


@pytest.mark.parametrize(
    ("size", "box"), [((48, 96), (8, 16, 0, 32)), ((96, 48), (0, 32, 8, 16)), ((16, 32), (8, 16, 0, 32))]
)
def test_pad_keeps_all_and_fills_with_black(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    top, height, left, width = box
    square = resize_and_pad(torch.full((1, 3, *size), 0.5), 32)
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[top : top + height, left : left + width] = True
    torch.testing.assert_close(square[0, 0][inside], torch.full((height * width,), 0.5))
    assert (square[0, 0][~inside] == 0).all()


def test_pad_does_not_saturate_and_crop_does() -> None:
    images = torch.from_numpy(noise(45, 45)).permute(2, 0, 1)[None] / 255
    assert resize_and_pad(images, 64).max() > 1.01
    cropped = resize_and_crop(images, 64)
    assert (cropped.min(), cropped.max()) == (0, 1)


@pytest.mark.parametrize("fit", [resize_and_crop, resize_and_pad])
def test_gradients_pass(fit) -> None:
    images = torch.rand(2, 3, 20, 30, dtype=torch.float64, requires_grad=True, generator=None) * 0.6 + 0.2
    assert torch.autograd.gradcheck(lambda pixels: fit(pixels, 6), images[:1, :1].detach().requires_grad_())
