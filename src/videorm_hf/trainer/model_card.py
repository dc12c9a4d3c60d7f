"""The card of a trained reward and the machine-readable facts of its run, written beside the weights.

Source: the layout of TRL's model cards. Every number comes from the run.
"""

import importlib.metadata
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from transformers import PreTrainedModel, TrainerState
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from videorm_hf.trainer.video_reward_config import VideoRewardConfig

CARD_NAME = "README.md"
FACTS_NAME = "videorm_training.json"
_PACKAGES = ("videorm-hf", "torch", "transformers", "datasets")
_TAGS = ["videorm", "reward-model", "text-to-video", "video-preference"]
_METRICS = ("loss", "accuracy", "margin", "reward_chosen", "reward_rejected", "num_pairs")


def run_facts(
    model: PreTrainedModel,
    args: VideoRewardConfig,
    sets: Mapping[str, Mapping[str, Any]],
    state: TrainerState,
    bad_clips: Mapping[str, str],
) -> dict[str, Any]:
    """Gather what someone who finds the weights wants to know of the run.

    Args:
        model (`PreTrainedModel`):
            The reward model.
        args ([`VideoRewardConfig`]):
            The run's settings.
        sets (`dict[str, dict[str, Any]]`):
            Of each training set its view, rows, pairs and share of the draws.
        state (`TrainerState`):
            Trainer's, with its log.
        bad_clips (`dict[str, str]`):
            Clips that were left out, with the reason.

    Returns:
        `dict[str, Any]`: values that JSON can hold; no path of this machine is among them.
    """
    name = model.name_or_path
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    config = model.config.to_dict()
    reasons = list(bad_clips.values())
    facts = {
        "base_model": name if name and not os.path.isdir(name) else None,
        "model_type": config["model_type"],
        "architecture": {name: value for name, value in config.items() if name.startswith("temporal_")},
        "num_frames": config.get("num_frames"),
        "trainable": args.trainable,
        "trainable_parameters": sum(parameter.numel() for parameter in trained),
        "sets": {name: dict(facts) for name, facts in sets.items()},
        "loss": {
            **{name: getattr(args, name) for name in ("ties", "tie_theta", "use_margin", "dimensions")},
            **{name: getattr(args, name) for name in ("loss_scale", "train_logit_scale")},
        },
        "training": {
            "steps": state.global_step,
            "rows_per_step": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            "learning_rate": args.learning_rate,
            "lr_scheduler": SchedulerType(args.lr_scheduler_type).value,
            "optimizer": OptimizerNames(args.optim).value,
            "precision": "bfloat16" if args.bf16 else "float16" if args.fp16 else str(trained[0].dtype)[6:],
            "frame_sampling": args.frame_sampling,
            "train_fraction": args.train_fraction,
            "cached_features": args.cache_features,
            "seed": args.seed,
        },
        "bad_clips": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        "best": {} if state.best_metric is None else {"step": state.best_global_step, "metric": state.best_metric},
        "evaluation": _last(state.log_history, "eval_"),
        "last_logged": _last(state.log_history, ""),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    return json.loads(json.dumps(facts, default=str))


def _last(log_history: Sequence[Mapping[str, Any]], prefix: str) -> dict[str, float]:
    """Return the last logged metrics of training (`""`) or evaluation (`"eval_"`)."""
    names = [prefix + name for name in _METRICS]
    entries = [entry for entry in log_history if f"{prefix}num_pairs" in entry]
    return {name: entries[-1][name] for name in names if name in entries[-1]} if entries else {}


def write_card(
    folder: str | os.PathLike[str],
    facts: Mapping[str, Any],
    *,
    model_name: str | None = None,
    repo_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write the card and the facts beside the weights.

    Args:
        folder (`str` or `os.PathLike`):
            Where the model is.
        facts (`dict[str, Any]`):
            What [`run_facts`] returned.
        model_name (`str`, *optional*):
            The title; by default the folder's name.
        repo_id (`str`, *optional*):
            Where the weights will be on the Hub.
        metadata (`dict[str, Any]`, *optional*):
            Further fields of the card's head (`language`, `license`, `tags`, `datasets`).
    """
    metadata = {key: value for key, value in (metadata or {}).items() if value is not None}
    tags = metadata.pop("tags", None) or []
    head = ModelCardData(
        base_model=facts["base_model"],
        library_name="transformers",
        tags=list(dict.fromkeys([*_TAGS, *([tags] if isinstance(tags, str) else tags)])),
        **metadata,
    )
    folder = Path(folder)
    title = model_name or folder.resolve().name
    (folder / FACTS_NAME).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    card = ModelCard(f"---\n{head}\n---\n\n{_body(facts, title, repo_id or 'path/to/this/folder')}")
    (folder / CARD_NAME).write_text(str(card), encoding="utf-8")


def _body(facts: Mapping[str, Any], title: str, source: str) -> str:
    """Return the card without its head."""
    base = facts["base_model"]
    start = f"[{base}](https://huggingface.co/{base})" if base else "a model that was not read from the Hub"
    sets = [
        f"| {name} | {of['view']} | {of['rows']} | {of['pairs']} | {of['ties']} | {of['share']:.3g} |"
        for name, of in facts["sets"].items()
    ]
    rows = {
        "trained": f"{facts['trainable']}, {facts['trainable_parameters']:,} parameters",
        "frames of a clip": facts["num_frames"],
        **{name.replace("_", " "): value for name, value in facts["architecture"].items()},
        **{f"loss: {name.replace('_', ' ')}": value for name, value in facts["loss"].items() if value is not None},
        **{name.replace("_", " "): value for name, value in facts["training"].items()},
        **{f"clips left out: {reason}": count for reason, count in facts["bad_clips"].items()},
        **{f"last training log: {name}": f"{value:.4g}" for name, value in facts["last_logged"].items()},
        **{f"best checkpoint: {name}": f"{value:.4g}" for name, value in facts["best"].items()},
        **{f"last evaluation: {name[5:]}": f"{value:.4g}" for name, value in facts["evaluation"].items()},
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return f"""# {title}

A reward model for (prompt, video) pairs, trained on preferences between videos, starting from {start}.

## Use

```python
from transformers import AutoModel, AutoProcessor
import videorm_hf

model = AutoModel.from_pretrained("{source}").eval()
processor = AutoProcessor.from_pretrained("{source}")
inputs = processor(text=["a corgi on a skateboard"], videos=["clip.mp4"])
reward = model(**inputs).rewards
```

## Training data

| set | view | rows | pairs | ties | share of the draws |
|---|---|---|---|---|---|
{chr(10).join(sets)}

## The run

| | |
|---|---|
{table}

A reward is a proxy for what people prefer: compare videos of one prompt by it, and look at them.

Versions: {versions}. All facts: `{FACTS_NAME}`.

## Method

Boosting Text-to-Video Generative Model with MLLMs Feedback (Wu et al., NeurIPS 2024), VIDEORM.
"""
