"""Generate n videos of a prompt from n seeds and keep the one that a reward likes best: alignment without training.

    python docs/examples/best_of_n.py "a dog runs on grass" --n 8 --output best

By default Wan 2.1 (1.3B) and HPS v2.1, both from the Hub, on a GPU. Every video is written, so that the choice can be
checked by eye: `best/0-best.mp4` and the others in order of reward. The same seeds give the same videos again.
"""

import argparse
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from draftv_trainer import sample
from videorm_hf.models.sources import find_source
from videorm_hf.reporting.tables import print_table
from videorm_hf.rewards import load_reward
from videorm_hf.videoprefer.video_io import write_video


def main() -> None:
    """Sample, score, order, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt", help="what the video is to show")
    parser.add_argument("--n", type=int, default=8, help="how many videos to choose from")
    parser.add_argument("--pipeline", default="Wan-AI/Wan2.1-T2V-1.3B-Diffusers", help="folder, Hub id or t2v-mini")
    parser.add_argument("--reward", default="hps_v2.1:xswu/HPSv2", help="NAME:SOURCE or a VIDEORM folder")
    parser.add_argument("--output", type=Path, default=Path("best"), help="folder of the videos")
    parser.add_argument("--num-inference-steps", type=int, default=50)
    parser.add_argument("--guidance-scale", type=float, default=5.0)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 832), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--num-frames", type=int, default=81, help="of a video; Wan makes 4k+1")
    options = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    pipe = DiffusionPipeline.from_pretrained(find_source(options.pipeline, "--pipeline"), dtype=dtype).to(device)
    reward = load_reward(options.reward).to(device)
    height, width = options.size

    clips = []
    for seed in range(options.n):
        frames_BTCHW = sample(
            pipe,
            [options.prompt],
            generator=torch.Generator().manual_seed(seed),
            num_inference_steps=options.num_inference_steps,
            guidance_scale=options.guidance_scale,
            height=height,
            width=width,
            num_frames=options.num_frames,
        ).float()
        with torch.no_grad():
            clips.append((reward(frames_BTCHW, [options.prompt]).item(), seed, frames_BTCHW[0].cpu()))
    clips.sort(key=lambda clip: (-clip[0], clip[1]))

    rows = []
    for place, (value, seed, frames_TCHW) in enumerate(clips):
        name = f"{place}-best.mp4" if place == 0 else f"{place}.mp4"
        write_video(frames_TCHW, options.output / name, fps=16)
        rows.append({"video": str(options.output / name), "seed": seed, reward.name: value})
    print_table(rows, title=options.prompt)


if __name__ == "__main__":
    main()
