"""DRaFT-V against TRL's AlignPropTrainer: the same gradient, and what a step costs in time and memory.

TRL carried AlignProp until 0.23.1, for Stable Diffusion only. It is installed into an environment of its own, with the
same torch as here. Both tune the same tiny Stable Diffusion from the same LoRA, latents, prompt and reward, one whole
optimisation step at a time; every measurement is a fresh process, and the contestants take turns:

- `trl`: AlignPropTrainer as it is, which checkpoints whole denoiser calls;
- `step`: DRaFTVTrainer with `checkpointing="step"`, the same recomputation;
- `auto`: DRaFTVTrainer's default checkpointing.

What had to be set in TRL: `truncated_backprop_rand=False` and `truncated_backprop_timestep=T-K`, for its random
cutoff, made for 50 sampling steps, is redrawn at every step: with 10 steps it leaves out every step now and then, and
the run crashes (`trl_defaults` in the results); `sample_eta=0.0`, for its default of 1.0 draws noise at every step.

Peak memory is resident memory above that before the step. It is measured apart from time, with every larger tensor
given back to the system when it is freed, which costs time. Needs Linux and about 6 GB of disk for the environment.

    python benchmarks/draftv_vs_alignprop.py
"""

import argparse
import functools
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from machine import describe_machine
from safetensors.torch import load_file, save_file

# The releases of the weeks around TRL 0.23.1; torch is the one in use here.
TRL_PACKAGES = ("trl==0.23.1", "diffusers==0.35.2", "transformers==4.57.1", "peft==0.17.1", "accelerate==1.11.0")
CONTESTANTS = ("trl", "step", "auto")
PROMPT = "a corgi rides a skateboard along the beach"
GUIDANCE_SCALE = 7.5
LEARNING_RATE = 1e-4
SEED = 0
# Freed tensors above this size go back to the system at once, so that resident memory is what is in use.
MEASURE_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536"}


def main() -> None:
    """Measure every cell, print the table, and write it as JSON; or, as a worker, measure one contestant once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inference-steps", type=int, nargs="+", default=[10, 25, 50], help="T")
    parser.add_argument("--rounds", type=int, default=3, help="processes per contestant and cell that measure time")
    parser.add_argument("--steps", type=int, default=3, help="measured optimisation steps per process, after one more")
    parser.add_argument("--environment", type=Path, default=default_environment(), help="where TRL is installed")
    parser.add_argument("--smoke", action="store_true", help="one small cell, and nothing written unless --output")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--worker", choices=("prepare", "trl", "step", "auto"), help=argparse.SUPPRESS)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        work(arguments.worker, arguments.job)
        return
    if not Path("/proc/self/clear_refs").is_file():
        raise SystemExit("Peak memory of one step is read from Linux's /proc/self, which this system lacks.")
    if arguments.smoke:
        arguments.inference_steps, arguments.rounds, arguments.steps = [4], 1, 1
    elif arguments.output is None:
        arguments.output = Path(__file__).parent / "results" / "draftv_vs_alignprop.json"
    python = trl_python(arguments.environment)
    with tempfile.TemporaryDirectory() as folder:
        results = measure(arguments, Path(folder), python)
    wrong = [cell for cell in results["cells"] if cell["max_gradient_difference"] > 1e-6]
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if wrong:
        raise SystemExit(f"Gradients differ by more than 1e-6 in {len(wrong)} cells: {wrong}")


def default_environment() -> Path:
    """Return the folder of TRL's environment in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "videorm-hf" / "trl-0.23.1"


def trl_python(environment: Path) -> Path:
    """Return the interpreter of TRL's environment, made on the first call."""
    python, made = environment / "bin" / "python", environment / ".made"
    packages = "\n".join([*TRL_PACKAGES, f"torch=={version('torch')}"])
    if not made.is_file() or made.read_text(encoding="utf-8") != packages:
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)], check=True)
        subprocess.run([*uv, "pip", "install", "--python", str(python), *packages.splitlines()], check=True)
        made.write_text(packages, encoding="utf-8")
    return python


