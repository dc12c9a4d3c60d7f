"""FrameMean: an image reward over frames equals its formula, with segments and attenuation too."""

import math

import pytest
import torch

from videorm_hf.rewards.frames import FrameMean

PROMPTS = ["a corgi", "a cat asleep"]


def numbered_video(num_frames: int = 16) -> torch.Tensor:
    """Frame f of video b is grey of value (16 b + f) / 32."""
    values = torch.arange(2 * num_frames).view(2, num_frames) / (2 * num_frames)
    return values[..., None, None, None].expand(2, num_frames, 3, 4, 4).clone().requires_grad_()


def grey(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    assert len(prompts) == len(images)
    return images.mean(dim=(1, 2, 3)) + torch.tensor([float(len(prompt)) for prompt in prompts])


def touched(frames: torch.Tensor) -> list[list[int]]:
    return [(video.flatten(1).abs().sum(dim=1) > 0).nonzero().flatten().tolist() for video in frames.grad]


def test_all_frames_are_averaged_and_each_keeps_its_prompt():
    frames = numbered_video()
    rewards = FrameMean(grey)(frames, PROMPTS)
    expected = [7.5 / 32 + len(PROMPTS[0]), 23.5 / 32 + len(PROMPTS[1])]
    torch.testing.assert_close(rewards, torch.tensor(expected))
    rewards.sum().backward()
    assert touched(frames) == [list(range(16))] * 2


def test_a_still_video_scores_what_its_frame_scores():
    image = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    still = image.unsqueeze(1).expand(1, 8, 3, 4, 4)
    torch.testing.assert_close(FrameMean(grey)(still, PROMPTS[:1]), grey(image, PROMPTS[:1]))


def test_segments_take_one_random_frame_each_by_seed():
    seen = set()
    for seed in range(40):
        frames = numbered_video()
        FrameMean(grey, num_segments=4)(frames, PROMPTS, seeds=[seed, seed + 1000]).sum().backward()
        for chosen in touched(frames):
            assert [frame // 4 for frame in chosen] == [0, 1, 2, 3]
            seen.update(chosen)
    assert seen == set(range(16))
    frames = numbered_video()
    first, again = (FrameMean(grey, num_segments=4)(frames, PROMPTS, seeds=[5, 5]) for _ in range(2))
    assert torch.equal(first, again)


def test_segments_without_seeds_take_the_middle_frames():
    frames = numbered_video()
    FrameMean(grey, num_segments=4)(frames, PROMPTS).sum().backward()
    assert touched(frames) == [[2, 6, 10, 14]] * 2


def test_attenuation_weighs_by_distance_from_the_middle():
    frames = numbered_video()
    rewards = FrameMean(grey, num_segments=4, attenuation=1.0)(frames, PROMPTS)
    for video, prompt in enumerate(PROMPTS):
        terms = [math.exp(-abs(f - 8)) * ((16 * video + f) / 32 + len(prompt)) for f in (2, 6, 10, 14)]
        assert rewards[video].item() == pytest.approx(sum(terms) / 4, rel=1e-6)


def test_a_module_is_a_part_and_the_name_is_kept():
    class Head(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(3))

        def forward(self, images, prompts):
            return (images.mean(dim=(2, 3)) * self.weight).sum(dim=1)

    reward = FrameMean(Head(), name="head")
    assert reward.name == "head"
    assert [name for name, _ in reward.named_parameters()] == ["image_reward.weight"]


def test_wrong_input_is_an_error():
    with pytest.raises(ValueError, match="num_segments must be at least 1"):
        FrameMean(grey, num_segments=0)
    with pytest.raises(ValueError, match="attenuation must be at least 0: got -1"):
        FrameMean(grey, attenuation=-1.0)
    with pytest.raises(ValueError, match="16 frames cannot be cut into 17 segments"):
        FrameMean(grey, num_segments=17)(numbered_video(), PROMPTS)
    with pytest.raises(ValueError, match="shape \\(2, 16, 3, 4, 4\\) and 1 prompts"):
        FrameMean(grey)(numbered_video(), PROMPTS[:1])
    with pytest.raises(ValueError, match="one value per image, shape \\(32,\\): got shape \\(\\)"):
        FrameMean(lambda images, prompts: images.mean())(numbered_video(), PROMPTS)
