"""The card of a tuned LoRA and the machine-readable facts of its run, written beside the weights.

Source: the layout of TRL's model cards. Every number comes from the run.
"""

import dataclasses
import importlib.metadata
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders import PeftAdapterMixin
from diffusers.loaders.lora_base import LoraBaseMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from huggingface_hub import ModelCard, ModelCardData
from transformers import TrainerState
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from draftv_trainer.draftv_config import DRaFTVConfig
from draftv_trainer.lora import ADAPTER_NAME, SECOND_DENOISER, find_denoiser
from draftv_trainer.rollout import RewardRollout

CARD_NAME = "README.md"
FACTS_NAME = "draftv_config.json"
_PACKAGES = ("videorm-hf", "torch", "transformers", "diffusers", "peft")
_PAPER = "Boosting Text-to-Video Generative Model with MLLMs Feedback (Wu et al., NeurIPS 2024)"


def run_facts(rollout: RewardRollout, args: DRaFTVConfig, state: TrainerState) -> dict[str, Any]:
    """Gather what someone who finds the weights wants to know of the run.

    Args:
        rollout (`RewardRollout`):
            Pipeline, rewards and sampling settings.
        args (`DRaFTVConfig`):
            The run's settings.
        state (`TrainerState`):
            Where the run stands, with its log.

    Returns:
        `dict[str, Any]`: values that JSON can hold; no path of this machine is among them.
    """
    lora = rollout.denoiser.peft_config[ADAPTER_NAME]
    targets = lora.target_modules
    sampling = dataclasses.asdict(dataclasses.replace(rollout.settings, pipeline_kwargs={}))
    dtype = next(weight.dtype for weight in rollout.denoiser.parameters() if not weight.requires_grad)
    facts = {
        "base_model": base_model(rollout.pipe),
        "pipeline": type(rollout.pipe).__name__,
        "rewards": {term.name: term.weight for term in rollout.terms},
        "sampling": {
            **sampling,
            "pipeline_kwargs": dict(rollout.settings.pipeline_kwargs),
            "dtype": str(dtype).removeprefix("torch."),
            "fps": args.sample_fps,
        },
        "lora": {
            "component": find_denoiser(rollout.pipe)[0],
            "rank": lora.r,
            "alpha": lora.lora_alpha,
            "target_modules": targets if isinstance(targets, str) else sorted(targets),
        },
        "training": {
            "steps": state.global_step,
            "videos_per_step": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            "learning_rate": args.learning_rate,
            "lr_scheduler": SchedulerType(args.lr_scheduler_type).value,
            "optimizer": OptimizerNames(args.optim).value,
            "ema_decay": args.ema_decay,
            "seed": args.seed,
            **{name: entry[name] for entry in state.log_history for name in ("guard_kept_step",) if name in entry},
        },
        "reward": _curve_ends(state.log_history),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    return json.loads(json.dumps(facts, default=str))


def base_model(pipe: DiffusionPipeline) -> str | None:
    """Tell where a pipeline came from.

    Args:
        pipe (`DiffusionPipeline`):
            The pipeline.

    Returns:
        `str`: its repository on the Hub; None for one that was built or read from a folder.
    """
    name: str | None = pipe.name_or_path
    return name if name and not os.path.isdir(name) else None


def reads_own_lora(pipe: DiffusionPipeline, denoiser: torch.nn.Module) -> bool:
    """Tell whether the pipeline's own `load_lora_weights` can read the LoRA.

    Args:
        pipe (`DiffusionPipeline`):
            The pipeline.
        denoiser (`torch.nn.Module`):
            Its denoiser.

    Returns:
        `bool`: False for pipelines without a loader and for denoisers that take no adapters, such as ModelScope's.
    """
    return isinstance(pipe, LoraBaseMixin) and isinstance(denoiser, PeftAdapterMixin)


def write_card(
    folder: str | os.PathLike[str],
    facts: Mapping[str, Any],
    *,
    own_loader: bool,
    model_name: str | None = None,
    repo_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write the card and the facts beside the weights.

    Args:
        folder (`str` or `os.PathLike`):
            Where the LoRA is.
        facts (`dict[str, Any]`):
            What [`run_facts`] returned.
        own_loader (`bool`):
            Whether the pipeline's own `load_lora_weights` reads the LoRA.
        model_name (`str`, *optional*):
            The title; by default the folder's name.
        repo_id (`str`, *optional*):
            Where the weights will be on the Hub.
        metadata (`dict[str, Any]`, *optional*):
            Further fields of the card's head (`language`, `license`, `tags`, `datasets`).
    """
    metadata = {key: value for key, value in (metadata or {}).items() if value is not None}
    tags = metadata.pop("tags", None) or []
    tags = ["text-to-video", "lora", "draft-v", *([tags] if isinstance(tags, str) else tags)]
    head = ModelCardData(
        base_model=facts["base_model"],
        library_name="diffusers",
        pipeline_tag="text-to-video",
        tags=list(dict.fromkeys(tags)),
        **metadata,
    )
    folder = Path(folder)
    title = model_name or folder.resolve().name
    body = _body(facts, title, _loading(facts, repo_id, title, own_loader))
    (folder / FACTS_NAME).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    (folder / CARD_NAME).write_text(str(ModelCard(f"---\n{head}\n---\n\n{body}")), encoding="utf-8")


def _body(facts: Mapping[str, Any], title: str, loading: str) -> str:
    """Return the card without its head, with the code that loads the LoRA."""
    base, pipeline = facts["base_model"], facts["pipeline"]
    where = f"[{base}](https://huggingface.co/{base})" if base else f"a `{pipeline}` that was not read from the Hub"
    training, versions = facts["training"], facts["versions"]
    rows = {
        **{f"reward `{name}`, weight": weight for name, weight in facts["rewards"].items()},
        **{f"mean reward, logged {when}": f"{value:.4g}" for when, value in facts["reward"].items()},
        **{name.replace("_", " "): value for name, value in training.items()},
        **{f"LoRA {name.replace('_', ' ')}": value for name, value in facts["lora"].items()},
        **{f"`{name}`": value for name, value in facts["sampling"].items() if value not in (None, {})},
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""# {title}

A LoRA for {where}, tuned with DRaFT-V: the gradient of video rewards, followed back through the sampling steps.

## How to load it

```python
{loading}
```

## The run

| | |
|---|---|
{table}

The logged rewards are of different prompts; `draftv compare` scores base and LoRA on the same.

A reward is a proxy. Look at the videos before relying on it; a smaller LoRA scale stays closer to the base model.

Versions: {", ".join(f"{name} {version}" for name, version in versions.items())}. All facts: `{FACTS_NAME}`.

## Method

{_PAPER}; gradients through the last steps as in DRaFT (Clark et al., arXiv 2309.17400).
"""


def _loading(facts: Mapping[str, Any], repo_id: str | None, folder: str, own_loader: bool) -> str:
    """Return the code that loads the LoRA, by the pipeline itself where it can."""
    pipeline, base = facts["pipeline"], facts["base_model"] or "path/to/the/base/model"
    first = f'pipe = {pipeline}.from_pretrained("{base}")'
    if own_loader:
        into = ", load_into_transformer_2=True" if facts["lora"].get("component") == SECOND_DENOISER else ""
        return f'from diffusers import {pipeline}\n\n{first}\npipe.load_lora_weights("{repo_id or folder}"{into})'
    imports = [f"from diffusers import {pipeline}", "from draftv_trainer import load_lora"]
    source = f'"{folder}"'
    if repo_id is not None:
        imports.append("from huggingface_hub import snapshot_download")
        source = f'snapshot_download("{repo_id}")'
    return "\n".join([*imports, "", first, f"load_lora(pipe, {source}, scale=1.0)"])


def _curve_ends(log_history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the first mean reward and the last that these weights had, or nothing before the first step."""
    kept = min((entry["guard_kept_step"] for entry in log_history if "guard_kept_step" in entry), default=math.inf)
    curve = [entry["reward"] for entry in log_history if "reward" in entry and entry["step"] <= kept]
    return {"first": curve[0], "last": curve[-1]} if curve else {}
