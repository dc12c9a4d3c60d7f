"""`videorm convert`: arguments reach the converter, the report is printed, errors are one message and exit code 2."""

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel
from typer.testing import CliRunner

from videorm_hf import VideoRMModel
from videorm_hf.cli.videorm import app


def write_clip(folder: Path) -> Path:
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=tower, vision_config=tower | {"image_size": 64, "patch_size": 32}, projection_dim=64
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    return folder


def test_convert_writes_a_folder_and_reports(tmp_path: Path) -> None:
    source, out = write_clip(tmp_path / "clip"), tmp_path / "videorm"
    options = ["--num-frames", "4", "--temporal-shift", "none", "--temporal-head", "lstm", "--license", "mit"]
    result = CliRunner().invoke(app, ["convert", str(source), str(out), *options])
    assert result.exit_code == 0, result.output
    assert "licence mit" in " ".join(result.output.split())
    assert "the temporal head" in result.output
    config = VideoRMModel.from_pretrained(out).config
    assert (config.num_frames, config.temporal_shift, config.temporal_head) == (4, "none", "lstm")


def test_convert_reports_an_error_once(tmp_path: Path) -> None:
    source, out = write_clip(tmp_path / "clip"), tmp_path / "videorm"
    arguments = ["convert", str(source), str(out)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "not empty" in result.output and "Traceback" not in result.output
    assert CliRunner().invoke(app, [*arguments, "--overwrite"]).exit_code == 0