def measure(arguments: argparse.Namespace, folder: Path, trl: Path) -> dict[str, Any]:
    """Run all workers and gather what they report."""
    pythons = {"trl": trl, "step": Path(sys.executable), "auto": Path(sys.executable)}
    common = {"folder": str(folder), "steps": arguments.steps, "small": arguments.smoke}
    facts = run_worker(Path(sys.executable), "prepare", common, {})
    defaults = run_worker(trl, "trl", {**common, "num_steps": 10, "num_graph_steps": None, "steps": 0}, {})
    results: dict[str, Any] = {
        "machine": {**machine(), "trl_environment": [*TRL_PACKAGES, f"torch=={version('torch')}"]},
        "settings": {**facts, "rounds": arguments.rounds, "steps": arguments.steps, "guidance_scale": GUIDANCE_SCALE},
        "trl_defaults": {"num_inference_steps": 10, **defaults},
        "cells": [],
    }
    print(f"TRL with its own truncation and 10 sampling steps: {defaults}", flush=True)
    cells = [(steps, k) for steps in arguments.inference_steps for k in sorted({1, min(5, steps), steps})]
    reports: dict[tuple[int, int], dict[str, list[Any]]] = {cell: {name: [] for name in CONTESTANTS} for cell in cells}
    for round_, (num_steps, k) in itertools.product(range(arguments.rounds + 1), cells):
        # The first round measures memory and gradients, the others time; who begins changes from round to round.
        order = [CONTESTANTS[(round_ + place) % len(CONTESTANTS)] for place in range(len(CONTESTANTS))]
        for name in order:
            job = {**common, "num_steps": num_steps, "num_graph_steps": k, "gradient": ""}
            if round_ == 0:  # slow, and memory hardly varies: one step will do
                job |= {"steps": 1, "gradient": f"{name}.pt"}
            report = run_worker(pythons[name], name, job, MEASURE_MEMORY if round_ == 0 else {})
            print(f"round {round_} T={num_steps} K={k} {name}: {report}", file=sys.stderr, flush=True)
            reports[num_steps, k][name].append(report)
        if round_ == 0:
            reports[num_steps, k]["difference"] = [gradient_difference(folder)]
    for (num_steps, k), of_cell in reports.items():
        results["cells"].append(cell_row(num_steps, k, of_cell))
        print_row(results["cells"][-1])
    return results


def cell_row(num_steps: int, k: int, reports: dict[str, list[Any]]) -> dict[str, Any]:
    """Return what is known about one cell: medians over processes, each a median over its steps."""
    row: dict[str, Any] = {"num_inference_steps": num_steps, "num_backprop_steps": k, **reports["difference"][0]}
    for name in CONTESTANTS:
        memory, *timed = reports[name]
        seconds = [statistics.median(report["seconds"]) for report in timed]
        row[name] = {
            "step_s": round(statistics.median(seconds), 4),
            "step_s_lowest": round(min(seconds), 4),
            "step_s_highest": round(max(seconds), 4),
            "peak_mb": round(statistics.median(memory["peak_mb"]), 1),
        }
    return row


def gradient_difference(folder: Path) -> dict[str, Any]:
    """Compare the LoRA gradients of the first step, weight by weight."""
    gradients = {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in CONTESTANTS}
    if any(gradients[name].keys() != gradients["trl"].keys() for name in CONTESTANTS):
        raise SystemExit("The contestants trained different weights.")
    flat = {name: torch.cat([of[key].flatten() for key in sorted(of)]) for name, of in gradients.items()}
    return {
        "num_gradient_values": flat["trl"].numel(),
        "largest_gradient": flat["trl"].abs().max().item(),
        "max_gradient_difference": max((flat[name] - flat["trl"]).abs().max().item() for name in ("step", "auto")),
    }


def run_worker(python: Path, name: str, job: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    """Run one worker in a fresh process and return its report."""
    command = [str(python), __file__, "--worker", name, "--job", json.dumps(job)]
    # Without a hub both libraries find everything in the folder, and no process waits for a network.
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **environment}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"The worker {name} failed with {job}:\n{done.stderr[-4000:]}")
    report: dict[str, Any] = json.loads((Path(job["folder"]) / "report.json").read_text(encoding="utf-8"))
    return report


