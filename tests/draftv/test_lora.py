"""The LoRA: frozen pipeline, float32 weights, files that diffusers reads back to identical frames."""

import json
import subprocess
import sys

import pytest
import torch
from diffusers import WanTransformer3DModel
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from draftv_trainer.lora import (
    LORA_WEIGHTS_NAME,
    METADATA_KEY,
    add_lora,
    load_lora,
    restore_lora,
    save_lora,
    set_lora_scale,
)
from tests.draftv.factories import all_weights, infer, lora_weights, tiny_wan


def trained_like(peft_config=None):
    """A pipeline whose LoRA is far from zero, as after training."""
    pipe = tiny_wan()
    denoiser = add_lora(pipe, peft_config)
    generator = torch.Generator().manual_seed(1)
    for parameter in denoiser.parameters():
        if parameter.requires_grad:
            parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return pipe


def test_only_the_lora_is_trainable_and_it_starts_as_the_identity():
    pipe = tiny_wan()
    before = infer(pipe)
    add_lora(pipe)
    assert torch.equal(infer(pipe), before)
    for part in (pipe.transformer, pipe.vae, pipe.text_encoder):
        assert not part.training
        assert all(p.requires_grad == (".lora_" in name) for name, p in part.named_parameters())
    # Two blocks, self- and cross-attention, four projections, A and B of rank 4.
    weights = lora_weights(pipe)
    assert len(weights) == 2 * 2 * 4 * 2
    assert {min(weight.shape) for weight in weights.values()} == {4}


def test_lora_is_float32_on_a_bfloat16_denoiser_whose_type_stays():
    pipe = tiny_wan()
    pipe.transformer.to(torch.bfloat16)
    add_lora(pipe)
    assert pipe.transformer.dtype == torch.bfloat16
    assert {weight.dtype for weight in lora_weights(pipe).values()} == {torch.float32}
    assert torch.isfinite(infer(pipe)).all()


@pytest.mark.parametrize(
    "peft_config",
    [
        None,
        LoraConfig(r=2, lora_alpha=7, target_modules=["to_q", "to_v"]),
        LoraConfig(
            r=4, lora_alpha=4, use_rslora=True, target_modules=["to_q"], rank_pattern={"blocks.0.attn1.to_q": 2}
        ),
        LoraConfig(r=3, lora_alpha=5, target_modules=r".*attn1\.to_(q|k)"),
    ],
)
def test_a_fresh_pipeline_reads_it_back_to_identical_frames(tmp_path, peft_config):
    pipe = trained_like(peft_config)
    save_lora(pipe, tmp_path)
    fresh, ours = tiny_wan(), tiny_wan()
    untuned = infer(fresh)
    fresh.load_lora_weights(str(tmp_path))
    assert torch.equal(infer(fresh), infer(pipe))
    assert not torch.equal(infer(fresh), untuned)
    load_lora(ours, tmp_path)
    assert torch.equal(infer(ours), infer(pipe))
    assert [path.name for path in tmp_path.iterdir()] == [LORA_WEIGHTS_NAME]


@pytest.mark.slow
def test_another_process_reads_it_back_to_identical_frames(tmp_path):
    pipe = trained_like()
    save_lora(pipe, tmp_path / "lora")
    pipe_folder = tmp_path / "pipe"
    tiny_wan().save_pretrained(pipe_folder)
    script = """
import sys, torch
from diffusers import WanPipeline, WanTransformer3DModel
pipe = WanPipeline.from_pretrained(sys.argv[1])
pipe.load_lora_weights(sys.argv[2])
generators = [torch.Generator().manual_seed(index) for index in range(2)]
frames = pipe(["a red dog runs", "a blue cat"], num_inference_steps=3, generator=generators, output_type="pt",
              height=16, width=16, num_frames=5, guidance_scale=5.0, max_sequence_length=8).frames
torch.save(frames, sys.argv[3])
assert "draftv_trainer" not in sys.modules
"""
    frames_file = tmp_path / "frames.pt"
    command = [sys.executable, "-c", script, str(pipe_folder), str(tmp_path / "lora"), str(frames_file)]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    assert torch.equal(torch.load(frames_file), infer(pipe))


def test_file_names_the_component_and_holds_the_settings(tmp_path):
    path = save_lora(trained_like(LoraConfig(r=2, lora_alpha=7, target_modules=["to_q"])), tmp_path)
    with safe_open(path, framework="pt") as file:
        settings = json.loads(file.metadata()[METADATA_KEY])
        assert all(key.startswith("transformer.blocks.") for key in file.keys())
    assert settings["transformer.lora_alpha"] == 7
    assert settings["transformer.r"] == 2


