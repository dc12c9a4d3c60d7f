"""How fast a reward trains: pair by pair, with the candidates of a prompt together, and on cached features.

Three trainers take turns, an epoch each, over the same prompts with the same candidates, read from video files:
`pairs` has a row for each pair of the preference view, `grouped` a row for each item of the ratings view, whose videos
are encoded once for all their pairs, and `cached` the same items with the frozen towers' features on disk. Only the
temporal head trains. Weights are random, which does not change the time; the clips are noise.

Reported are pairs per second of whole epochs (data loading, forward, backward, update), medians over the rounds, and
the ratio of each round. Filling the cache is the cached trainer's first epoch and is reported apart.

    python benchmarks/reward_training.py            # writes benchmarks/results/reward_training.json
    python benchmarks/reward_training.py --smoke    # a tiny model, prints only
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import open_clip
import torch
from machine import describe_machine

from videorm_hf import VideoRMConfig, VideoRMModel, VideoRMProcessor, VideoRMVideoProcessor
from videorm_hf.models.open_clip_layout import clip_configs, clip_tokenizer
from videorm_hf.trainer import VideoRewardConfig, VideoRewardTrainer
from videorm_hf.videoprefer.items import Candidate, Item
from videorm_hf.videoprefer.pairs import make_preference_pairs
from videorm_hf.videoprefer.video_io import write_video

OUTPUT = Path(__file__).parent / "results" / "reward_training.json"
CONTESTANTS = ("pairs", "grouped", "cached")


def main() -> None:
    """Run all rounds, print them, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-16", help="open_clip's name")
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--num-items", type=int, default=2, help="prompts of an epoch")
    parser.add_argument("--num-candidates", type=int, default=4, help="videos of a prompt")
    parser.add_argument("--rounds", type=int, default=3, help="measured epochs of each trainer, after one to warm up")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, nothing written")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        items = noise_items(Path(folder), arguments)
        num_pairs = sum(len(make_preference_pairs(item)) for item in items)
        start = time.perf_counter()
        cached = trainer(Path(folder), items, arguments, cache_features=True)
        fill_s = time.perf_counter() - start
        trainers = {
            "pairs": trainer(
                Path(folder), [vars(pair) for item in items for pair in make_preference_pairs(item)], arguments
            ),
            "grouped": trainer(Path(folder), items, arguments),
            "cached": cached,
        }
        seconds = take_turns(trainers, arguments.rounds)
    results = {
        "machine": machine(),
        "settings": settings(arguments) | {"num_pairs": num_pairs},
        "filling_the_cache_s": round(fill_s, 3),
        "pairs_per_second": {name: round(num_pairs / statistics.median(seconds[name]), 3) for name in CONTESTANTS},
        "grouped_over_pairs": ratio(seconds["pairs"], seconds["grouped"]),
        "cached_over_grouped": ratio(seconds["grouped"], seconds["cached"]),
        "cached_over_pairs": ratio(seconds["pairs"], seconds["cached"]),
        "epoch_s": {name: [round(value, 4) for value in seconds[name]] for name in CONTESTANTS},
    }
    print(json.dumps(results, indent=2))
    if not arguments.smoke:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def noise_items(folder: Path, arguments: argparse.Namespace) -> list[Item]:
    """Write clips of noise and return items whose candidates all differ in rating."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for i in range(arguments.num_items):
        candidates = []
        for j in range(arguments.num_candidates):
            frames = torch.rand(16, 3, 256, 256, generator=generator)
            video = write_video(frames, folder / f"{i}-{j}.mp4")
            rating = 5.0 - 4.0 * j / arguments.num_candidates
            candidates.append(Candidate(f"c{j}", str(video), model="noise", ratings={"video_quality": rating}))
        items.append(
            Item(f"item-{i}", f"a corgi rides skateboard number {i} along the beach", "noise", tuple(candidates))
        )
    return items


def build_model(arguments: argparse.Namespace) -> VideoRMModel:
    """Return a VIDEORM with random weights."""
    model_cfg = open_clip.get_model_config(arguments.architecture)
    text, vision = clip_configs(model_cfg, arguments.architecture)
    width = model_cfg["embed_dim"]
    if arguments.smoke:
        tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        text, vision, width = tower, {**tower, "image_size": 224, "patch_size": 32}, 64
    torch.manual_seed(0)
    return VideoRMModel(VideoRMConfig(text_config=text, vision_config=vision, projection_dim=width))


def trainer(
    folder: Path, data: Any, arguments: argparse.Namespace, cache_features: bool = False
) -> VideoRewardTrainer:
    """Build a trainer of one epoch a call; a step is one prompt with all of its pairs, in every layout."""
    num_pairs = arguments.num_candidates * (arguments.num_candidates - 1) // 2
    args = VideoRewardConfig(
        output_dir=str(folder / "output"),
        num_train_epochs=1,
        per_device_train_batch_size=1 if isinstance(data[0], Item) else num_pairs,
        num_frames=arguments.num_frames,
        cache_features=cache_features,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
    )
    processor = VideoRMProcessor(VideoRMVideoProcessor(), clip_tokenizer())
    return VideoRewardTrainer(build_model(arguments), args, train_dataset=data, processing_class=processor)


def take_turns(trainers: dict[str, VideoRewardTrainer], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each trainer's epochs, so that a slow minute of the machine slows all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for round_ in range(-1, rounds):
        for name, contestant in trainers.items():
            start = time.perf_counter()
            contestant.train()
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(slower: list[float], faster: list[float]) -> dict[str, float]:
    """Return the speed-up: of the medians, and of the least and the most favourable round."""
    ratios = [a / b for a, b in zip(slower, faster, strict=True)]
    median = statistics.median(slower) / statistics.median(faster)
    return {"ratio": round(median, 2), "lowest": round(min(ratios), 2), "highest": round(max(ratios), 2)}


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return describe_machine("torch", "transformers", "av", threads=torch.get_num_threads())


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how the figures were taken."""
    names = ("architecture", "num_frames", "num_items", "num_candidates", "rounds")
    return {name: vars(arguments)[name] for name in names} | {"dtype": "float32", "weights": "random"}


if __name__ == "__main__":
    main()
