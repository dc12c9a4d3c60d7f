"""DRaFT-V on one GPU: time and peak memory of a step over K and checkpointing, at the sizes of real models.

Two pipelines with random weights, on which neither figure depends: Wan 2.1 1.3B at 480 x 832, 81 frames, and
ModelScope at 256 x 256, 16 frames; in bfloat16 with a float32 LoRA, classifier-free guidance, one video a step. The
reward is a VIDEORM on ViT-H/14 over 8 frames. Wan's text encoder is one layer of its width: prompts are encoded once
and cost nothing in training (`precompute_prompt_embeds`). Each cell is a fresh process that takes one step to warm up;
one that does not fit is reported as such.

    python benchmarks/draftv_gpu.py            # needs a CUDA device
    python benchmarks/draftv_gpu.py --smoke    # checks itself at tiny sizes on a CPU, writes nothing
"""

import argparse
import json
import math
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import open_clip
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLWan,
    DDIMScheduler,
    DiffusionPipeline,
    TextToVideoSDPipeline,
    UNet3DConditionModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    T5TokenizerFast,
    TrainerCallback,
    UMT5Config,
    UMT5EncoderModel,
)

from draftv_trainer import DRaFTVConfig, DRaFTVTrainer
from videorm_hf import VideoRMConfig, VideoRMModel, VideoRMProcessor, VideoRMVideoProcessor
from videorm_hf.models.open_clip_layout import clip_configs, clip_tokenizer
from videorm_hf.rewards import VideoRMReward

MODES = ("none", "block", "step", "nested")
# ModelScope's denoiser cannot checkpoint its blocks.
MODES_OF = {"wan": MODES, "modelscope": ("none", "step")}
# Frames, height, width, guidance scale.
SIZES = {"wan": (81, 480, 832, 5.0), "modelscope": (16, 256, 256, 9.0)}
SMOKE_SIZES = {"wan": (5, 16, 16, 5.0), "modelscope": (4, 16, 16, 9.0)}
PROMPT = "a corgi rides a skateboard along the beach at sunset"


def main() -> None:
    """Measure every cell, print the table and write JSON; or measure one cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipelines", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--num-backprop-steps", type=int, nargs="+", default=[1, 5, 10])
    parser.add_argument("--num-inference-steps", type=int, default=20)
    parser.add_argument("--steps", type=int, default=2, help="measured steps, after one to warm up")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes on a CPU; checks that every cell works")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "draftv_gpu.json")
    parser.add_argument("--cell", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell is not None:
        print(json.dumps(measure(**arguments.cell)))
        return
    if arguments.smoke:
        arguments.num_backprop_steps, arguments.num_inference_steps, arguments.steps = [1, 2], 2, 1
    elif not torch.cuda.is_available():
        raise SystemExit("This benchmark measures one CUDA device, and there is none. --smoke checks it on a CPU.")
    cells = [
        run_cell(arguments, pipeline, mode, k)
        for pipeline in arguments.pipelines
        for mode in arguments.modes
        if mode in MODES_OF[pipeline]
        for k in arguments.num_backprop_steps
    ]
    results = {"machine": machine(arguments.smoke), "settings": settings(arguments), "cells": cells}
    if arguments.smoke:
        failed = [cell for cell in cells if "step_s" not in cell or not all(map(math.isfinite, cell["rewards"]))]
        if failed:
            raise SystemExit(f"{len(failed)} of {len(cells)} cells did not work: {failed}")
        return
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def run_cell(arguments: argparse.Namespace, pipeline: str, mode: str, k: int) -> dict[str, Any]:
    """Measure one cell in a process of its own."""
    cell = {"pipeline": pipeline, "mode": mode, "num_backprop_steps": k}
    job = {**cell, "num_steps": arguments.num_inference_steps, "steps": arguments.steps, "smoke": arguments.smoke}
    command = [sys.executable, __file__, "--cell", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{cell} failed:\n{done.stderr[-4000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{pipeline:10} {mode:7} K={k:2}  {measured}", flush=True)
    return {**cell, **measured}


def measure(
    pipeline: str, mode: str, num_backprop_steps: int, num_steps: int, steps: int, smoke: bool
) -> dict[str, Any]:
    """Take optimisation steps and return their median time and peak memory."""
    device = torch.device("cpu" if smoke else "cuda")
    torch.manual_seed(0)
    with device:
        reward = videorm(smoke)
        if pipeline == "modelscope":
            pipe: DiffusionPipeline = modelscope(smoke)
        else:
            pipe = tiny_wan() if smoke else wan_1_3b()
    num_frames, height, width, guidance_scale = (SMOKE_SIZES if smoke else SIZES)[pipeline]
    with tempfile.TemporaryDirectory() as folder:
        config = DRaFTVConfig(
            output_dir=folder,
            num_backprop_steps=num_backprop_steps,
            num_inference_steps=num_steps,
            checkpointing=mode,
            num_frames=num_frames,
            height=height,
            width=width,
            guidance_scale=guidance_scale,
            precompute_prompt_embeds=True,
            max_steps=steps + 1,
            save_strategy="no",
            use_cpu=smoke,
            disable_tqdm=True,
            report_to=[],
        )
        trainer = DRaFTVTrainer(pipe.to(torch.bfloat16), reward, config, [PROMPT])
        meter = StepMeter(device)
        trainer.add_callback(meter)
        try:
            trainer.train()
        except torch.OutOfMemoryError:
            return {"out_of_memory": True}
    return {
        "step_s": round(statistics.median(meter.seconds[1:]), 3),
        "peak_gib": round(max(meter.peaks[1:]) / 2**30, 3),
        "weights_gib": round(meter.before[0] / 2**30, 3),
        "rewards": [entry["reward"] for entry in trainer.state.log_history if "reward" in entry],
    }


class StepMeter(TrainerCallback):
    """Time and peak memory of each optimisation step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: list[float] = []
        self.peaks: list[int] = []
        self.before: list[int] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Begin."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self.before.append(self.memory())
        self.started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """End."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.started)
        self.peaks.append(self.memory())

    def memory(self) -> int:
        """Return the peak in bytes: allocated on the device, or resident in the process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def wan_1_3b() -> WanPipeline:
    """Build Wan 2.1 1.3B, its text encoder cut to one layer."""
    transformer = WanTransformer3DModel(
        num_attention_heads=12, attention_head_dim=128, text_dim=4096, freq_dim=256, ffn_dim=8960, num_layers=30
    )
    return wan(transformer, AutoencoderKLWan(), text_width=4096)


