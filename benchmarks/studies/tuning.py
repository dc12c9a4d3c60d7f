"""Tuning t2v-mini in every way that the studies compare, and judging what comes of it by the truth.

Whoever changes how the small world is tuned changes the defaults of [`Tuning`] and [`Judged`], and nothing else.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from diffusers import DiffusionPipeline
from peft import LoraConfig
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState

from benchmarks.studies.image_reward import (
    CLIP_LIKE,
    IMAGE,
    VIDEORM,
    load_clip_like,
    load_image_reward,
    load_rewards,
    load_videorm,
)
from benchmarks.studies.study import Json, Work, settings_of, write_json
from benchmarks.studies.world import (
    Sampling,
    held_out_prompts,
    load_generator,
    motion_of,
    sample_clips,
    save_clip,
    score_clips,
    truths_of,
)
from draftv_trainer import DRaFTVConfig, DRaFTVTrainer, load_lora
from draftv_trainer.comparison import compare_rewards
from draftv_trainer.demo.miniature import (
    AUGMENTATION,
    LEARNING_RATE,
    LORA_RANK,
    PIPELINE_KWARGS,
    TIE_MARGIN,
    lora_config,
    tuning_arguments,
)
from draftv_trainer.draftv_trainer import CHECKPOINT
from draftv_trainer.guard import mean_motion
from draftv_trainer.instructvideo import InstructVideoConfig, InstructVideoTrainer
from videorm_hf.miniature.clips import NUM_FRAMES, render
from videorm_hf.miniature.scenes import random_scene, write_prompt
from videorm_hf.rewards import FunctionReward, Reward

MOTION = "motion of pixels"


@dataclass(frozen=True)
class Tuning:
    """How the pipeline is tuned.

    Args:
        reward (`"videorm"`, `"image"` or `"motion"`): VIDEORM, the image reward averaged over frames, or the mean
            difference of consecutive frames, which no model has to be asked for.
        method (`"draft"` or `"instructvideo"`): Sampling from noise, or editing rendered clips; there the image reward
            is InstructVideo's (four segments, attenuation 1).
        steps (`int`): Updates.
        batch_size (`int`): Prompts of an update.
        learning_rate (`float`): Constant after a tenth of the steps.
        lora_rank (`int`): Of the LoRA on q, k, v and output projections.
        backprop (`str`): As in `DRaFTVConfig`.
        num_backprop_steps (`int`, *optional*): K; `None` for `backprop="all"`.
        sampling (`Sampling`): In training and in evaluation.
        edit_share (`float`): Share of the sampling steps that InstructVideo takes; 12 of 20 in its paper.
        reward_augmentation (`str`, *optional*): As in `DRaFTVConfig`.
        reference_coef (`float`): As in `DRaFTVConfig`.
        num_prompts (`int`): Prompts of the training split.
        guard_steps (`int`, *optional*): As in `DRaFTVConfig`; the monitors are motion and the rewards not trained on.
        guard_tolerance (`float`): As in `DRaFTVConfig`.
        seed (`int`): Of prompts, noise and LoRA.
    """

    reward: str = "videorm"
    method: str = "draft"
    steps: int = 60
    batch_size: int = 4
    learning_rate: float = LEARNING_RATE
    lora_rank: int = LORA_RANK
    backprop: str = "all"
    num_backprop_steps: int | None = None
    sampling: Sampling = Sampling()
    edit_share: float = 0.6
    reward_augmentation: str | None = AUGMENTATION
    reference_coef: float = 0.0
    num_prompts: int = 400
    guard_steps: int | None = None
    guard_tolerance: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class Judged:
    """What tuned pipelines are judged on.

    Args:
        num_prompts (`int`): Prompts.
        repeats (`int`): Clips of each, from noise that no training has seen.
        seed (`int`): Of prompts and noise.
        split (`str`): Of the prompts.
    """

    num_prompts: int = 160
    repeats: int = 1
    seed: int = 100
    split: str = "test"


@dataclass(frozen=True)
class Watched:
    """What is measured while a pipeline is tuned.

    Args:
        every (`int`): Updates between two measurements; the start is measured too.
        num_prompts (`int`): Prompts of the test split, one clip each.
        seed (`int`): Of prompts and noise.
    """

    every: int = 20
    num_prompts: int = 24
    seed: int = 200

    def load_rewards(self, work: Work) -> dict[str, Reward]:
        """Load what is measured beside the truth: what may be trained on."""
        return {VIDEORM: load_videorm(work.weights.videorm), IMAGE: load_image_reward(work.weights.videorm)}


@dataclass(frozen=True)
class WatchedByAll(Watched):
    """The same by every reward that the studies know.

    Args:
        clip_steps (`int`): Training of the CLIP-like towers, in steps of 32 prompts.
    """

    clip_steps: int = 2_000

    def load_rewards(self, work: Work) -> dict[str, Reward]:
        """Load all rewards."""
        return {CLIP_LIKE: load_clip_like(work, self.clip_steps), **load_rewards(work.weights.videorm)}


def tune(tuning: Tuning, work: Work, watched: Watched | None = None, save_steps: int = 20) -> Path:
    """Tune a fresh pipeline, or find what an earlier run has tuned the same way.

    An interrupted run goes on from its last checkpoint.

    Args:
        tuning ([`Tuning`]): How.
        work ([`Work`]): Where; studies share what they tune.
        watched ([`Watched`], *optional*): What to measure on the way.
        save_steps (`int`, defaults to 20): Updates between two checkpoints.

    Returns:
        `Path`: a folder with the LoRA, `log.json`, and `curve.json` where something was measured.
    """
    settings = {"tuning": settings_of(tuning), "watched": None if watched is None else settings_of(watched)}
    folder = Work(work.folder.parent / "tuned", work.weights).place(f"{tuning.method}-{tuning.reward}", settings)
    if (folder / "log.json").exists():
        return folder
    trainer = make_trainer(tuning, work, folder, save_steps)
    if watched is not None:
        trainer.add_callback(Watcher(trainer, watched, tuning, work, folder / "curve.json"))
    trainer.train(resume_from_checkpoint=CHECKPOINT.last_complete(folder))
    trainer.save_model()
    history = [row for row in trainer.state.log_history if "reward" in row or any("monitor" in key for key in row)]
    facts = {"global_step": trainer.state.global_step, "guard_kept_step": trainer.guard_kept_step}
    write_json(folder / "log.json", {**facts, "history": history})
    return folder


def make_trainer(tuning: Tuning, work: Work, folder: Path, save_steps: int = 20) -> DRaFTVTrainer:
    """Build the trainer of one way to tune."""
    arguments = tuning_arguments(tuning.steps) | {
        "output_dir": str(folder),
        "per_device_train_batch_size": tuning.batch_size,
        "learning_rate": tuning.learning_rate,
        "num_inference_steps": tuning.sampling.num_inference_steps,
        "guidance_scale": tuning.sampling.guidance_scale,
        "reward_augmentation": tuning.reward_augmentation,
        "reference_coef": tuning.reference_coef,
        # The graph of all steps at once would fill the memory of a small machine.
        "checkpointing": "none" if tuning.num_backprop_steps == 1 else "step",
        "vae_checkpointing": False,
        "save_steps": save_steps,
        "save_total_limit": 1,
        "seed": tuning.seed,
    }
    lora = lora_config(tuning.lora_rank)
    if tuning.method == "instructvideo":
        return _instructvideo_trainer(tuning, work, arguments | {"backprop": "last"}, lora)
    monitors = None
    if tuning.guard_steps is not None:
        arguments |= {"guard_steps": tuning.guard_steps, "guard_tolerance": tuning.guard_tolerance}
        arguments["sample_prompts"] = held_out_prompts(16, 300, split="validation")
        monitors = [_load_reward(name, work) for name in ("videorm", "image") if name != tuning.reward]
    arguments |= {"backprop": tuning.backprop, "num_backprop_steps": tuning.num_backprop_steps}
    args = DRaFTVConfig(**arguments, pipeline_kwargs=PIPELINE_KWARGS)
    prompts = held_out_prompts(tuning.num_prompts, tuning.seed, split="train")
    pipe = load_generator(work.weights.pipeline)
    reward = _load_reward(tuning.reward, work)
    return DRaFTVTrainer(pipe, reward, args, prompts, peft_config=lora, monitor_rewards=monitors)


def _instructvideo_trainer(
    tuning: Tuning, work: Work, arguments: Mapping[str, Any], lora: LoraConfig
) -> InstructVideoTrainer:
    """Build the trainer that edits rendered clips of the training split."""
    args = InstructVideoConfig(
        **arguments,
        num_frames=NUM_FRAMES,
        num_edit_steps=max(1, round(tuning.edit_share * tuning.sampling.num_inference_steps)),
        pipeline_kwargs={"clean_caption": False},
    )
    pipe = load_generator(work.weights.pipeline)
    if tuning.reward == "image":
        reward: Reward = load_image_reward(work.weights.videorm, num_segments=4, attenuation=1.0)
    else:
        reward = load_videorm(work.weights.videorm)
    return InstructVideoTrainer(pipe, reward, args, _real_clips(tuning, work), peft_config=lora)


def _real_clips(tuning: Tuning, work: Work) -> Dataset:
    """Write rendered clips of the training split, as real ones that InstructVideo edits."""
    folder = work.folder.parent / "real" / str(tuning.seed)
    rng = np.random.default_rng([tuning.seed, 3])
    rows = []
    for number in range(tuning.num_prompts):
        scene = random_scene(rng, two_things=0.0, split="train")
        path = folder / f"{number:04d}.mp4"
        frames_THWC = render(scene, rng)
        if not path.exists():
            save_clip(frames_THWC, path)
        rows.append({"prompt": write_prompt(scene, rng), "video": str(path)})
    return Dataset.from_list(rows)


def _load_reward(name: str, work: Work) -> Reward:
    match name:
        case "videorm":
            return load_videorm(work.weights.videorm)
        case "image":
            return load_image_reward(work.weights.videorm)
        case "motion":
            return FunctionReward(lambda frames, prompts: mean_motion(frames), name="motion")
    raise ValueError(f"reward must be videorm, image or motion, got {name!r}.")


class Watcher(TrainerCallback):
    """Measure the truth and every reward on fixed test prompts while a pipeline is tuned.

    Args:
        trainer ([`DRaFTVTrainer`]): Whose pipeline is measured.
        watched ([`Watched`]): On what, and how often.
        tuning ([`Tuning`]): How the pipeline is sampled.
        work ([`Work`]): Where the rewards are.
        path (`Path`): File of the curve; rows beyond a checkpoint that is resumed from are measured again.
    """

    def __init__(self, trainer: DRaFTVTrainer, watched: Watched, tuning: Tuning, work: Work, path: Path) -> None:
        self.trainer, self.watched, self.tuning, self.path = trainer, watched, tuning, path
        self.rewards = watched.load_rewards(work)
        self.prompts = held_out_prompts(watched.num_prompts, watched.seed)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure the start."""
        rows = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else []
        write_json(self.path, [row for row in rows if row["step"] <= state.global_step])
        if state.global_step == 0:
            self._measure(0)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure when it is time, and at the end."""
        if state.global_step % self.watched.every == 0 or control.should_training_stop:
            self._measure(state.global_step)

    def _measure(self, step: int) -> None:
        rows = json.loads(self.path.read_text(encoding="utf-8"))
        if any(row["step"] == step for row in rows):
            return
        measured = measure(self.trainer.pipe, self.prompts, self.tuning.sampling, self.watched.seed, 1, self.rewards)
        write_json(self.path, [*rows, {"step": step, **measured}])


def measure(
    pipe: DiffusionPipeline,
    prompts: Sequence[str],
    sampling: Sampling,
    seed: int,
    repeats: int,
    rewards: Mapping[str, Reward],
) -> Json:
    """Sample clips and return the truth, every reward and the motion of each, by name."""
    clips = sample_clips(pipe, prompts, sampling, seed, repeats)
    texts = [prompt for prompt in prompts for _ in range(repeats)]
    scores = {name: score_clips(reward, clips, texts) for name, reward in rewards.items()}
    return {"prompts": texts, **truths_of(clips, texts), **scores, MOTION: motion_of(clips)}


def judge_tuned(lora: Path | None, sampling: Sampling, judged: Judged, work: Work, lora_scale: float = 1.0) -> Json:
    """Sample prompts from a tuned pipeline and measure the clips; computed once.

    Args:
        lora (`Path`, *optional*): Folder of the LoRA; `None` for the pipeline as it is.
        sampling ([`Sampling`]): How to sample.
        judged ([`Judged`]): What.
        work ([`Work`]): Where it is kept, for all studies together.
        lora_scale (`float`, defaults to 1.0): Strength of the LoRA.

    Returns:
        `dict`: what [`measure`] returns.
    """
    settings = {
        "lora": None if lora is None else lora.name,
        "sampling": settings_of(sampling),
        "judged": settings_of(judged),
        "scale": lora_scale,
    }

    def compute() -> Json:
        pipe = load_generator(work.weights.pipeline)
        if lora is not None:
            load_lora(pipe, lora, lora_scale)
        rewards = {VIDEORM: load_videorm(work.weights.videorm), IMAGE: load_image_reward(work.weights.videorm)}
        prompts = held_out_prompts(judged.num_prompts, judged.seed, split=judged.split)
        return measure(pipe, prompts, sampling, judged.seed, judged.repeats, rewards)

    return Work(work.folder.parent / "judged", work.weights).cell("clips", settings, compute)


def compare_ways(ways: Mapping[str, Tuning], judged: Judged, work: Work, watched: Watched | None = None) -> Json:
    """Tune in several ways, and compare each with the untuned pipeline.

    Args:
        ways (`Mapping[str, Tuning]`): By the name that tables use.
        judged ([`Judged`]): On what.
        work ([`Work`]): Where; studies share what they tune.
        watched ([`Watched`], *optional*): What to measure on the way.

    Returns:
        `dict`: name to what [`compare`] returns.
    """
    found = {}
    for name, tuning in tqdm(ways.items(), desc="ways to tune"):
        base = judge_tuned(None, tuning.sampling, judged, work)
        found[name] = compare(base, judge_tuned(tune(tuning, work, watched), tuning.sampling, judged, work))
    return found


COMPARED = ("mean", "prompt_following", "video_quality", "motion", "looks", VIDEORM, IMAGE)


def compare(base: Json, tuned: Json) -> Json:
    """Compare two sets of clips of the same prompts and noise: win, tie and lose by each measure.

    Args:
        base (`dict`): Of [`judge_tuned`].
        tuned (`dict`): Of [`judge_tuned`], on the same.

    Returns:
        `dict`: measure to what [`~draftv_trainer.comparison.compare_rewards`] says; ties are ratings within
        `TIE_MARGIN`, and equal shares and rewards.
    """
    rated = ("mean", "prompt_following", "video_quality")
    return {
        name: compare_rewards(
            name, base[name], tuned[name], base["prompts"], TIE_MARGIN if name in rated else 0.0
        ).to_dict()
        for name in COMPARED
    }
