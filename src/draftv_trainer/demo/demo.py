"""Score clips, tune t2v-mini by videorm-mini, and let a judge that reads the pixels say what came of it.

The judge ([`videorm_hf.miniature.judge`]) is the truth of the small world. No gradient ever comes from it: during
training it is a monitor, afterwards it rates the clips of prompts and noise that training has not seen.
"""

import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import DiffusionPipeline
from rich.console import Console
from rich.table import Table
from tqdm import tqdm
from transformers import AutoModel, AutoProcessor

from draftv_trainer.callbacks import RewardProgressCallback
from draftv_trainer.comparison import RewardComparison, compare_rewards
from draftv_trainer.demo.miniature import (
    GUIDANCE_SCALE,
    NUM_INFERENCE_STEPS,
    PIPELINE_KWARGS,
    PIXEL_SCALE,
    SIZE,
    TIE_MARGIN,
    UPDATES,
    lora_config,
    tuning_arguments,
)
from draftv_trainer.demo.page import ScoredClip, ShownPair, draw_curves, write_page, write_strip
from draftv_trainer.draftv_config import DRaFTVConfig
from draftv_trainer.draftv_trainer import DRaFTVTrainer
from draftv_trainer.sampling import sample
from videorm_hf.miniature.clips import render
from videorm_hf.miniature.faults import render_with_fault
from videorm_hf.miniature.judge import judge, rate_frames
from videorm_hf.miniature.scenes import Scene, Thing, distinct_prompts
from videorm_hf.miniature.shipped import T2V_MINI, VIDEORM_MINI
from videorm_hf.rewards import VideoRMReward
from videorm_hf.scoring import score_videos
from videorm_hf.videoprefer.video_io import to_bytes, write_video

SEED = 0
# One clip as it should be, and what is put into others: a fault each.
SHOWN_FAULTS = ("wrong_direction", "wrong_color", "shuffled", "jitter", "flicker")
SCENE = Scene((Thing("circle", "red", "large", "left", "fast"),), "white")
SCENE_PROMPT = "a big red ball moves to the left, on a white background"
MEASURES = ("prompt following", "motion as told", "video quality", "judge's mean", "VIDEORM")


@dataclass(frozen=True)
class Scale:
    """How much the demo does.

    Args:
        train_steps (`int`): Updates of the LoRA.
        guard_steps (`int`): Updates between two looks of the judge.
        num_train_prompts (`int`): Prompts that the LoRA is tuned on.
        num_guard_prompts (`int`): Prompts that the judge watches meanwhile.
        num_test_prompts (`int`): Prompts that the result is judged on.
        num_shown (`int`): Of these, how many are shown, the first ones.
        inference_steps (`int`): Sampling steps.
    """

    train_steps: int = UPDATES
    guard_steps: int = 10
    num_train_prompts: int = 240
    num_guard_prompts: int = 12
    num_test_prompts: int = 64
    num_shown: int = 8
    inference_steps: int = NUM_INFERENCE_STEPS


SMOKE = Scale(2, 1, 4, 2, 4, 2, 2)


@dataclass(frozen=True)
class Judged:
    """What the judge and the reward say of clips, by measure, and the clips as bytes (N, T, H, W, 3)."""

    values: dict[str, list[float]]
    clips: np.ndarray


