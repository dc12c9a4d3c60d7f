"""One optimiser step on every tested pipeline: only the LoRA moves, and what is saved is read back to equal frames."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from draftv_trainer import DRaFTVTrainer, load_lora, set_lora_scale
from draftv_trainer.lora import COMPONENT_KEY, DENOISER_KEY, add_lora, freeze, save_lora
from draftv_trainer.sampling import sample
from tests.draftv.factories import PROMPTS, generators, redness, tiny_args
from tests.draftv.pipeline_factories import PIPELINES, tiny_pipeline
from tests.draftv.pipelines.test_sampling_pipelines import ROWS, STEPS, arguments, lora_pipe, ordinary

SETTINGS = ("guidance_scale", "height", "width", "num_frames")
# torch.matmul rounds differently when a weight requires gradients, as it does in a pipeline that was only loaded.
ROUNDING = 5e-6


def trainer(name, output_dir, **overrides):
    call = PIPELINES[name].arguments()
    settings = {key: call.pop(key, None) for key in SETTINGS}
    return DRaFTVTrainer(
        model=tiny_pipeline(name),
        reward_funcs=redness,
        args=tiny_args(
            output_dir, num_backprop_steps=1, max_steps=1, pipeline_kwargs=call, num_inference_steps=STEPS,
            **{**settings, **overrides},
        ),
        train_dataset=PROMPTS,
    )  # fmt: skip


def weights(pipe):
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    return {f"{name}.{key}": w.clone() for name, part in modules.items() for key, w in part.state_dict().items()}


@ROWS
def test_one_step_moves_the_lora_only_and_a_fresh_pipeline_reads_it_back(name, tmp_path):
    row = PIPELINES[name]
    run = trainer(name, tmp_path)
    before = weights(run.pipe)
    run.train()
    moved = {key for key, weight in weights(run.pipe).items() if not torch.equal(weight, before[key])}
    # B starts at zero, so A has no gradient yet, but AdamW's weight decay is 0 too: only B moves at first.
    assert moved == {key for key in before if ".lora_B." in key}
    run.save_model(str(tmp_path / "lora"))
    tuned = ordinary(run.pipe, name)
    fresh = tiny_pipeline(name)
    assert (ordinary(fresh, name) - tuned).abs().max() > 1e-4
    load_lora(fresh, tmp_path / "lora")
    assert torch.equal(ordinary(fresh, name), tuned)
    if row.own_loader:
        own = tiny_pipeline(name)
        own.load_lora_weights(str(tmp_path / "lora"))
        torch.testing.assert_close(ordinary(own, name), tuned, rtol=0, atol=ROUNDING)
        frozen = tiny_pipeline(name)
        freeze(frozen)
        frozen.load_lora_weights(str(tmp_path / "lora"))
        assert torch.equal(ordinary(frozen, name), tuned)
    else:
        with pytest.raises(AttributeError):
            tiny_pipeline(name).load_lora_weights(str(tmp_path / "lora"))


@ROWS
def test_the_scale_leads_from_the_base_to_the_tuned_model(name, tmp_path):
    tuned, _ = lora_pipe(name)
    save_lora(tuned, tmp_path)
    frames = {1.0: ordinary(tuned, name)}
    fresh = tiny_pipeline(name)
    freeze(fresh)
    frames["base"] = ordinary(fresh, name)
    load_lora(fresh, tmp_path, scale=0.5)
    frames[0.5] = ordinary(fresh, name)
    set_lora_scale(fresh, 0.0)
    assert torch.equal(ordinary(fresh, name), frames["base"])
    set_lora_scale(fresh, 1.0)
    assert torch.equal(ordinary(fresh, name), frames[1.0])
    assert not torch.equal(frames[0.5], frames["base"]) and not torch.equal(frames[0.5], frames[1.0])


FRESH_PROCESS = """
import sys
import torch
from draftv_trainer import load_lora
from tests.draftv.pipeline_factories import PIPELINES, tiny_pipeline
from tests.draftv.pipelines.test_sampling_pipelines import ordinary
for name in PIPELINES:
    pipe = tiny_pipeline(name)
    load_lora(pipe, f"{sys.argv[1]}/{name}")
    torch.save(ordinary(pipe, name), f"{sys.argv[1]}/{name}/frames.pt")
"""


@pytest.mark.slow
def test_a_fresh_process_reads_every_lora_back_to_identical_frames(tmp_path):
    expected = {}
    for name in PIPELINES:
        pipe, _ = lora_pipe(name)
        save_lora(pipe, tmp_path / name)
        expected[name] = ordinary(pipe, name)
    project = Path(__file__).resolve().parents[3]
    paths = [str(project), str(project / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", FRESH_PROCESS, str(tmp_path)]
    subprocess.run(command, check=True, timeout=300, capture_output=True, env=environment)
    for name, frames in expected.items():
        assert torch.equal(torch.load(tmp_path / name / "frames.pt"), frames), name


@ROWS
def test_a_lora_of_another_pipeline_is_an_error_and_changes_nothing(name, tmp_path):
    other = "ltx" if name != "ltx" else "wan"
    trained = tiny_pipeline(other)
    add_lora(trained)
    save_lora(trained, tmp_path)
    pipe = tiny_pipeline(name)
    before = weights(pipe)
    with pytest.raises(ValueError, match=f"trained on {type(trained).__name__}.* does not fit {type(pipe).__name__}"):
        load_lora(pipe, tmp_path)
    assert weights(pipe).keys() == before.keys()


def test_without_a_note_of_the_denoiser_layers_and_sizes_tell(tmp_path):
    trained = tiny_pipeline("hunyuanvideo")
    add_lora(trained)
    path = save_lora(trained, tmp_path)
    with safe_open(path, framework="pt") as file:
        notes = (COMPONENT_KEY, DENOISER_KEY)
        header = {key: value for key, value in file.metadata().items() if key not in notes}
    save_file(load_file(path), path, metadata=header)
    for name in ("wan", "modelscope"):
        with pytest.raises(ValueError, match="has no layer there. Load it on the pipeline it was trained on"):
            load_lora(tiny_pipeline(name), tmp_path)
    load_lora(tiny_pipeline("hunyuanvideo"), tmp_path)


def test_tiles_that_a_vae_cannot_make_are_an_error_before_training(tmp_path):
    with pytest.raises(ValueError, match="AutoencoderKLTemporalDecoder cannot decode in tiles"):
        trainer("latte", tmp_path, vae_tiling=True)


@pytest.mark.parametrize("name", ["modelscope", "animatediff"])
def test_the_reward_sees_only_frames_that_were_decoded(name, tmp_path):
    seen = []

    def note(frames, prompts):
        seen.append(frames.detach())
        return redness(frames, prompts)

    run = trainer(name, tmp_path, reward_num_frames=2)
    run.model.terms = (run.model.terms[0].__class__("note", note, 1.0, frozenset()),)
    rows = []
    run.pipe.vae.decoder.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    run.train()
    whole = sample(tiny_pipeline(name), PROMPTS, **arguments(name, generator=generators(2)))
    assert seen[0].shape == (2, 2, *whole.shape[2:]) and torch.isfinite(seen[0]).all()
    # Two frames of each of two videos, forward and again backward.
    assert rows == [1] * 8