def test_saving_replaces_a_file_whole_or_not_at_all(tmp_path, monkeypatch):
    first = trained_like()
    path = save_lora(first, tmp_path)
    content = path.read_bytes()

    def killed(weights, filename, metadata):
        with open(filename, "wb") as file:
            file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("draftv_trainer.lora.save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        save_lora(first, tmp_path)
    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == [LORA_WEIGHTS_NAME]


def test_restore_reads_every_bit_back(tmp_path):
    pipe = trained_like()
    save_lora(pipe, tmp_path)
    other = tiny_wan()
    add_lora(other)
    restore_lora(other, tmp_path)
    expected = lora_weights(pipe)
    assert all(torch.equal(expected[name], weight) for name, weight in lora_weights(other).items())


@pytest.mark.parametrize(
    ("peft_config", "message"),
    [
        (LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]), "got shape .*expected"),
        (LoraConfig(r=4, lora_alpha=4, target_modules=["to_q"]), "belongs to another pipeline"),
        (
            LoraConfig(r=4, lora_alpha=8, target_modules=["to_q", "to_k", "to_v", "to_out.0"]),
            "lora_alpha=4.*expected 8",
        ),
        (
            LoraConfig(r=4, lora_alpha=4, use_rslora=True, target_modules=["to_q", "to_k", "to_v", "to_out.0"]),
            "use_rslora=False.*expected True",
        ),
    ],
)
def test_a_lora_of_other_settings_is_an_error(tmp_path, peft_config, message):
    save_lora(trained_like(), tmp_path)
    other = tiny_wan()
    add_lora(other, peft_config)
    before = lora_weights(other)
    with pytest.raises(ValueError, match=message):
        restore_lora(other, tmp_path)
    assert all(torch.equal(before[name], weight) for name, weight in lora_weights(other).items())


def test_a_folder_without_a_lora_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="Expected a LoRA at"):
        restore_lora(trained_like(), tmp_path)
    with pytest.raises(FileNotFoundError, match="Expected a LoRA at"):
        load_lora(tiny_wan(), tmp_path)


def test_a_loaded_lora_stays_float32_on_a_bfloat16_denoiser_with_identical_frames(tmp_path):
    pipe = tiny_wan()
    pipe.transformer.to(torch.bfloat16)
    add_lora(pipe)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in pipe.transformer.named_parameters():
        if ".lora_" in name:
            parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    save_lora(pipe, tmp_path)
    fresh = tiny_wan()
    fresh.transformer.to(torch.bfloat16)
    load_lora(fresh, tmp_path)
    assert {weight.dtype for weight in lora_weights(fresh).values()} == {torch.float32}
    assert torch.equal(infer(fresh), infer(pipe))


@pytest.mark.parametrize("scale", [-0.1, 1.1, float("nan")])
def test_a_scale_out_of_range_is_an_error(tmp_path, scale):
    save_lora(trained_like(), tmp_path)
    with pytest.raises(ValueError, match="scale must be between 0 .* and 1 .*got"):
        load_lora(tiny_wan(), tmp_path, scale=scale)
    with pytest.raises(ValueError, match="scale must be between 0"):
        set_lora_scale(trained_like(), scale)


def test_scaling_without_a_lora_is_an_error():
    with pytest.raises(ValueError, match="WanPipeline carries no LoRA"):
        set_lora_scale(tiny_wan(), 0.5)


def test_a_lora_of_a_larger_model_or_without_settings_is_an_error(tmp_path):
    pipe = trained_like()
    path = save_lora(pipe, tmp_path)
    larger = tiny_wan()
    larger.transformer = WanTransformer3DModel.from_config({**larger.transformer.config, "num_attention_heads": 4})
    with pytest.raises(ValueError, match=r"trained on WanPipeline.*has size 24, expected 48"):
        load_lora(larger, tmp_path)
    assert lora_weights(larger) == {}
    save_file(load_file(path), path)
    with pytest.raises(ValueError, match="carries no settings of its adapter"):
        load_lora(tiny_wan(), tmp_path)


def test_targets_that_match_nothing_dropout_and_a_second_lora_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r"got target_modules=.*query.*expected"):
        add_lora(tiny_wan(), LoraConfig(target_modules=["query"]))
    with pytest.raises(ValueError, match="lora_dropout must be 0: got 0.1"):
        add_lora(tiny_wan(), LoraConfig(target_modules=["to_q"], lora_dropout=0.1))
    with pytest.raises(ValueError, match=r"such as \[.*'ffn_up'|such as \[.*'to_k', 'to_out.0'"):
        add_lora(tiny_wan(), LoraConfig(target_modules=["query"]))
    pipe = tiny_wan()
    add_lora(pipe)
    for add in (add_lora, lambda pipe: load_lora(pipe, tmp_path)):
        save_lora(pipe, tmp_path)
        with pytest.raises(ValueError, match=r"already carries a LoRA: fuse it \(pipe.fuse_lora"):
            add(pipe)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bias": "all"}, "must train nothing but the LoRA.*bias='all'"),
        ({"use_dora": True}, "must train nothing but the LoRA.*use_dora=True"),
        ({"modules_to_save": ["proj_out"]}, r"must train nothing but the LoRA.*modules_to_save=\['proj_out'\]"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights must be .*got 'pissa'"),
    ],
)
def test_more_than_a_lora_is_an_error(settings, message):
    pipe = tiny_wan()
    before = all_weights(pipe)
    with pytest.raises(ValueError, match=message):
        add_lora(pipe, LoraConfig(target_modules=["to_q"], **settings))
    assert all_weights(pipe).keys() == before.keys()


def test_the_strength_of_an_adapter_of_diffusers_is_changed_by_diffusers(tmp_path):
    save_lora(trained_like(), tmp_path)
    pipe = tiny_wan()
    pipe.load_lora_weights(str(tmp_path))
    with pytest.raises(ValueError, match=r"adapters \['default_0'\], whose strength pipe.set_adapters changes"):
        set_lora_scale(pipe, 0.5)