def work(name: str, job: dict[str, Any]) -> None:
    """Do a worker's job and write its report."""
    if name == "prepare":
        report = prepare(job)
    elif name == "trl":
        report = measure_trl(job)
    else:
        report = measure_draftv(job, name)
    (Path(job["folder"]) / "report.json").write_text(json.dumps(report), encoding="utf-8")


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Write what both read: the pipeline's folder, the first LoRA weights, and the noise of every step."""
    # Imported here and below, for TRL's environment has no package of ours and ours no AlignProp.
    from draftv_trainer.lora import add_lora
    from draftv_trainer.rollout import noise_seed

    folder = Path(job["folder"])
    torch.manual_seed(SEED)
    pipe = tiny_stable_diffusion(small=job["small"])
    pipe.save_pretrained(folder / "pipeline")
    make_readable_for_transformers_4(folder / "pipeline")
    size = pipe.unet.config.sample_size
    seeds = [noise_seed(SEED, step, 0) for step in range(job["steps"] + 1)]
    noises = [torch.randn(1, 4, size, size, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    torch.save(noises, folder / "noises.pt")
    unet = add_lora(pipe)
    # LoRA starts at B = 0, where the gradient to A is 0: all of it is compared only away from there.
    start = {name: 0.1 * torch.randn_like(weight) for name, weight in unet.named_parameters() if ".lora_" in name}
    torch.save(start, folder / "lora.pt")
    return {
        "latent_size": size,
        "unet_parameters": sum(weight.numel() for weight in unet.parameters()),
        "lora_values": sum(weight.numel() for weight in start.values()),
        "dtype": "float32",
        "batch_size": 1,
    }


def tiny_stable_diffusion(small: bool) -> Any:
    """Build a Stable Diffusion of real classes with random weights."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from videorm_hf.models.open_clip_layout import clip_tokenizer

    unet = UNet2DConditionModel(
        sample_size=4 if small else 16,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=8,
        cross_attention_dim=32,
        attention_head_dim=4,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
    )
    text = CLIPTextConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=clip_tokenizer(),
        unet=unet,
        # As Stable Diffusion 1.5's. TRL's own step ends at the first alpha, whatever `set_alpha_to_one` says.
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            steps_offset=1,
            set_alpha_to_one=False,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def make_readable_for_transformers_4(folder: Path) -> None:
    """Add what TRL 0.23.1's transformers needs to read the text encoder and tokenizer that transformers 5 wrote."""
    model = json.loads((folder / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in model["merges"]), ""])
    (folder / "tokenizer" / "merges.txt").write_text(merges, encoding="utf-8")
    # The older names have a prefix, which transformers 5 accepts as well.
    path = folder / "text_encoder" / "model.safetensors"
    weights = {f"text_model.{key.removeprefix('text_model.')}": weight for key, weight in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})


def contrast(images: torch.Tensor) -> torch.Tensor:
    """Reward images (B, 3, H, W) for red that differs from blue; cheap, smooth, and the same for both contestants."""
    return 100.0 * ((images[:, 0] - images[:, 2]) ** 2).mean(dim=(1, 2))


class StepMeter:
    """Time and peak memory of each optimisation step, and the gradient of the first."""

    def __init__(self, unet: torch.nn.Module, start: dict[str, torch.Tensor]) -> None:
        self.weights = {name: weight for name, weight in unet.named_parameters() if weight.requires_grad}
        if self.weights.keys() != start.keys():
            raise SystemExit(f"The LoRA has other weights than expected: {self.weights.keys() ^ start.keys()}")
        self.gradient: dict[str, torch.Tensor] = {}
        self.seconds: list[float] = []
        self.peak_mb: list[float] = []
        for name, weight in self.weights.items():
            weight.data.copy_(start[name])
            weight.register_post_accumulate_grad_hook(lambda weight, name=name: self._keep(name, weight))

    def _keep(self, name: str, weight: torch.Tensor) -> None:
        """Keep the first step's gradient; a weight that several recomputations reach reports more than once."""
        if not self.seconds and weight.grad is not None:
            self.gradient[name] = weight.grad.clone()

    def begin(self) -> None:
        """Forget earlier peaks."""
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        self.before = memory_mb("VmRSS")
        self.started = time.perf_counter()

    def end(self) -> None:
        """Note the step that began last."""
        self.seconds.append(time.perf_counter() - self.started)
        self.peak_mb.append(memory_mb("VmHWM") - self.before)

    def report(self, job: dict[str, Any]) -> dict[str, Any]:
        """Return the measured steps, the first left out, and write the gradient if asked to."""
        if job["gradient"]:
            torch.save(self.gradient, Path(job["folder"]) / job["gradient"])
        return {"seconds": self.seconds[1:], "peak_mb": self.peak_mb[1:]}