def tiny_wan() -> WanPipeline:
    """Build a Wan that a CPU runs in a moment."""
    transformer = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, text_dim=16, freq_dim=16, ffn_dim=32, num_layers=2
    )
    return wan(transformer, AutoencoderKLWan(base_dim=8, num_res_blocks=1), text_width=16)


def wan(transformer: WanTransformer3DModel, vae: AutoencoderKLWan, text_width: int) -> WanPipeline:
    """Put a Wan together."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    tokenizer = T5TokenizerFast(vocab=pieces + [(chr(code), -6.0) for code in range(97, 123)], extra_ids=0)
    text = UMT5Config(
        vocab_size=len(tokenizer), d_model=text_width, d_kv=8, d_ff=text_width, num_layers=1, num_heads=text_width // 8
    )
    return WanPipeline(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(text).eval(),
        vae=vae.eval(),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        transformer=transformer.eval(),
    )


def modelscope(smoke: bool) -> TextToVideoSDPipeline:
    """Build ModelScope's text-to-video model, or a tiny one of its kind."""
    text_width = 16 if smoke else 1024
    text = CLIPTextConfig(
        hidden_size=text_width,
        intermediate_size=4 * text_width,
        num_hidden_layers=1 if smoke else 23,
        num_attention_heads=2 if smoke else 16,
        hidden_act="gelu",
    )
    small = {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4}
    unet = UNet3DConditionModel(
        cross_attention_dim=text_width,
        **({**small, "layers_per_block": 1, "attention_head_dim": 4} if smoke else {"attention_head_dim": 64}),
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        **(small if smoke else {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}),
    )
    return TextToVideoSDPipeline(
        vae=vae.eval(),
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=clip_tokenizer(),
        unet=unet.eval(),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        ),
    )


def videorm(smoke: bool) -> VideoRMReward:
    """Build a VIDEORM on ViT-H/14, or a tiny one."""
    if smoke:
        tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = VideoRMConfig(text_config=tower, vision_config=tower, projection_dim=64, temporal_num_layers=1)
    else:
        of_open_clip = open_clip.get_model_config("ViT-H-14")
        text, vision = clip_configs(of_open_clip, "ViT-H-14")
        config = VideoRMConfig(text_config=text, vision_config=vision, projection_dim=of_open_clip["embed_dim"])
    processor = VideoRMProcessor(VideoRMVideoProcessor(num_frames=config.num_frames), clip_tokenizer())
    return VideoRMReward(VideoRMModel(config).to(torch.bfloat16), processor, num_frames=4 if smoke else None)


def machine(smoke: bool) -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "device": "cpu" if smoke else torch.cuda.get_device_name(),
        "memory_gib": None if smoke else round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1),
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        **{name: version(name) for name in ("torch", "diffusers", "transformers", "peft")},
    }


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how the figures were taken."""
    return {
        "sizes": {name: SIZES[name] for name in arguments.pipelines},
        "num_inference_steps": arguments.num_inference_steps,
        "steps": arguments.steps,
        "batch_size": 1,
        "dtype": "bfloat16, LoRA float32",
        "reward": "VIDEORM ViT-H/14, 8 frames",
        "weights": "random",
    }


if __name__ == "__main__":
    main()
