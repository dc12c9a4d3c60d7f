"""The tab in which clips are scored for a prompt: ranked, with what each frame contributes."""

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from options import Options
from PIL import Image
from templates import fill, problem

from videorm_hf.models.videorm.modeling_videorm import VideoRMModel
from videorm_hf.models.videorm.processing_videorm import VideoRMProcessor
from videorm_hf.scoring.frame_contributions import ExplainedScore, explain_videos

ENDINGS = [".mp4", ".mov", ".webm", ".mkv", ".avi", ".gif"]
MAX_CLIPS = 12
MAX_PROMPT = 500
_SIDE = 160
# Why a clip has no reward, for somebody who is no programmer.
_REASONS = {
    "missing": "the file is gone; upload it again",
    "unreadable": "the file cannot be read",
    "empty": "the file is empty",
    "not_a_video": "this is not a video",
    "no_video_stream": "there is sound but no picture in it",
    "no_frames": "there is not one frame in it",
    "truncated": "the file is cut short; upload it again",
    "decode_error": "its pictures are damaged, or in a format that cannot be read here",
    "decoder_crashed": "reading it made the decoder crash",
    "timeout": "reading it took too long",
    "not_finite": "the model gave no number for it",
}


def build_score_tab(model: VideoRMModel, processor: VideoRMProcessor, options: Options) -> None:
    """Add the components of the tab.

    Args:
        model ([`VideoRMModel`]): The reward.
        processor ([`VideoRMProcessor`]): Its processor.
        options ([`Options`]): Examples.
    """
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            files = gr.File(label=f"Clips (at most {MAX_CLIPS})", file_count="multiple", file_types=ENDINGS)
            prompt = gr.Textbox(label="Prompt", placeholder="What should the clips show?", max_length=MAX_PROMPT)
            button = gr.Button("Score", variant="primary", elem_id="score-button")
            if options.example_clips:
                clips = [str(path) for path in options.example_clips]
                labels = [f"{len(clips)} drawn clips: 1 as told, {len(clips) - 1} with a fault"]
                gr.Examples([[clips, options.prompts[0]]], [files, prompt], label="Try it with", example_labels=labels)
        with gr.Column(scale=2, min_width=300):
            ranking = gr.HTML(fill("score_intro", endings=ENDINGS), elem_id="ranking")
    # The process that decoding starts from imports torch, which the first visitor should not have to wait for.
    explain_videos(model, processor, ["no file"], "no prompt")
    action = make_ranking(model, processor)
    gr.on([button.click, prompt.submit], action, [files, prompt], ranking, concurrency_id="model", api_name="score")


def make_ranking(model: VideoRMModel, processor: VideoRMProcessor) -> Callable[[list[str] | None, str], str]:
    """Make the function behind the button.

    Args:
        model ([`VideoRMModel`]): The reward.
        processor ([`VideoRMProcessor`]): Its processor.

    Returns:
        `Callable`: takes paths of uploaded files and a prompt, returns HTML.
    """

    def rank(files: list[str] | None, prompt: str) -> str:
        if not files:
            return problem("There is no clip yet: drop one or several under “Clips”.")
        if len(files) > MAX_CLIPS:
            return problem(f"At most {MAX_CLIPS} clips are scored at once: got {len(files)}.")
        if not prompt.strip():
            return problem("There is no prompt yet: write what the clips should show.")
        scores = explain_videos(model, processor, files, prompt.strip())
        return fill("ranking", prompt=prompt.strip(), **_rows(scores))

    return rank


def _rows(scores: Sequence[ExplainedScore]) -> dict[str, Any]:
    """Return what the template shows: clips from best to worst, then those that could not be scored."""
    # The reward is the sum of what the frames contribute.
    good = sorted((score for score in scores if score.contributions), key=lambda each: -sum(each.contributions))
    means = [np.mean(score.contributions) for score in good]
    furthest = max(
        (np.abs(np.subtract(s.contributions, m)).max() for s, m in zip(good, means, strict=True)), default=0
    )
    clips = [
        {
            "name": Path(score.score.video).name,
            "reward": score.score.reward,
            "frames": [
                {"picture": _picture(frame), "value": value, "bar": (value - mean) / furthest if furthest else 0.0}
                for frame, value in zip(score.frames_THWC, score.contributions, strict=True)
            ],
        }
        for score, mean in zip(good, means, strict=True)
    ]
    failed = [
        {"name": Path(each.score.video).name, "reason": _REASONS[each.score.error]}
        for each in scores
        if each.score.error is not None
    ]
    return {"clips": clips, "failed": failed}


def _picture(frame_HWC: np.ndarray) -> str:
    """Return a frame as an address that a page can hold."""
    image = Image.fromarray(np.ascontiguousarray(frame_HWC))
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
