"""The page: three tabs over one reward model."""

import gradio as gr
from arena_tab import build_arena_tab
from compare_tab import build_compare_tab
from options import Options
from score_tab import build_score_tab
from templates import fill
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
        gr.HTML(fill("title", note=options.note), elem_id="title")
        # Out of the tabs: what lies in a tab exists only once it is open, and would forget who votes.
        rater = gr.BrowserState("", storage_key="videorm-arena-rater", secret="videorm-arena")  # a name, no secret
        with gr.Tab("Score", id="score"):
            build_score_tab(model, processor, options)
        with gr.Tab("Compare", id="compare"):
            build_compare_tab(model, processor, options)
        with gr.Tab("Arena", id="arena") as arena:
            build_arena_tab(arena, rater, options)
    return page
