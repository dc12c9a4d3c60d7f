"""Words and files: prompts, rewards, types, what a LoRA was trained with, and the errors of `draftv`."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from draftv_trainer import DRaFTVConfig
from draftv_trainer.cli.arguments import SamplingArguments, find_rewards, read_prompts
from draftv_trainer.cli.draftv import main
from videorm_hf.models.dtypes import parse_loading_dtypes
from videorm_hf.rewards import load_reward

ROWS = [{"text": "a cat", "label": 1}, {"text": "a dog", "label": 2}]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    table = pd.DataFrame(ROWS)
    table.to_csv("prompts.csv", index=False)
    table.to_parquet("prompts.parquet", index=False)
    Path("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    Path("prompts.txt").write_text("a cat\n\n  a dog  \n")
    return tmp_path


@pytest.mark.parametrize("name", ["prompts.csv", "prompts.parquet", "prompts.jsonl"])
def test_tables_keep_their_other_columns(files: Path, name: str) -> None:
    dataset = read_prompts([name], column="text")
    assert dataset["prompt"][:] == ["a cat", "a dog"] and dataset["label"][:] == [1, 2]


def test_texts_and_files_mix(files: Path) -> None:
    assert read_prompts(["a bird.", "prompts.txt"])["prompt"][:] == ["a bird.", "a cat", "a dog"]


def test_a_text_about_a_file_is_a_text(files: Path) -> None:
    assert read_prompts(["a man opens notes.txt"])["prompt"][:] == ["a man opens notes.txt"]


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["no.txt"], FileNotFoundError, "names the file no.txt"),
        (["prompts.csv"], ValueError, "must have a column 'prompt': got .*text"),
        ([], ValueError, "at least one"),
        (["  "], ValueError, "must hold text"),
    ],
)
def test_wrong_prompts_are_errors(files: Path, words: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_prompts(words)


def test_rewards_are_folders_ids_functions_and_classes(files: Path) -> None:
    Path("rewards_of_mine.py").write_text(
        "def red(frames, prompts):\n    return frames[:, :, 0].mean(dim=(1, 2, 3))\n\n"
        "class Blue:\n    def __call__(self, frames, prompts):\n        return frames[:, :, 2].mean(dim=(1, 2, 3))\n"
    )
    Path("videorm").mkdir()
    Path("videorm", "config.json").write_text("{}")
    words = ["videorm", "owner/name", "hps_v2:HPS_v2_compressed.pt", "pick_score:folder"]
    words += ["rewards_of_mine:red", "rewards_of_mine:Blue"]
    assert find_rewards(words) == words
    red, blue = map(load_reward, words[-2:])
    frames = torch.rand(2, 3, 3, 4, 4)
    assert torch.equal(red(frames, ["", ""]), frames[:, :, 0].mean(dim=(1, 2, 3)))
    assert torch.equal(blue(frames, ["", ""]), frames[:, :, 2].mean(dim=(1, 2, 3)))
    assert (red.name, blue.name) == ("red", "Blue")


@pytest.mark.parametrize(
    ("word", "error", "message"),
    [
        ("no_such_module:f", ValueError, "no reward 'no_such_module' .* no such module in"),
        ("json:no_such_name", ImportError, "has no 'no_such_name'"),
        ("nothing", FileNotFoundError, "must be a folder, or a Hub id"),
        ("./no/folder", FileNotFoundError, "must be a folder, or a Hub id"),
    ],
)
def test_wrong_rewards_are_errors(files: Path, word: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        find_rewards([word])


def write_facts(folder: Path, **sampling: object) -> Path:
    folder.mkdir()
    kwargs = {"height": 16, "max_sequence_length": 8, **sampling}
    steps = kwargs.pop("num_inference_steps", None)
    facts = {"sampling": {"num_inference_steps": steps, "pipeline_kwargs": kwargs}}
    (folder / "draftv_config.json").write_text(json.dumps(facts))
    return folder


def test_what_is_left_out_is_as_the_lora_was_trained(tmp_path: Path) -> None:
    lora = write_facts(tmp_path / "lora", num_inference_steps=7, num_frames=5)
    settings = SamplingArguments(num_frames=9, pipeline_kwargs='{"max_sequence_length": 4}').settings([lora])
    assert settings.call == {"num_inference_steps": 7, "height": 16, "max_sequence_length": 4, "num_frames": 9}
    assert SamplingArguments(height=8).settings([tmp_path]).call == {"height": 8}


def test_loras_that_disagree_must_be_told(tmp_path: Path) -> None:
    loras = [write_facts(tmp_path / str(frames), num_frames=frames) for frames in (5, 9)]
    with pytest.raises(ValueError, match="different num_frames, 5 and 9: give --num_frames"):
        SamplingArguments().settings(loras)
    assert SamplingArguments(num_frames=9).settings(loras).call["num_frames"] == 9


def test_names_of_types_become_torchs() -> None:
    assert parse_loading_dtypes({"torch_dtype": "bfloat16", "variant": "a"}) == {
        "dtype": torch.bfloat16,
        "variant": "a",
    }
    mixed = {"transformer": "torch.float16", "default": torch.float32}
    expected = {"transformer": torch.float16, "default": torch.float32}
    assert parse_loading_dtypes({"dtype": mixed}) == {"dtype": expected}
    assert DRaFTVConfig(model_init_kwargs={"dtype": "bfloat16"}, use_cpu=True).loading_arguments() == {
        "dtype": torch.bfloat16
    }
    with pytest.raises(ValueError, match="one of .*got 'int3'"):
        DRaFTVConfig(model_init_kwargs={"dtype": "int3"}, use_cpu=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "nothing", "--prompts", "a cat"], "must be a folder, or a Hub id"),
        (["sample", "o/n", "--prompts", "a cat", "--seeed", "1"], "Unknown options: --seeed 1"),
        (["sample", "o/n", "--prompts", "a cat", "--lora", "."], "without pytorch_lora_weights.safetensors"),
        (["sample", "o/n", "--prompts", "a cat", "--skip_base"], "leaves nothing to sample"),
        (["sample", "o/n", "--prompts", "a cat", "--pipeline_kwargs", "{bad"], "must be a JSON object"),
        (["sample", "o/n", "--prompts", "a cat", "--num_frames", "0"], "--num_frames must be at least 1"),
        (["sample", "o/n", "--config", "no.yaml"], "no.yaml"),
        (["sample", "o/n", "--config"], "followed by the path of a YAML file"),
        (["compare", "base", "o/n", "--prompts", "a cat", "--reward", "r:f"], "base needs a pipeline"),
        (["compare", "o/n", ".", "--prompts", "a cat", "--reward", "r:f"], "got a folder with neither"),
        (["compare", "o/n", "o/m", "--prompts", "a", "--reward", "o/r", "--tie_margin", "0", "1"], "each reward"),
        (["train", "--model_name_or_path", "o/n", "--reward_funcs", "o/r"], "--prompts or --dataset_name"),
        (["train", "--learning_rat", "1"], "required"),
        (["nonsense"], "invalid choice"),
    ],
)
def test_what_cannot_be_run_ends_with_2_and_a_sentence(
    words: list[str], message: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(words)
    except SystemExit as end:  # argparse's own errors
        code = end.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_a_traceback_can_be_had(files: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Hub id"):
        main(["--traceback", "sample", "nothing", "--prompts", "a cat"])


@pytest.mark.parametrize("command", ["train", "sample", "compare"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "--config FILE" in shown and "--num_inference_steps" in shown
