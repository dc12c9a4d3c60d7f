"""Tiny real diffusers pipelines and rewards, built locally: nothing is downloaded and nothing is mocked."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import T5TokenizerFast, UMT5Config, UMT5EncoderModel

from draftv_trainer import DRaFTVConfig

WORDS = "a an the red green blue dog cat bird circle square runs jumps falls left right up down in on grass".split()
PROMPTS = ["a red dog runs", "a blue cat"]


def tiny_t5_tokenizer() -> T5TokenizerFast:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -8.0)]
    pieces += [(f"▁{word}", -2.0) for word in WORDS]
    pieces += [(letter, -6.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    return T5TokenizerFast(vocab=pieces, extra_ids=0)


def unipc_flow_scheduler() -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def euler_flow_scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=3.0)


def tiny_wan(scheduler: UniPCMultistepScheduler | FlowMatchEulerDiscreteScheduler | None = None) -> WanPipeline:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = tiny_t5_tokenizer()
        text_encoder = UMT5EncoderModel(
            UMT5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        )
        transformer = WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=16,
            freq_dim=16,
            ffn_dim=32,
            num_layers=2,
            rope_max_seq_len=32,
        )
        vae = AutoencoderKLWan(
            base_dim=16,
            z_dim=4,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        )
        # Random weights of this size hardly let the latents show in the frames: less bias, larger predictions.
        transformer.proj_out.weight.data.mul_(3.0)
        for name, parameter in vae.named_parameters():
            if name.endswith("bias"):
                parameter.data.mul_(0.3)
    pipe = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder.eval(),
        vae=vae.eval(),
        scheduler=scheduler or unipc_flow_scheduler(),
        transformer=transformer.eval(),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


# Sizes that the tiny pipeline samples in a few hundredths of a second: 2 latent frames of 2 x 2.
TINY_SIZE = {"height": 16, "width": 16, "num_frames": 5, "guidance_scale": 5.0, "max_sequence_length": 8}


def tiny_args(output_dir: str | Path, **overrides: Any) -> DRaFTVConfig:
    settings: dict[str, Any] = {
        "num_backprop_steps": 2,
        "num_inference_steps": 3,
        "height": 16,
        "width": 16,
        "num_frames": 5,
        "guidance_scale": 5.0,
        "pipeline_kwargs": {"max_sequence_length": 8},
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "max_steps": 3,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return DRaFTVConfig(output_dir=str(output_dir), **{**settings, **overrides})


def redness(frames: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    return (frames[:, :, 0] - frames[:, :, 2]).mean(dim=(1, 2, 3))


def motion(frames: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    return (frames[:, 1:] - frames[:, :-1]).square().mean(dim=(1, 2, 3, 4))


def generators(num: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + index) for index in range(num)]


def infer(pipe: WanPipeline, num_inference_steps: int = 3, **overrides: Any) -> torch.Tensor:
    """Ordinary inference, as a user of diffusers writes it."""
    arguments = {**TINY_SIZE, "generator": generators(len(PROMPTS)), "output_type": "pt", **overrides}
    return pipe(PROMPTS, num_inference_steps=num_inference_steps, **arguments).frames


def lora_weights(pipe: WanPipeline) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in pipe.transformer.named_parameters() if ".lora_" in name}


def all_weights(pipe: WanPipeline) -> dict[str, torch.Tensor]:
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    return {f"{name}.{key}": w.clone() for name, part in modules.items() for key, w in part.state_dict().items()}
