"""Models for the demo, built on the spot with random weights: real classes, small sizes, nothing to download.

The VIDEORM keeps CLIP's true tokenizer and input size; the Wan pipeline keeps every component of the real one.
"""

import os

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel

from videorm_hf import VideoRMConfig, VideoRMModel, VideoRMProcessor, VideoRMVideoProcessor
from videorm_hf.models.conversion import clip_tokenizer


def save_tiny_videorm(folder: str | os.PathLike, seed: int = 0) -> None:
    """Write a complete VIDEORM folder, model and processor, with random weights."""
    torch.manual_seed(seed)
    # Wider initial weights than CLIP's, so that different clips get visibly different rewards.
    tower = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    tower |= {"initializer_range": 0.1, "initializer_factor": 2.0}
    config = VideoRMConfig(
        text_config={**tower, "eos_token_id": 49407, "bos_token_id": 49406, "pad_token_id": 49407},
        vision_config={**tower, "image_size": 224, "patch_size": 32},
        projection_dim=64,
        temporal_num_layers=2,
    )
    VideoRMModel(config).save_pretrained(folder)
    VideoRMProcessor(VideoRMVideoProcessor(), clip_tokenizer()).save_pretrained(folder)


def tiny_wan(seed: int = 0) -> WanPipeline:
    """Build a Wan text-to-video pipeline with random weights; its text encoder reads bytes, not a vocabulary."""
    torch.manual_seed(seed)
    tokenizer = ByT5Tokenizer()
    text_encoder = UMT5EncoderModel(
        UMT5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    )
    transformer = WanTransformer3DModel(
        num_attention_heads=4, attention_head_dim=16, text_dim=32, freq_dim=32, ffn_dim=128, num_layers=3
    )
    vae = AutoencoderKLWan(base_dim=8, num_res_blocks=1)
    pipe = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder.eval(),
        transformer=transformer.eval(),
        vae=vae.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