def memory_mb(field: str) -> float:
    """Read a field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def measure_trl(job: dict[str, Any]) -> dict[str, Any]:
    """Take optimisation steps with TRL; without a K, with its own truncation, until it fails."""
    from accelerate import PartialState
    from trl import AlignPropConfig, AlignPropTrainer, DefaultDDPOStableDiffusionPipeline

    PartialState(cpu=True)  # TRL's pipeline logs through accelerate, which must have started
    folder, num_steps = Path(job["folder"]), job["num_steps"]
    truncation: dict[str, Any] = {}
    if job["num_graph_steps"] is not None:
        truncation = {
            "truncated_backprop_rand": False,
            "truncated_backprop_timestep": num_steps - job["num_graph_steps"],
        }
    config = AlignPropConfig(
        seed=SEED,
        sample_num_steps=num_steps,
        sample_eta=0.0,
        sample_guidance_scale=GUIDANCE_SCALE,
        train_batch_size=1,
        train_gradient_accumulation_steps=1,
        train_learning_rate=LEARNING_RATE,
        mixed_precision="no",
        accelerator_kwargs={"cpu": True},
        **truncation,
    )
    pipe = DefaultDDPOStableDiffusionPipeline(str(folder / "pipeline"), use_lora=True)
    trainer = AlignPropTrainer(config, lambda images, *_: (contrast(images), {}), lambda: (PROMPT, {}), pipe)
    pipe.set_progress_bar_config(disable=True)
    if not truncation:
        return steps_to_error(trainer)
    meter = StepMeter(pipe.unet, torch.load(folder / "lora.pt", weights_only=True))
    sample = pipe.rgb_with_grad
    noises = torch.load(folder / "noises.pt", weights_only=True)[: job["steps"] + 1]
    for step, noise in enumerate(noises):
        pipe.rgb_with_grad = functools.partial(sample, latents=noise)
        meter.begin()
        trainer.step(0, step)
        meter.end()
    return meter.report(job)


def steps_to_error(trainer: Any, at_most: int = 50) -> dict[str, Any]:
    """Take optimisation steps until TRL's trainer ends with an error."""
    for step in range(at_most):
        try:
            trainer.step(0, step)
        except RuntimeError as error:
            return {"steps_before_error": step, "error": str(error).splitlines()[0]}
    return {"steps_before_error": at_most, "error": None}


def measure_draftv(job: dict[str, Any], checkpointing: str) -> dict[str, Any]:
    """Take optimisation steps with DRaFT-V."""
    from diffusers import DiffusionPipeline
    from transformers import TrainerCallback

    from draftv_trainer import DRaFTVConfig, DRaFTVTrainer

    folder = Path(job["folder"])
    config = DRaFTVConfig(
        output_dir=str(folder / "run"),
        seed=SEED,
        num_inference_steps=job["num_steps"],
        num_backprop_steps=job["num_graph_steps"],
        checkpointing=checkpointing,
        guidance_scale=GUIDANCE_SCALE,
        learning_rate=LEARNING_RATE,
        max_steps=job["steps"] + 1,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to=[],
    )
    pipe = DiffusionPipeline.from_pretrained(folder / "pipeline")
    trainer = DRaFTVTrainer(pipe, lambda frames, prompts: contrast(frames[:, 0]), config, [PROMPT])
    meter = StepMeter(pipe.unet, torch.load(folder / "lora.pt", weights_only=True))

    class Measure(TrainerCallback):
        """Enclose each optimisation step."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            """Begin."""
            meter.begin()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            """End."""
            meter.end()

    trainer.add_callback(Measure())
    trainer.train()
    return meter.report(job)


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return describe_machine(
        "torch", "diffusers", "transformers", "peft", "accelerate", threads=torch.get_num_threads(), device="cpu"
    )


def print_row(row: dict[str, Any]) -> None:
    """Print one cell."""
    parts = [f"{name} {row[name]['step_s']:7.3f} s {row[name]['peak_mb']:7.1f} MB" for name in CONTESTANTS]
    cell = f"T={row['num_inference_steps']:3} K={row['num_backprop_steps']:3}"
    print(f"{cell}   {'   '.join(parts)}   gradient difference {row['max_gradient_difference']:.1e}", flush=True)


if __name__ == "__main__":
    main()
