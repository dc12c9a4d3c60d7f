"""The page: three tabs over one reward model."""

import html

import gradio as gr
from arena_tab import build_arena_tab
from compare_tab import build_compare_tab
from options import Options
from score_tab import build_score_tab
from transformers import AutoProcessor

from videorm_hf.scoring.scorer import load_model

_DAY = 24 * 3600


def build_page(options: Options) -> gr.Blocks:
    """Build the page and load the reward model.

    Args:
        options ([`Options`]): What it runs on.

    Returns:
        `gradio.Blocks`: not yet launched.
    """
    model, processor = load_model(options.reward), AutoProcessor.from_pretrained(options.reward)
    with gr.Blocks(title="VIDEORM", delete_cache=(_DAY // 24, _DAY)) as page:
        gr.HTML(f"<h1>VIDEORM</h1><p>{html.escape(options.note)}</p>", elem_id="title")
        with gr.Tab("Score", id="score"):
            build_score_tab(model, processor, options)
        with gr.Tab("Compare", id="compare"):
            build_compare_tab(model, processor, options)
        with gr.Tab("Arena", id="arena"):
            build_arena_tab(page, options)
    return page
