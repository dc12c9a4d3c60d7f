"""A reward of one's own: videos that loop, whose last frame leads back to the first although something moves.

    python docs/examples/custom_reward.py clip.mp4 other.gif

scores files with it. A pipeline is tuned by it, beside one that reads the prompt, from the folder of this file:

    draftv train --config run.yaml --reward_funcs hps_v2.1:xswu/HPSv2 custom_reward:looping --reward_weights 1.0 0.1

A reward is any function of frames and prompts that is differentiable in the frames: docs/guides/add_reward.md. It is
given 8 frames, spread over the clip, unless `reward_num_frames` says otherwise.
"""

import argparse

import torch

from videorm_hf import VideoDecodingError, VideoRMVideoProcessor


def looping(frames: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    """Minus how far the ends of a clip are apart, in units of its motion: 0 is a perfect loop.

    Args:
        frames (`torch.FloatTensor` of shape `(batch_size, num_frames, 3, height, width)`):
            RGB frames, values in `[0, 1]`, at least two.
        prompts (`list[str]`):
            Not read.

    Returns:
        `torch.FloatTensor` of shape `(batch_size,)`: at most 0, higher is better.
    """
    seam = (frames[:, -1] - frames[:, 0]).abs().mean(dim=(1, 2, 3))
    motion = frames.diff(dim=1).abs().mean(dim=(1, 2, 3, 4))
    return -seam / (motion + 0.01)  # without the constant, a gradient would explode where nothing moves


def main() -> None:
    """Score files, and check on the first one what DRaFT-V needs: a gradient at every frame that counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", help="video files")
    options = parser.parse_args()

    read = VideoRMVideoProcessor(num_frames=16)  # 16 frames, spread over the clip's time
    clips = {}
    for video in options.videos:
        try:
            clips[video] = read(video, do_normalize=False, return_tensors="pt")["pixel_values_videos"]
        except VideoDecodingError as error:
            print(f"not scored: {video} ({error})")
    for video, frames in clips.items():
        print(f"{looping(frames, ['']).item():+.3f}  {video}")
    for frames in list(clips.values())[:1]:
        frames.requires_grad_(True)
        looping(frames, [""]).sum().backward()
        print(f"largest gradient at a pixel: {frames.grad.abs().max().item():.2g}")


if __name__ == "__main__":
    main()
