"""Train a VIDEORM on pairs of videos, and see on pairs it has not learned from whether it became better.

    python docs/examples/train_reward.py pairs.jsonl --output my-reward

`pairs.jsonl` has a line for each pair, with paths that start from its folder:

    {"prompt": "people ride bikes", "chosen": "a.mp4", "rejected": "b.mp4"}

The start is CLIP ViT-B/32 from the Hub, made a VIDEORM; its towers stay frozen and the temporal head alone
learns, so minutes on a CPU are enough. `--start yuvalkirstain/PickScore_v1`, or HPS_v2.1_compressed.pt as a file, are
ViT-H/14 and want a GPU. A VIDEORM folder, or `videorm-mini`, which comes with the package, is trained as it is. Ten
pairs show that all works; they cannot show that a reward is good.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from videorm_hf.models.conversion import convert_checkpoint
from videorm_hf.models.sources import SHIPPED
from videorm_hf.trainer import VideoRewardConfig, VideoRewardTrainer

Pairs = list[dict[str, Any]]


def read_pairs(path: Path) -> Pairs:
    """Read the pairs with whole paths."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [row | {side: str(path.parent / row[side]) for side in ("chosen", "rejected")} for row in rows]


def hold_out(pairs: Pairs, share: float = 0.2) -> tuple[Pairs, Pairs]:
    """Keep the pairs of the last prompts for evaluation: no prompt stands on both sides."""
    prompts = list(dict.fromkeys(row["prompt"] for row in pairs))
    if len(prompts) < 2:
        raise SystemExit("Pairs of at least two prompts are needed: one side to learn from, one to be judged by.")
    held_out = set(prompts[-max(1, round(share * len(prompts))) :])
    return [r for r in pairs if r["prompt"] not in held_out], [r for r in pairs if r["prompt"] in held_out]


def make_videorm(start: str, folder: Path) -> str:
    """Return the start if it is a VIDEORM, and otherwise the folder of one made of it."""
    config = SHIPPED.get(start, Path(start)) / "config.json"
    if config.is_file() and json.loads(config.read_text(encoding="utf-8")).get("model_type") == "videorm":
        return start
    if not (folder / "config.json").is_file():
        report = convert_checkpoint(start, folder)
        print(f"{report.num_converted_parameters:,} parameters taken over, {report.num_fresh_parameters:,} new")
    return str(folder)


def main() -> None:
    """Convert, train, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, help="JSON Lines file of pairs")
    parser.add_argument(
        "--start", default="openai/clip-vit-base-patch32", help="a VIDEORM, or what `videorm convert` takes"
    )
    parser.add_argument("--output", type=Path, default=Path("my-reward"), help="folder of the trained VIDEORM")
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    options = parser.parse_args()

    start = make_videorm(options.start, options.output / "start")
    train, test = hold_out(read_pairs(options.pairs))
    settings = VideoRewardConfig(
        output_dir=str(options.output),
        num_train_epochs=options.epochs,
        learning_rate=options.learning_rate,
        per_device_train_batch_size=8,
        cache_features=True,  # the towers are frozen: each video goes through them once
        logging_steps=5,
        save_strategy="no",
        report_to="none",
        seed=0,
    )
    trainer = VideoRewardTrainer(start, settings, train_dataset=train, eval_dataset=test)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    trainer.save_model()
    print(f"{len(train)} pairs learned, {len(test)} kept aside")
    print(f"accuracy on those kept aside: {before['eval_accuracy']:.0%} before, {after['eval_accuracy']:.0%} after")
    print(f"loss on those kept aside: {before['eval_loss']:.3f} before, {after['eval_loss']:.3f} after")
    print(f"{options.output} loads with AutoModel, load_reward and `videorm score`")


if __name__ == "__main__":
    main()