def run_demo(output: Path, scale: Scale | None = None) -> dict[str, RewardComparison]:
    """Run the demo and write `output/index.html` and `output/demo.json`.

    Args:
        output (`Path`): A folder, made if it is not there.
        scale ([`Scale`], *optional*): How much to do.

    Returns:
        `dict[str, RewardComparison]`: tuned against untuned by each of `MEASURES`, on prompts and noise that training
        has not seen.
    """
    scale = scale if scale is not None else Scale()
    begin = time.monotonic()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    console = Console()
    output.mkdir(parents=True, exist_ok=True)

    console.rule("1. videorm-mini scores clips")
    scored = score_clips(output)
    show_scores(console, scored)

    console.rule("2. t2v-mini is tuned by that reward")
    reward = VideoRMReward.from_pretrained(VIDEORM_MINI)
    test_prompts = draw_prompts(scale.num_test_prompts, "test")
    before = sample_and_judge(load_pipeline(), test_prompts, reward, scale)
    trainer = tune(reward, scale, output)
    trainer.save_model()

    console.rule("3. The judge compares before and after")
    after = sample_and_judge(trainer.pipe, test_prompts, reward, scale)
    compared = {
        name: compare_rewards(
            name, before.values[name], after.values[name], test_prompts, 0.0 if name == "VIDEORM" else TIE_MARGIN
        )
        for name in MEASURES
    }
    show_comparison(console, compared)

    pairs = [
        ShownPair(prompt, write_clip(before, number, "before", output), write_clip(after, number, "after", output))
        for number, prompt in enumerate(test_prompts[: scale.num_shown])
    ]
    draw_curves(trainer.state.log_history, output)
    facts = {
        "seconds": round(time.monotonic() - begin),
        "train_steps": trainer.state.global_step,
        "guard_kept_step": trainer.guard_kept_step,
        "trained_weights": sum(p.numel() for p in trainer.pipe.transformer.parameters() if p.requires_grad),
        "frozen_weights": sum(p.numel() for p in trainer.pipe.transformer.parameters() if not p.requires_grad),
        **asdict(scale),
    }
    results = {"facts": facts, "compared": {name: result.to_dict() for name, result in compared.items()}}
    (output / "demo.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page = write_page(output / "index.html", scored, pairs, compared, facts)
    console.print(f"{facts['seconds']} seconds in all. Open {page.resolve().as_uri()}", soft_wrap=True)
    return compared


def draw_prompts(number: int, split: str) -> list[str]:
    """Draw distinct prompts whose combinations of colour, shape and motion are in one split."""
    return distinct_prompts(number, np.random.default_rng(SEED), two_things=0.0, split=split)


def load_pipeline() -> DiffusionPipeline:
    """Load t2v-mini as any pipeline is loaded."""
    pipe = DiffusionPipeline.from_pretrained(T2V_MINI)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def score_clips(output: Path) -> list[ScoredClip]:
    """Write a clip that shows its prompt and some that do not, and score the files as any clips are scored."""
    # From the same seed: they start at the same place, in the same light.
    clips = {"as it should be": render(SCENE, np.random.default_rng(SEED))}
    for fault in SHOWN_FAULTS:
        clips[fault.replace("_", " ")] = render_with_fault(SCENE, fault, 0.8, np.random.default_rng(SEED))
    paths = {name: output / "clips" / f"{name.replace(' ', '_')}.mp4" for name in clips}
    for name, frames_THWC in clips.items():
        write_video(torch.from_numpy(frames_THWC).permute(0, 3, 1, 2), paths[name], scale=PIXEL_SCALE)
    model, processor = AutoModel.from_pretrained(VIDEORM_MINI), AutoProcessor.from_pretrained(VIDEORM_MINI)
    scores = score_videos(model, list(paths.values()), [SCENE_PROMPT] * len(paths), processor=processor)
    scored = []
    for (name, frames_THWC), score in zip(clips.items(), scores, strict=True):
        if score.reward is None:
            raise OSError(f"{score.video} could not be scored: {score.message}")
        strip = write_strip(frames_THWC, output / "clips" / f"{paths[name].stem}.png")
        verdict = judge(frames_THWC, SCENE_PROMPT)
        rating = (verdict.prompt_following + verdict.video_quality) / 2
        scored.append(ScoredClip(name, SCENE_PROMPT, score.reward, rating, strip.relative_to(output).as_posix()))
    return sorted(scored, key=lambda clip: -clip.reward)


def sample_and_judge(pipe: DiffusionPipeline, prompts: list[str], reward: VideoRMReward, scale: Scale) -> Judged:
    """Sample a clip of every prompt, each from its own fixed noise, and let judge and reward rate it."""
    clips, rewards = [], []
    for start in tqdm(range(0, len(prompts), 8), desc=f"{len(prompts)} clips", leave=False):
        batch = prompts[start : start + 8]
        noise = [torch.Generator().manual_seed(10_000 + start + place) for place in range(len(batch))]
        frames_BTCHW = sample(
            pipe,
            batch,
            num_inference_steps=scale.inference_steps,
            generator=noise,
            guidance_scale=GUIDANCE_SCALE,
            **SIZE,
            **PIPELINE_KWARGS,
        )
        clips.append(to_bytes(frames_BTCHW).permute(0, 1, 3, 4, 2).numpy())
        with torch.no_grad():
            rewards += reward(frames_BTCHW, batch).tolist()
    frames_NTHWC = np.concatenate(clips)
    verdicts = [judge(frames_THWC, prompt) for frames_THWC, prompt in zip(frames_NTHWC, prompts, strict=True)]
    moving = [[holds for claim, holds in verdict.claims.items() if " motion=" in claim] for verdict in verdicts]
    values = {
        "prompt following": [verdict.prompt_following for verdict in verdicts],
        "motion as told": [float(np.mean(claims)) for claims in moving],
        "video quality": [verdict.video_quality for verdict in verdicts],
        "judge's mean": [(verdict.prompt_following + verdict.video_quality) / 2 for verdict in verdicts],
        "VIDEORM": rewards,
    }
    return Judged(values, frames_NTHWC)


def tune(reward: VideoRMReward, scale: Scale, output: Path) -> DRaFTVTrainer:
    """Tune a LoRA of the pipeline; the judge watches, and stops the run if what it sees gets worse."""
    args = DRaFTVConfig(
        **tuning_arguments(scale.train_steps) | {"num_inference_steps": scale.inference_steps},
        output_dir=str(output / "lora"),
        per_device_train_batch_size=2,  # two by two, to stay within a laptop's memory
        gradient_accumulation_steps=2,
        pipeline_kwargs=PIPELINE_KWARGS,
        guard_steps=scale.guard_steps,
        monitor_motion=False,  # the judge alone is asked
        sample_prompts=draw_prompts(scale.num_guard_prompts, "validation"),
        logging_steps=1,
        disable_tqdm=False,
        seed=SEED,
        save_strategy="no",
    )
    trainer = DRaFTVTrainer(
        model=load_pipeline(),
        reward_funcs=reward,
        args=args,
        train_dataset=draw_prompts(scale.num_train_prompts, "train"),
        peft_config=lora_config(),
        monitor_rewards=rate_frames,
    )
    trainer.remove_callback(RewardProgressCallback)
    trainer.add_callback(RewardProgressCallback(write_logs=False))
    trainer.train()
    return trainer


def write_clip(judged: Judged, number: int, name: str, output: Path) -> tuple[str, dict[str, float]]:
    """Write a clip as a video; return its place in the folder and what is said of it."""
    video = f"videos/{number}_{name}.mp4"
    write_video(torch.from_numpy(judged.clips[number]).permute(0, 3, 1, 2), output / video, scale=PIXEL_SCALE)
    return video, {measure: values[number] for measure, values in judged.values.items()}


def show_scores(console: Console, scored: list[ScoredClip]) -> None:
    """Show the scored clips in the terminal."""
    table = Table("VIDEORM", "judge, 1 to 5", "clip", title=f"“{SCENE_PROMPT}”", title_justify="left")
    for clip in scored:
        table.add_row(f"{clip.reward:+.3f}", f"{clip.rating:.2f}", clip.name)
    console.print(table)


def show_comparison(console: Console, compared: dict[str, RewardComparison]) -> None:
    """Show what improved and what did not in the terminal."""
    first = next(iter(compared.values()))
    title = f"{first.num_pairs} prompts and noises that training has not seen"
    columns = ("measure", "before", "after", "change (95 % interval)", "won/tied/lost")
    table = Table(*columns, title=title, title_justify="left")
    for name, result in compared.items():
        low, high = result.difference_interval or (float("nan"), float("nan"))
        table.add_row(
            *(name, f"{result.mean_a:.3f}", f"{result.mean_b:.3f}"),
            *(f"{result.difference:+.3f} ({low:+.3f}, {high:+.3f})", f"{result.wins}/{result.ties}/{result.losses}"),
        )
    console.print(table)
    for sentence in map(in_words, compared.values()):
        console.print(f"  {sentence}")


def in_words(result: RewardComparison) -> str:
    """Say plainly what became of a measure."""
    low, high = result.difference_interval or (0.0, 0.0)
    change = f"by {abs(result.difference):.3f} (95 % interval of the change {low:+.3f} to {high:+.3f})"
    if low > 0:
        return f"{result.name} improved {change}."
    if high < 0:
        return f"{result.name} got worse {change}."
    return f"{result.name} did not change beyond chance: {result.difference:+.3f} ({low:+.3f} to {high:+.3f})."
