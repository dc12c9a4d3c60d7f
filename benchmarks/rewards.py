"""Time and peak memory of every reward at its published size: forward, and forward with the gradient to the frames.

Weights are random, which changes neither. A clip has 256 x 256 pixels, as ModelScope makes them, and its prompt has
been seen before, so that rewards which keep a prompt's embedding do not compute it; ImageReward reads the prompt with
every frame and so must. The two VIDEORMs look at all frames of the clip.

Each reward is measured in processes of its own: one for time, and one for memory, with an allocator that gives freed
memory back to the system, which costs time. Peak memory is resident memory above that just before the call, without
the weights; on a GPU it is the allocator's. Memory grows evenly with the frames: a cell that would need more than
`--limit-gb` beside the weights, by what fewer frames took, is left out and named.

    python benchmarks/rewards.py                  # writes benchmarks/results/rewards.json
    python benchmarks/rewards.py --size small     # ViT-B/32 and alike
    python benchmarks/rewards.py --smoke          # a few minutes, writes nothing
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from machine import describe_machine
from transformers import BertTokenizer, CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from videorm_hf import (
    VideoRMBlipConfig,
    VideoRMBlipModel,
    VideoRMBlipProcessor,
    VideoRMBlipVideoProcessor,
    VideoRMConfig,
    VideoRMModel,
    VideoRMProcessor,
    VideoRMVideoProcessor,
)
from videorm_hf.models.open_clip_layout import clip_configs, clip_tokenizer
from videorm_hf.models.score_mlp import ScoreMLP
from videorm_hf.reporting.tables import markdown_table
from videorm_hf.rewards import (
    AestheticReward,
    CLIPScoreReward,
    HPSv2Reward,
    ImageRewardReward,
    PickScoreReward,
    Reward,
    VideoRMBlipReward,
    VideoRMReward,
)

OUTPUT = Path(__file__).parent / "results" / "rewards.json"
PROMPT = "a corgi rides a skateboard along the beach at sunset, seen from a low angle"
# open_clip's names of the CLIPs; ImageReward at the size of `small` is as wide as ViT-B/32.
CLIP = {"published": "ViT-H-14", "small": "ViT-B-32"}
AESTHETIC_CLIP = {"published": "ViT-L-14", "small": "ViT-B-32"}
SMALL_BLIP = {
    "vision_config": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 32,
        "layer_norm_eps": 1e-6,
        "initializer_range": 0.02,
    },
    "text_config": {"num_hidden_layers": 6, "num_attention_heads": 12, "encoder_hidden_size": 768},
}
# Of glibc: blocks of this size and more get pages of their own, which go back to the system when freed.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536"}
MEGABYTE = 1e6
SIDE = 256


def main() -> None:
    """Measure every reward and write JSON; or, as a worker, measure one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rewards", nargs="+", default=list(BUILDERS), choices=BUILDERS)
    parser.add_argument("--size", default="published", choices=CLIP)
    parser.add_argument("--num-frames", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--rounds", type=int, default=3, help="timed calls of each kind, after one more")
    parser.add_argument("--limit-gb", type=float, default=14.0, help="leave out cells that would need more")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--output", type=Path, help=f"JSON file; by default {OUTPUT.name} beside the other results")
    parser.add_argument("--smoke", action="store_true", help="small, one round, nothing written unless --output")
    parser.add_argument("--worker", choices=("time", "memory"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.num_frames.sort()
    if arguments.smoke:
        arguments.size, arguments.num_frames, arguments.rounds = "small", [1, 2], 1
    if arguments.worker is not None:
        print(json.dumps(work(arguments)))
        return
    if arguments.device == "cpu" and not Path("/proc/self/clear_refs").is_file():
        raise SystemExit("Peak memory of one call is read from Linux's /proc/self, which this system lacks.")
    results = measure(arguments)
    print(markdown_table(results["cells"]))
    if arguments.output is None and not arguments.smoke:
        arguments.output = OUTPUT
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


# --- The rewards ----------------------------------------------------------------------------------------------------


def clip_model(architecture: str) -> CLIPModel:
    """Build a CLIP of one of open_clip's architectures."""
    model_cfg = open_clip.get_model_config(architecture)
    text, vision = clip_configs(model_cfg, architecture)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=model_cfg["embed_dim"]))


def aesthetic(size: str) -> AestheticReward:
    """Build the aesthetic predictor."""
    model_cfg = open_clip.get_model_config(AESTHETIC_CLIP[size])
    _, vision = clip_configs(model_cfg, AESTHETIC_CLIP[size])
    return AestheticReward(CLIPVisionModelWithProjection(CLIPVisionConfig(**vision)), ScoreMLP(model_cfg["embed_dim"]))


def bert_tokenizer(num_tokens: int) -> BertTokenizer:
    """Build a tokenizer of BERT's size and no sense: each prompt has 35 tokens anyway."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PROMPT.replace(",", " ,").split()]
    tokens = list(dict.fromkeys(special)) + [f"[filler{index}]" for index in range(num_tokens)]
    return BertTokenizer(vocab={token: index for index, token in enumerate(tokens[:num_tokens])})


def image_reward(size: str) -> ImageRewardReward:
    """Build ImageReward."""
    config = VideoRMBlipConfig(temporal_head="mean", **(SMALL_BLIP if size == "small" else {}))
    return ImageRewardReward(VideoRMBlipModel(config), bert_tokenizer(config.text_config.vocab_size))


def videorm(size: str) -> VideoRMReward:
    """Build a VIDEORM on HPS v2."""
    model_cfg = open_clip.get_model_config(CLIP[size])
    text, vision = clip_configs(model_cfg, CLIP[size])
    config = VideoRMConfig(text_config=text, vision_config=vision, projection_dim=model_cfg["embed_dim"])
    return VideoRMReward(VideoRMModel(config), VideoRMProcessor(VideoRMVideoProcessor(), clip_tokenizer()))


def videorm_blip(size: str) -> VideoRMBlipReward:
    """Build a VIDEORM on ImageReward."""
    config = VideoRMBlipConfig(**(SMALL_BLIP if size == "small" else {}))
    processor = VideoRMBlipProcessor(VideoRMBlipVideoProcessor(), bert_tokenizer(config.text_config.vocab_size))
    return VideoRMBlipReward(VideoRMBlipModel(config), processor)


BUILDERS: dict[str, Callable[[str], Reward]] = {
    "clip_score": lambda size: CLIPScoreReward(clip_model(CLIP[size]), clip_tokenizer()),
    "pick_score": lambda size: PickScoreReward(clip_model(CLIP[size]), clip_tokenizer()),
    "hps_v2": lambda size: HPSv2Reward(clip_model(CLIP[size]), clip_tokenizer()),
    "image_reward": image_reward,
    "aesthetic": aesthetic,
    "videorm": videorm,
    "videorm_blip": videorm_blip,
}


# --- Measuring ------------------------------------------------------------------------------------------------------


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all cells in fresh processes."""
    results: dict[str, Any] = {"machine": machine(arguments), "settings": settings(arguments), "cells": []}
    left_out: list[dict[str, Any]] = []
    for name in arguments.rewards:
        memory = run_worker(arguments, name, "memory", ALLOCATOR)
        measured = [cell["num_frames"] for cell in memory["cells"]]
        left_out += [{"reward": name, "num_frames": n} for n in arguments.num_frames if n not in measured]
        times = run_worker(arguments, name, "time", {}, measured)
        for of_time, of_memory in zip(times["cells"], memory["cells"], strict=True):
            cell = {"reward": name, "weights_mb": memory["weights_mb"], **of_time, **of_memory}
            results["cells"].append(cell)
            print(json.dumps(cell), file=sys.stderr, flush=True)
    return {**results, "left_out": left_out}


def run_worker(
    arguments: argparse.Namespace,
    name: str,
    kind: str,
    environment: dict[str, str],
    num_frames: list[int] | None = None,
) -> dict[str, Any]:
    """Measure one reward in a fresh process."""
    command = [sys.executable, __file__, "--worker", kind, "--rewards", name, "--size", arguments.size]
    for option in ("rounds", "limit_gb", "device", "dtype"):
        command += [f"--{option.replace('_', '-')}", str(vars(arguments)[option])]
    command += ["--num-frames", *map(str, arguments.num_frames if num_frames is None else num_frames)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{name} ({kind}) failed:\n{done.stderr[-4000:]}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def work(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one reward at all numbers of frames, the fewest first."""
    torch.manual_seed(0)
    reward = BUILDERS[arguments.rewards[0]](arguments.size)
    reward = reward.to(arguments.device, getattr(torch, arguments.dtype)).requires_grad_(False).eval()
    weights = sum(weight.numel() * weight.element_size() for weight in reward.parameters())
    cells: list[dict[str, Any]] = []
    for num_frames in arguments.num_frames:
        if arguments.worker == "memory" and cells:
            expected = cells[-1]["forward_backward_peak_mb"] * num_frames / cells[-1]["num_frames"]
            if expected > arguments.limit_gb * 1000:
                break
        if isinstance(reward, (VideoRMReward, VideoRMBlipReward)):
            reward.num_frames = num_frames
        frames = torch.rand(1, num_frames, 3, SIDE, SIDE, device=arguments.device)
        forward(reward, frames[:, :1] if num_frames > 1 else frames)  # the prompt is known from here on
        cell = memory_of(reward, frames) if arguments.worker == "memory" else time_of(reward, frames, arguments.rounds)
        cells.append({"num_frames": num_frames, **cell})
    return {"weights_mb": round(weights / MEGABYTE, 1), "cells": cells}


def time_of(reward: Reward, frames: torch.Tensor, rounds: int) -> dict[str, float]:
    """Return medians in milliseconds, after one call of each kind."""
    row = {}
    for kind, call in (("forward_ms", forward), ("forward_backward_ms", forward_and_backward)):
        seconds = []
        for round_ in range(rounds + 1):
            synchronize(frames)
            begun = time.perf_counter()
            call(reward, frames)
            synchronize(frames)
            if round_ > 0:
                seconds.append(time.perf_counter() - begun)
        row[kind] = round(1000 * statistics.median(seconds), 2)
        row[f"{kind}_lowest"], row[f"{kind}_highest"] = (round(1000 * f(seconds), 2) for f in (min, max))
    return row


def memory_of(reward: Reward, frames: torch.Tensor) -> dict[str, float]:
    """Return peaks in megabytes above the memory just before the call."""
    row = {}
    for kind, call in (("forward_peak_mb", forward), ("forward_backward_peak_mb", forward_and_backward)):
        start = reset_peak(frames)
        call(reward, frames)
        row[kind] = round(peak(frames) - start, 1)
    return row


def forward(reward: Reward, frames: torch.Tensor) -> None:
    """Score a clip."""
    with torch.no_grad():
        reward(frames, [PROMPT])


def forward_and_backward(reward: Reward, frames: torch.Tensor) -> None:
    """Score a clip and take the gradient to its frames."""
    frames = frames.detach().requires_grad_()
    reward(frames, [PROMPT]).sum().backward()


def synchronize(frames: torch.Tensor) -> None:
    """Wait for the GPU, if there is one."""
    if frames.is_cuda:
        torch.cuda.synchronize(frames.device)


def reset_peak(frames: torch.Tensor) -> float:
    """Start the peak afresh and return the memory in use in MB."""
    if frames.is_cuda:
        torch.cuda.reset_peak_memory_stats(frames.device)
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak(frames)


def peak(frames: torch.Tensor) -> float:
    """Return the peak since the last reset in MB: the allocator's on a GPU, resident memory on a CPU."""
    if frames.is_cuda:
        return torch.cuda.max_memory_allocated(frames.device) / MEGABYTE
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (kilobytes,) = (int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    return kilobytes * 1024 / MEGABYTE


def machine(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the figures depend on."""
    device = torch.cuda.get_device_name(arguments.device) if arguments.device.startswith("cuda") else "cpu"
    return describe_machine("torch", "torchvision", "transformers", threads=torch.get_num_threads(), device=device)


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how the figures were taken."""
    is_small = arguments.size == "small"
    blip = "as wide as ViT-B/32, BERT of 6 layers" if is_small else "ViT-L/16, BERT-base"
    return {
        "clip": CLIP[arguments.size],
        "aesthetic_clip": AESTHETIC_CLIP[arguments.size],
        "blip": blip,
        "weights": "random",
        "clip_side": SIDE,
        "batch_size": 1,
        "dtype": arguments.dtype,
        "rounds": arguments.rounds,
        "limit_gb": arguments.limit_gb,
    }


if __name__ == "__main__":
    main()
