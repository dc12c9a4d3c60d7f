"""Pipelines that switch between two denoisers on the way, as Wan 2.2's: one of them is tuned, both are followed."""

import inspect

import pytest
import torch
from diffusers import WanPipeline

from draftv_trainer import DRaFTVTrainer, load_lora, sample_with_grad, set_lora_scale
from draftv_trainer.graph_steps import all_steps
from draftv_trainer.lora import add_lora, save_lora
from draftv_trainer.model_card import CARD_NAME
from tests.draftv.factories import PROMPTS, generators, redness, tiny_args, tiny_wan

STEPS = 4
CALL = {"num_inference_steps": STEPS, "height": 16, "width": 16, "num_frames": 5, "guidance_scale": 3.0}


def two_stages() -> WanPipeline:
    pipe, torch_seed = tiny_wan(), 7
    torch.manual_seed(torch_seed)
    other = type(pipe.transformer).from_config(pipe.transformer.config).eval()
    return WanPipeline(**{**pipe.components, "transformer_2": other}, boundary_ratio=0.9)


def lora_pipe(denoiser_name=None):
    """With a LoRA that does not start at zero."""
    pipe = two_stages()
    denoiser = add_lora(pipe, denoiser_name=denoiser_name)
    generator = torch.Generator().manual_seed(1)
    for parameter in trainable(denoiser).values():
        parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return pipe, denoiser


def trainable(denoiser):
    return {name: parameter for name, parameter in denoiser.named_parameters() if parameter.requires_grad}


def infer(pipe, call=None):
    call = call or type(pipe).__call__
    return call(pipe, prompt=PROMPTS, output_type="pt", generator=generators(2), **CALL)["frames"]


def gradients(denoiser, frames):
    denoiser.zero_grad()
    (frames * torch.linspace(-1, 1, frames[0].numel()).sin().view(frames.shape[1:])).double().sum().backward()
    return {name: parameter.grad.clone() for name, parameter in trainable(denoiser).items()}


def test_both_take_part_and_the_late_one_is_tuned_by_default():
    pipe, denoiser = lora_pipe()
    assert denoiser is pipe.transformer_2
    calls = []
    for name in ("transformer", "transformer_2"):
        hook = lambda module, args, output, name=name: calls.append((name, output[0].requires_grad))  # noqa: E731
        getattr(pipe, name).register_forward_hook(hook)
    frames = sample_with_grad(pipe, PROMPTS, 1, generator=generators(2), **CALL)
    assert torch.equal(frames, infer(pipe))
    taken = calls[: 2 * STEPS]
    assert {name for name, _ in taken} == {"transformer", "transformer_2"}
    assert [graph for _, graph in taken] == [False] * 2 * (STEPS - 1) + [True] * 2


@pytest.mark.parametrize("name", ["transformer", "transformer_2"])
def test_all_steps_equal_a_plain_full_backward(name):
    pipe, denoiser = lora_pipe(name)
    assert denoiser is getattr(pipe, name)
    ours = gradients(denoiser, sample_with_grad(pipe, PROMPTS, all_steps(), generator=generators(2), **CALL))
    plain = gradients(denoiser, infer(pipe, inspect.unwrap(type(pipe).__call__)))
    assert all(torch.equal(ours[key], gradient) and gradient.abs().max() > 0 for key, gradient in plain.items())


@pytest.mark.parametrize("checkpointing", ["block", "step", "nested"])
def test_checkpointing_changes_no_gradient(tmp_path, checkpointing):
    def lora_after_a_step(mode):
        args = tiny_args(
            tmp_path / mode, checkpointing=mode, backprop="all", num_backprop_steps=None, denoiser="transformer",
            num_inference_steps=STEPS, max_steps=1, optim="sgd", learning_rate=100.0, reference_coef=0.5,
        )  # fmt: skip
        run = DRaFTVTrainer(two_stages(), redness, args, PROMPTS)
        run.train()
        return trainable(run.pipe.transformer)

    expected = lora_after_a_step("none")
    for name, weight in lora_after_a_step(checkpointing).items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-4)


def test_training_saves_what_every_loader_reads_back(tmp_path):
    args = tiny_args(tmp_path, num_inference_steps=STEPS, num_backprop_steps=2, max_steps=1, learning_rate=0.1)
    run = DRaFTVTrainer(two_stages(), redness, args, PROMPTS)
    before = [weight.clone() for weight in run.pipe.transformer.parameters()]
    run.train()
    run.save_model()
    assert not any(".lora_" in name for name, _ in run.pipe.transformer.named_parameters())
    assert all(torch.equal(a, b) for a, b in zip(run.pipe.transformer.parameters(), before, strict=True))
    assert "load_into_transformer_2=True" in (tmp_path / CARD_NAME).read_text()

    expected = infer(run.pipe)
    assert not torch.equal(expected, infer(two_stages()))
    ours, own = two_stages(), two_stages()
    load_lora(ours, tmp_path)
    assert torch.equal(infer(ours), expected)
    own.load_lora_weights(str(tmp_path), load_into_transformer_2=True)
    own.transformer_2.requires_grad_(False)
    torch.testing.assert_close(infer(own), expected, rtol=0, atol=1e-5)
    set_lora_scale(ours, 0.0)
    assert torch.equal(infer(ours), infer(two_stages()))


def test_a_lora_of_the_late_denoiser_does_not_fit_a_pipeline_without_one(tmp_path):
    pipe, _ = lora_pipe()
    save_lora(pipe, tmp_path)
    with pytest.raises(ValueError, match="does not fit WanPipeline: there is no transformer_2 in it"):
        load_lora(tiny_wan(), tmp_path)


def test_wrong_names_and_steps_without_the_tuned_one():
    with pytest.raises(ValueError, match=r"denoiser must be one of \['transformer', 'transformer_2'\].*got 'unet'"):
        add_lora(two_stages(), denoiser_name="unet")
    with pytest.raises(ValueError, match=r"denoiser must be one of \['transformer'\]"):
        add_lora(tiny_wan(), denoiser_name="transformer_2")
    pipe, _ = lora_pipe("transformer")
    with pytest.raises(RuntimeError, match="of two denoisers, each takes only its part of the steps"):
        sample_with_grad(pipe, PROMPTS, 1, generator=generators(2), **CALL)
