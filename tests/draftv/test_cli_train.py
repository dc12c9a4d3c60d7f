"""`draftv train`: YAML and options, resuming; and one run through all three commands in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file

from draftv_trainer import DRaFTVConfig
from draftv_trainer.cli.draftv import main
from draftv_trainer.cli.train import TrainArguments, parser
from draftv_trainer.lora import default_lora_config
from draftv_trainer.trainer_inputs import load_pipeline
from tests.draftv.cli_factories import save_wan
from videorm_hf.cli.yaml_options import parse_options

REWARDS = """
def red(frames, prompts):
    return (frames[:, :, 0] - frames[:, :, 2]).mean(dim=(1, 2, 3))

def motion(frames, prompts):
    return (frames[:, 1:] - frames[:, :-1]).square().mean(dim=(1, 2, 3, 4))
"""
RUN = """
model_name_or_path: wan
reward_funcs: [rewards_to_train:red, rewards_to_train:motion]
reward_weights: [1.0, 0.0]
prompts: [a red dog runs, a blue cat]
output_dir: lora
learning_rate: 1e-2
lr_scheduler_type: constant
max_steps: 3
num_backprop_steps: 1
num_inference_steps: 2
height: 16
width: 16
num_frames: 5
pipeline_kwargs: {max_sequence_length: 8}
lora_r: 2
use_cpu: true
report_to: none
disable_tqdm: true
"""
THREE_COMMANDS = """
import sys
from draftv_trainer.cli.draftv import main
prompts = ["--prompts", "a red dog runs", "a blue cat", "--device", "cpu"]
code = (
    main(["train", "--config", "run.yaml"])
    or main(["sample", "wan", "--lora", "lora", "--output", "videos", *prompts])
    or main(["compare", "base", "lora", "--pipeline", "wan", "--reward", "videorm", "--output", "result", *prompts])
)
# TRL's parser is all that is used of it: its trainers' base class reports to a server.
sys.exit(code or ("trl.trainer.base_trainer" in sys.modules))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    save_wan(folder / "wan")
    (folder / "rewards_to_train.py").write_text(REWARDS)
    (folder / "run.yaml").write_text(RUN)
    return folder


@pytest.fixture
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return folder


def weights(path: str) -> dict[str, torch.Tensor]:
    return load_file(Path(path) / "pytorch_lora_weights.safetensors")


