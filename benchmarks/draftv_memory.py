"""Peak memory and time of one DRaFT-V step over the checkpointing mode and K, the number of steps with a gradient.

A Wan transformer with random weights (8 layers, width 512), about 2,000 tokens, float32 on a CPU, 8 sampling steps
without guidance. The reward reads the latents, so that the denoiser alone is measured. Each cell runs in a process of
its own, with an allocator that returns freed memory to the system; its peak is resident memory above that just before
the step.

    python benchmarks/draftv_memory.py
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from machine import describe_machine
from peft import LoraConfig
from transformers import T5TokenizerFast, UMT5Config, UMT5EncoderModel

from draftv_trainer.checkpointing import apply_checkpointing
from draftv_trainer.lora import add_lora
from draftv_trainer.sampling import sample_with_grad

MODES = ("none", "block", "step", "nested")
RESULTS = Path(__file__).parent / "results" / "draftv_memory.json"
# Of glibc: blocks of this size and more get pages of their own, which go back to the system when freed.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536"}
MEGABYTE = 1e6


def main() -> None:
    """Measure every cell and write JSON, or measure one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--num-backprop-steps", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--num-inference-steps", type=int, default=8)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--side", type=int, default=320, help="height and width of the video in pixels")
    parser.add_argument("--num-frames", type=int, default=17)
    parser.add_argument("--limit-mb", type=float, default=6000.0, help="leave out cells without checkpointing above")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--cell", nargs=2, metavar=("MODE", "K"), help="measure one cell in this process")
    arguments = parser.parse_args()
    if arguments.cell is not None:
        print(json.dumps(measure(arguments, arguments.cell[0], int(arguments.cell[1]))))
    else:
        results = measure_all(arguments)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def measure_all(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure every cell, each in a fresh process."""
    cells: list[dict[str, Any]] = []
    for mode in arguments.modes:
        one_step_mb = 0.0
        for steps in sorted(arguments.num_backprop_steps):
            if mode == "none" and one_step_mb * steps > arguments.limit_mb:
                continue
            command = [sys.executable, __file__, "--cell", mode, str(steps)]
            for name in ("num_inference_steps", "layers", "width", "side", "num_frames"):
                command += [f"--{name.replace('_', '-')}", str(vars(arguments)[name])]
            run = subprocess.run(command, env={**os.environ, **ALLOCATOR}, capture_output=True, text=True, check=False)
            if run.returncode != 0:
                raise SystemExit(f"{mode}, K={steps} failed:\n{run.stderr}")
            cells.append(json.loads(run.stdout))
            one_step_mb = cells[-1]["peak_mb"] / steps
            print(f"{mode:7} K={steps}: {cells[-1]['peak_mb']:7.0f} MB {cells[-1]['seconds']:7.1f} s", file=sys.stderr)
    results = {"machine": machine(), "settings": settings(arguments), "cells": cells}
    return {**results, "claims": claims(cells)}


def measure(arguments: argparse.Namespace, mode: str, num_backprop_steps: int) -> dict[str, Any]:
    """Run one step, sampling and backward, and return its peak above the start and its time."""
    pipe = wan(arguments)
    denoiser = add_lora(pipe, LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    checkpoint_calls = apply_checkpointing(mode, denoiser, num_backprop_steps)
    start_mb = reset_peak()
    begun = time.perf_counter()
    latents = sample_with_grad(
        pipe,
        ["a red dog runs"],
        num_backprop_steps,
        num_inference_steps=arguments.num_inference_steps,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        checkpoint_calls=checkpoint_calls,
        height=arguments.side,
        width=arguments.side,
        num_frames=arguments.num_frames,
        guidance_scale=1.0,
        max_sequence_length=32,
    )
    latents.square().mean().backward()
    seconds = time.perf_counter() - begun
    squares = [p.grad.square().sum() for p in denoiser.parameters() if p.grad is not None]
    return {
        "checkpointing": mode,
        "num_backprop_steps": num_backprop_steps,
        "peak_mb": round(peak_mb() - start_mb, 1),
        "seconds": round(seconds, 2),
        "grad_norm": torch.stack(squares).sum().sqrt().item(),
    }


def wan(arguments: argparse.Namespace) -> WanPipeline:
    """Build the pipeline: a denoiser of some size, and text encoder and VAE as small as can be."""
    torch.manual_seed(0)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    tokenizer = T5TokenizerFast(vocab=pieces + [(letter, -6.0) for letter in "adegnorsu"], extra_ids=0)
    text_encoder = UMT5EncoderModel(
        UMT5Config(vocab_size=len(tokenizer), d_model=64, d_kv=16, d_ff=64, num_layers=1, num_heads=4)
    )
    transformer = WanTransformer3DModel(
        num_attention_heads=arguments.width // 64,
        attention_head_dim=64,
        text_dim=64,
        freq_dim=256,
        ffn_dim=4 * arguments.width,
        num_layers=arguments.layers,
    )
    pipe = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder.eval(),
        vae=AutoencoderKLWan(base_dim=8, num_res_blocks=1),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=transformer.eval(),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def reset_peak() -> float:
    """Start the peak of resident memory afresh and return it in MB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_mb()


def peak_mb() -> float:
    """Return the peak of resident memory since the last reset in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (kilobytes,) = (int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    return kilobytes * 1024 / MEGABYTE


def claims(cells: list[dict[str, Any]]) -> dict[str, float]:
    """Return what the table is to show, where the cells for it were measured."""
    peak = {(cell["checkpointing"], cell["num_backprop_steps"]): cell["peak_mb"] for cell in cells}
    seconds = {(cell["checkpointing"], cell["num_backprop_steps"]): cell["seconds"] for cell in cells}
    most = max(cell["num_backprop_steps"] for cell in cells)
    found = {}
    if {("nested", 1), ("nested", most)} <= peak.keys():
        found[f"nested_K{most}_over_nested_K1"] = round(peak["nested", most] / peak["nested", 1], 3)
    if {("none", most), ("nested", most)} <= peak.keys():
        found[f"none_K{most}_over_nested_K{most}"] = round(peak["none", most] / peak["nested", most], 2)
        found[f"nested_time_over_none_K{most}"] = round(seconds["nested", most] / seconds["none", most], 2)
    return found


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return describe_machine("torch", "diffusers", "peft", threads=torch.get_num_threads())


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how the figures were taken."""
    latent_frames = (arguments.num_frames - 1) // 4 + 1
    names = ("num_inference_steps", "layers", "width", "side", "num_frames")
    return {
        **{name: vars(arguments)[name] for name in names},
        "tokens": latent_frames * (arguments.side // 16) ** 2,
        "lora_rank": 4,
        "guidance": False,
        "dtype": "float32",
        "environment": ALLOCATOR,
    }


if __name__ == "__main__":
    main()
