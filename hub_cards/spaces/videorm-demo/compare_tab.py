"""The tab that samples a prompt from the base pipeline and from the tuned one, from the same noise."""

import functools
import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import torch
from diffusers import DiffusionPipeline
from miniature_data import write_shown
from options import Options
from templates import fill, problem

from draftv_trainer import sample
from draftv_trainer.cli.arguments import trained_settings
from draftv_trainer.lora import load_lora, set_lora_scale
from videorm_hf.models.videorm.modeling_videorm import VideoRMModel
from videorm_hf.models.videorm.processing_videorm import VideoRMProcessor
from videorm_hf.rewards import VideoRMReward

logger = logging.getLogger(__name__)
MAX_PROMPT = 500
MAX_SEED = 2**31 - 1
_SECONDS_KEPT = 3600
Shown = tuple[str | None, str | None, str]


def build_compare_tab(model: VideoRMModel, processor: VideoRMProcessor, options: Options) -> None:
    """Add the components of the tab.

    Args:
        model ([`VideoRMModel`]): The reward.
        processor ([`VideoRMProcessor`]): Its processor.
        options ([`Options`]): The pipeline and the LoRA.
    """
    with gr.Row():
        prompt = gr.Textbox(
            label="Prompt",
            value=options.prompts[0] if options.prompts else "",
            max_length=MAX_PROMPT,
            scale=3,
            min_width=300,
            elem_id="compare-prompt",
        )
        seed = gr.Number(label="Seed", value=0, precision=0, minimum=0, maximum=MAX_SEED, scale=1, min_width=120)
        scale = gr.Slider(0, 1, value=1, step=0.05, label="Strength of the tuning", scale=2, min_width=180)
    button = gr.Button("Sample both", variant="primary", elem_id="compare-button")
    summary = gr.HTML(fill("compare_intro"), elem_id="compare-summary")
    with gr.Row(elem_classes="pair"):
        base, tuned = (
            gr.Video(
                label=name,
                interactive=False,
                autoplay=True,
                loop=True,
                buttons=[],
                min_width=140,
                elem_id=f"compare-{name}",
            )
            for name in ("base", "tuned")
        )
    if options.prompts:
        gr.Examples([[text] for text in options.prompts[:6]], [prompt], label="Prompts")
    action = make_comparison(VideoRMReward(model, processor), options)
    inputs, outputs = [prompt, seed, scale], [base, tuned, summary]
    gr.on([button.click, prompt.submit], action, inputs, outputs, concurrency_id="model", api_name="compare")


def make_comparison(reward: VideoRMReward, options: Options) -> Callable[[str, float, float], Shown]:
    """Make the function behind the button; the pipeline is loaded when it is first pressed.

    Args:
        reward ([`VideoRMReward`]): Scores both.
        options ([`Options`]): The pipeline and the LoRA.

    Returns:
        `Callable`: takes prompt, seed and strength of the LoRA; returns two files and HTML.
    """

    @functools.cache
    def load() -> DiffusionPipeline:
        pipe = DiffusionPipeline.from_pretrained(options.base, dtype=options.dtype)
        pipe.set_progress_bar_config(disable=True)
        pipe.to("cuda" if torch.cuda.is_available() else "cpu")
        load_lora(pipe, options.tuned)
        return pipe

    call = trained_settings(options.tuned)

    def sample_one(prompt: str, seed: int, scale: float) -> tuple[str, float]:
        pipe = load()
        set_lora_scale(pipe, scale)
        frames_BTCHW = sample(pipe, [prompt], generator=torch.Generator("cpu").manual_seed(seed), **call).float()
        with torch.no_grad():
            value = reward(frames_BTCHW, [prompt]).item()
        return str(write_shown(frames_BTCHW[0], _new_file(options.data / "served" / "sampled"))), value

    def compare(prompt: str, seed: float, scale: float) -> Shown:
        if not prompt.strip() or len(prompt) > MAX_PROMPT:
            return None, None, problem(f"Write a prompt of 1 to {MAX_PROMPT} characters.")
        if seed is None or not 0 <= seed <= MAX_SEED or seed != int(seed):
            return None, None, problem(f"The seed must be a whole number from 0 to {MAX_SEED}.")
        if not 0 <= scale <= 1:
            return None, None, problem("The strength must lie between 0, the base pipeline, and 1.")
        (base, before), (tuned, after) = (sample_one(prompt.strip(), int(seed), each) for each in (0.0, scale))
        summary = fill("compared", prompt=prompt.strip(), seed=int(seed), scale=scale, before=before, after=after)
        return base, tuned, summary

    return compare


def _new_file(folder: Path) -> Path:
    """Name a new video, and remove those of pages that were left long ago: until then a page asks for its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if time.time() - old.stat().st_mtime > _SECONDS_KEPT:
            old.unlink()
    return folder / f"{uuid.uuid4().hex}.mp4"
