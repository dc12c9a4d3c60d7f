"""`draftv sample`: the same noise with and without the LoRA, files, grid and table."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from draftv_trainer import load_lora, sample
from draftv_trainer.cli.arguments import SamplingArguments
from draftv_trainer.cli.draftv import main
from draftv_trainer.model_card import FACTS_NAME
from draftv_trainer.variants import Variant, VideoSettings, sample_variants, tile
from tests.draftv.cli_factories import PROMPTS, SIZES, save_random_lora, save_wan, tiny_call
from tests.draftv.factories import tiny_wan


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    save_wan(folder / "wan")
    save_random_lora(folder / "lora")
    words = ["sample", folder / "wan", "--lora", folder / "lora", "--lora_scale", "0", "1", "--prompts", *PROMPTS]
    assert main([*map(str, words), *SIZES, "--grid_rows", "2", "--output", str(folder / "out")]) == 0
    return folder


def read(path: Path) -> np.ndarray:
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def rows_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def test_scale_0_is_the_base_model_and_1_is_not(folder: Path) -> None:
    for name in ("00-a-red-dog-runs.mp4", "01-a-blue-cat.mp4", "02-the-green-bird-falls.mp4"):
        base = (folder / "out/base" / name).read_bytes()
        assert base == (folder / "out/lora-0" / name).read_bytes()
        assert base != (folder / "out/lora-1" / name).read_bytes()


def test_a_row_says_all_that_a_video_needs_to_be_made_again(folder: Path) -> None:
    row = rows_of(folder / "out")[-1]
    assert row["file_name"] == "lora-1/02-the-green-bird-falls.mp4" and row["variant"] == "lora-1"
    pipe = tiny_wan()
    load_lora(pipe, row["lora"], scale=row["lora_scale"])
    call = {
        name: row[name] for name in ("height", "width", "num_frames", "num_inference_steps", "max_sequence_length")
    }
    frames = sample(pipe, [row["prompt"]], generator=torch.Generator().manual_seed(row["seed"]), **call)
    pictures = (frames[0].permute(0, 2, 3, 1) * 255).round().byte().numpy()
    written = read(folder / "out" / row["file_name"])
    assert written.shape == pictures.shape
    assert np.abs(written.astype(int) - pictures).mean() < 12  # H.264 at half the colour resolution
    assert len(rows_of(folder / "out")) == 9


def test_the_grid_has_a_row_for_each_prompt_and_a_column_for_each_scale(folder: Path) -> None:
    grid = read(folder / "out/grid.mp4")
    assert grid.shape == (5, 2 * 16 + 4, 3 * 16 + 2 * 4, 3)


def test_tiles_lie_where_they_should() -> None:
    clips = [
        [torch.full((2, 3, 4, 6), 10 * row + column, dtype=torch.uint8) for column in range(3)] for row in range(2)
    ]
    grid = tile(clips)
    assert grid.shape == (2, 3, 12, 26)
    assert (grid[:, :, :4, 10:16] == 1).all() and (grid[:, :, 8:, 20:] == 12).all() and (grid[:, :, 4:8] == 255).all()
    with pytest.raises(ValueError, match="clips of one size"):
        tile([[clips[0][0], clips[0][0][:, :, :2]]])


def test_an_output_is_not_overwritten_by_accident(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sample", str(folder / "wan"), "--prompts", PROMPTS[0], *SIZES, "--output", str(folder / "out2")]
    assert main(words) == 0
    assert "1 video (1 prompt: base) written to" in capsys.readouterr().out
    assert not (folder / "out2/grid.mp4").exists()  # one column is no comparison
    assert main(words) == 2 and "holds results already" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0 and len(rows_of(folder / "out2")) == 1


def test_noise_depends_on_seed_and_place_alone(folder: Path) -> None:
    variants = [Variant("base", str(folder / "wan"))]

    def frames(**settings: object) -> torch.Tensor:
        chosen = VideoSettings(call=tiny_call(), **settings)
        return torch.cat([batch.frames_BTCHW for batch in sample_variants(variants, PROMPTS, chosen)])

    one_by_one = frames()
    torch.testing.assert_close(frames(batch_size=2), one_by_one, atol=1e-5, rtol=0)
    assert (frames(seed=1) - one_by_one).abs().max() > 0.01


def test_one_pipeline_serves_in_any_order(folder: Path) -> None:
    """A LoRA is never left in the base model, and the pipeline is not loaded anew without need."""
    pipeline, lora = str(folder / "wan"), folder / "lora"
    kinds = {"base": Variant("base", pipeline), "full": Variant("full", pipeline, lora)}
    kinds |= {"half": Variant("half", pipeline, lora, 0.5)}

    def first_videos(*names: str) -> list[torch.Tensor]:
        settings = VideoSettings(call=tiny_call())
        return [
            batch.frames_BTCHW for batch in sample_variants([kinds[name] for name in names], PROMPTS[:1], settings)
        ]

    alone = {name: first_videos(name)[0] for name in kinds}
    order = ("full", "base", "half", "full", "base")
    for name, frames in zip(order, first_videos(*order), strict=True):
        assert torch.equal(frames, alone[name]), name
    assert not torch.equal(alone["half"], alone["full"])


def test_a_size_that_the_pipeline_cannot_make_is_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sample", str(folder / "wan"), "--prompts", PROMPTS[0], "--num_frames", "6", "--device", "cpu"]
    assert main([*words, "--output", str(folder / "out3")]) == 2
    assert "num_frames must be 4k+1 for Wan, got 6" in capsys.readouterr().err


def test_type_and_frame_rate_are_those_of_the_loras_run(folder: Path) -> None:
    loras = [save_random_lora(folder / name) for name in ("bf16", "plain")]
    facts = {"sampling": {"num_inference_steps": 2, "pipeline_kwargs": {}, "dtype": "bfloat16", "fps": 16}}
    (loras[0] / FACTS_NAME).write_text(json.dumps(facts))
    settings = SamplingArguments().settings(loras)
    assert (settings.dtype, settings.fps, settings.call) == (torch.bfloat16, 16, {"num_inference_steps": 2})
    given = SamplingArguments(dtype="float32", fps=4).settings(loras)
    assert (given.dtype, given.fps) == (torch.float32, 4)
    assert (SamplingArguments().settings(loras[1:]).dtype, SamplingArguments().settings([]).fps) == (torch.float32, 8)
    (loras[1] / FACTS_NAME).write_text(json.dumps({"sampling": {**facts["sampling"], "fps": 8}}))
    with pytest.raises(ValueError, match="trained with different fps, 16 and 8: give --fps"):
        SamplingArguments().settings(loras)