@pytest.mark.slow
def test_from_training_to_a_table_in_a_process_of_its_own(folder: Path, videorm_folder: Path) -> None:
    (folder / "videorm").symlink_to(videorm_folder)
    done = subprocess.run(
        [sys.executable, "-c", THREE_COMMANDS], cwd=folder, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Sampling as the LoRA was trained" in done.stderr and "win / tie" in done.stdout
    assert any(tensor.abs().max() > 0 for name, tensor in weights(str(folder / "lora")).items() if "lora_B" in name)
    assert (folder / "videos/grid.mp4").stat().st_size > 0
    assert len((folder / "videos/metadata.jsonl").read_text().splitlines()) == 4
    result = json.loads((folder / "result/comparison.json").read_text())
    videorm = result["rewards"]["videorm"]
    assert videorm["wins"] + videorm["ties"] + videorm["losses"] == 2 and videorm["difference"] != 0.0
    assert result["facts"]["num_inference_steps"] == 2  # taken from the LoRA's folder
    assert "data:video/mp4" in (folder / "result/comparison.html").read_text()


def test_resuming_ends_with_the_same_bits(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--config", "run.yaml"]
    assert main([*words, "--output_dir", "whole"]) == 0
    assert "Written to whole." in capsys.readouterr().err
    parts = [*words, "--output_dir", "parts", "--resume"]
    assert main([*parts, "--max_steps", "1"]) == 0
    assert "No complete checkpoint in parts" in capsys.readouterr().err
    assert main(parts) == 0
    assert f"Going on from {Path('parts/checkpoint-1')}" in capsys.readouterr().err
    whole, resumed = weights("whole"), weights("parts")
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert all(tensor.shape[0 if "lora_A" in name else 1] == 2 for name, tensor in whole.items())  # lora_r


def test_checkpoints_of_another_run_stop_a_run_that_would_not_go_on_from_them(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--config", "run.yaml", "--output_dir", "twice", "--max_steps", "1"]
    assert main([*words, "--save_strategy", "steps", "--save_steps", "1"]) == 0
    assert main([*words, "--learning_rate", "1e-3"]) == 2
    assert "twice holds checkpoints of an earlier run: --resume goes on from them" in capsys.readouterr().err
    assert main([*words, "--learning_rate", "1e-3", "--resume"]) == 2
    assert "learning_rate was 0.01, got 0.001" in capsys.readouterr().err


def test_ctrl_c_says_what_is_kept(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_folder / "impatient.py").write_text(
        "calls = []\n"
        "def red(frames, prompts):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 3:\n"
        "        raise KeyboardInterrupt\n"
        "    return frames[:, :, 0].mean(dim=(1, 2, 3))\n"
    )
    words = ["train", "--config", "run.yaml", "--reward_funcs", "impatient:red", "--reward_weights", "1.0"]
    words += ["--output_dir", "cut", "--per_device_train_batch_size", "1", "--save_strategy", "steps"]
    assert main([*words, "--save_steps", "1"]) == 130
    said = (
        f"Stopped. {Path('cut/checkpoint-2')} is complete: --resume, or resume_from_checkpoint=True, goes on from it."
    )
    assert said in capsys.readouterr().err
    assert main([*words, "--output_dir", "early", "--save_steps", "9"]) == 0  # the third call is over
    assert main(["train", "--config", "run.yaml", "--output_dir", "cut"]) == 2


def read_options(*words: str) -> tuple[TrainArguments, DRaFTVConfig]:
    options, args = parse_options(parser(), [*words, "--use_cpu"])
    return options, args


def test_options_come_before_the_file(in_folder: Path) -> None:
    options, args = read_options("--config=run.yaml", "--learning_rate", "5e-4", "--prompts", "a cat", "--resume")
    assert args.learning_rate == 5e-4 and args.num_inference_steps == 2 and args.reward_weights == [1.0, 0.0]
    assert options.prompts == ["a cat"] and options.resume
    assert args.sampling_settings().pipeline_kwargs["max_sequence_length"] == 8


def test_the_default_lora_is_the_papers() -> None:
    words = ("--model_name_or_path", "o/n", "--reward_funcs", "o/r", "--prompts", "a cat")
    assert read_options(*words)[0].lora_config() == default_lora_config()
    config = read_options(*words, "--lora_r", "8", "--lora_target_modules", "to_q", "to_k")[0].lora_config()
    assert (config.r, config.lora_alpha, config.target_modules) == (8, 8, {"to_q", "to_k"})


def test_prompts_of_a_dataset(in_folder: Path) -> None:
    splits = {"train": ["a cat", "a dog"], "test": ["a bird"]}
    rows = {name: Dataset.from_dict({"text": texts, "id": list(range(len(texts)))}) for name, texts in splits.items()}
    for name, split in DatasetDict(rows).items():
        split.to_parquet(f"prompts/data/{name}.parquet")
    words = ["--model_name_or_path", "o/n", "--reward_funcs", "o/r", "--dataset_name", "prompts"]
    options, _ = read_options(*words, "--prompt_column", "text", "--dataset_test_split", "test")
    assert options.train_dataset()["prompt"][:] == splits["train"] and options.train_dataset()["id"][:] == [0, 1]
    assert options.eval_dataset()["prompt"][:] == splits["test"]


def test_the_pipeline_is_loaded_in_the_type_asked_for(in_folder: Path) -> None:
    words = ["train", "--config", "run.yaml", "--max_steps", "1", "--output_dir"]
    assert main([*words, "full"]) == 0
    assert main([*words, "half", "--dtype", "bfloat16"]) == 0
    full, half = weights("full"), weights("half")
    assert all(tensor.dtype == torch.float32 for tensor in half.values())  # the LoRA itself
    assert not all(torch.equal(full[name], half[name]) for name in full)  # its gradients went through bfloat16
    args = DRaFTVConfig(model_init_kwargs={"dtype": "bfloat16"}, use_cpu=True)
    assert load_pipeline("wan", args).transformer.dtype == torch.bfloat16
