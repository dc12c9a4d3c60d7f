"""Sampling with gradients: equal frames, a graph only where it was asked for, and a restored gradient mode."""

import inspect

import pytest
import torch
from diffusers import FlowMatchHeunDiscreteScheduler, WanPipeline

from draftv_trainer.sampling import sample, sample_with_grad
from tests.draftv.explicit_sampling import STEPS, lora_gradients, lora_pipe
from tests.draftv.factories import (
    PROMPTS,
    TINY_SIZE,
    euler_flow_scheduler,
    generators,
    infer,
    redness,
    tiny_wan,
    unipc_flow_scheduler,
)

SCHEDULERS = [unipc_flow_scheduler, euler_flow_scheduler]


def draw(pipe, num_backprop_steps, **overrides):
    arguments = {**TINY_SIZE, "num_inference_steps": STEPS, "generator": generators(len(PROMPTS)), **overrides}
    return sample_with_grad(pipe, PROMPTS, num_backprop_steps, **arguments)


@pytest.mark.parametrize("make_scheduler", SCHEDULERS)
@pytest.mark.parametrize("num_backprop_steps", [1, 2, STEPS])
def test_frames_equal_ordinary_inference_exactly_and_only_the_last_steps_build_a_graph(
    make_scheduler, num_backprop_steps
):
    pipe = lora_pipe(make_scheduler)
    expected = infer(pipe, STEPS)
    built, texts = [], []
    pipe.transformer.register_forward_hook(lambda module, args, output: built.append(output[0].requires_grad))
    pipe.text_encoder.register_forward_hook(lambda module, args, output: texts.append(torch.is_grad_enabled()))
    frames = draw(pipe, num_backprop_steps)
    assert torch.equal(frames, expected)
    assert frames.shape == (2, 5, 3, 16, 16)
    assert frames.requires_grad
    assert frames.min() >= 0.0 and frames.max() <= 1.0
    with_guidance = 2
    early = (STEPS - num_backprop_steps) * with_guidance
    assert built == [False] * early + [True] * num_backprop_steps * with_guidance
    assert texts == [False] * with_guidance


def test_a_pipeline_that_infers_in_inference_mode_is_unwrapped():
    class InferenceWan(WanPipeline):
        __call__ = torch.inference_mode()(inspect.unwrap(WanPipeline.__call__))

    pipe = lora_pipe()
    pipe.__class__ = InferenceWan
    assert infer(pipe, STEPS).is_inference()
    frames = draw(pipe, 2)
    assert torch.equal(frames, infer(pipe, STEPS))
    frames.mean().backward()
    assert all(gradient.abs().max() > 0 for gradient in lora_gradients(pipe).values())


def test_sample_equals_ordinary_inference_and_has_no_graph():
    pipe = lora_pipe()
    arguments = {**TINY_SIZE, "num_inference_steps": STEPS}
    frames = sample(pipe, PROMPTS, generator=generators(2), **arguments)
    assert torch.equal(frames, infer(pipe, STEPS))
    assert not frames.requires_grad


def test_a_second_order_scheduler_counts_each_of_its_steps():
    pipe = lora_pipe(lambda: FlowMatchHeunDiscreteScheduler(shift=3.0))
    built = []
    pipe.transformer.register_forward_hook(lambda module, args, output: built.append(output[0].requires_grad))
    frames = draw(pipe, 3)
    with_guidance, num_scheduler_steps = 2, 2 * STEPS - 1
    assert built == [False] * (num_scheduler_steps - 3) * with_guidance + [True] * 3 * with_guidance
    assert torch.equal(frames, infer(pipe, STEPS))


@pytest.mark.parametrize("make_scheduler", SCHEDULERS)
def test_all_steps_equal_a_plain_backward_through_the_unwrapped_call(make_scheduler):
    pipe = lora_pipe(make_scheduler)
    redness(draw(pipe, STEPS), PROMPTS).sum().backward()
    ours = lora_gradients(pipe)
    pipe.transformer.zero_grad()
    unwrapped = type(pipe).__call__.__wrapped__
    arguments = {**TINY_SIZE, "num_inference_steps": STEPS, "generator": generators(2), "output_type": "pt"}
    redness(unwrapped(pipe, PROMPTS, **arguments).frames, PROMPTS).sum().backward()
    plain = lora_gradients(pipe)
    assert all(torch.equal(ours[name], plain[name]) for name in plain)
    assert all(gradient.abs().max() > 0 for gradient in plain.values())


def test_truncation_equals_cutting_the_graph_of_a_full_run():
    # The Euler scheduler keeps no earlier predictions, so cutting its latents is all there is to truncation.
    pipe = lora_pipe(euler_flow_scheduler)
    redness(draw(pipe, 2), PROMPTS).sum().backward()
    ours = lora_gradients(pipe)
    pipe.transformer.zero_grad()

    def cut(pipe, step, timestep, tensors):
        return {"latents": tensors["latents"].detach() if step == STEPS - 3 else tensors["latents"]}

    unwrapped = type(pipe).__call__.__wrapped__
    arguments = {**TINY_SIZE, "num_inference_steps": STEPS, "generator": generators(2), "output_type": "pt"}
    frames = unwrapped(pipe, PROMPTS, callback_on_step_end=cut, **arguments).frames
    redness(frames, PROMPTS).sum().backward()
    # Outside the last two steps nothing reaches the loss, so the gradients agree in every bit.
    assert all(torch.equal(ours[name], gradient) for name, gradient in lora_gradients(pipe).items())


def test_gradient_of_one_weight_agrees_with_finite_differences():
    pipe = lora_pipe(unipc_flow_scheduler)
    redness(draw(pipe, STEPS), PROMPTS).sum().backward()
    gradients = lora_gradients(pipe)
    name = max(gradients, key=lambda key: gradients[key].abs().max().item())
    index = gradients[name].abs().argmax()
    weight = dict(pipe.transformer.named_parameters())[name].data.view(-1)
    start, step, values = weight[index].item(), 3e-3, []
    for shifted in (start + step, start - step):
        weight[index] = shifted
        values.append(redness(infer(pipe, STEPS), PROMPTS).double().sum().item())
    expected = (values[0] - values[1]) / (2 * step)
    assert gradients[name].view(-1)[index].item() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("mode", [True, False])
def test_gradient_mode_is_restored_and_may_have_been_off(mode):
    pipe = lora_pipe()
    with torch.set_grad_enabled(mode):
        frames = draw(pipe, 1)
        assert torch.is_grad_enabled() is mode
    assert frames.requires_grad


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("at_call", [1, 2 * STEPS])
def test_gradient_mode_and_scheduler_are_restored_after_an_error(error, mode, at_call):
    pipe = lora_pipe()
    scheduler, calls = pipe.scheduler, []

    def fail(module, args, output):
        calls.append(output)
        if len(calls) == at_call:
            raise error("stopped")

    handle = pipe.transformer.register_forward_hook(fail)
    with torch.set_grad_enabled(mode):
        with pytest.raises(error, match="stopped"):
            draw(pipe, 1)
        assert torch.is_grad_enabled() is mode
    assert pipe.scheduler is scheduler
    handle.remove()
    assert torch.equal(draw(pipe, 1), infer(pipe, STEPS))


def test_the_users_scheduler_is_left_untouched():
    pipe = lora_pipe(unipc_flow_scheduler)
    before = {key: value for key, value in vars(pipe.scheduler).items() if not isinstance(value, torch.Tensor)}
    config = dict(pipe.config)
    draw(pipe, STEPS)
    after = {key: value for key, value in vars(pipe.scheduler).items() if not isinstance(value, torch.Tensor)}
    assert after == before
    assert dict(pipe.config) == config


@pytest.mark.parametrize("num_backprop_steps", [0, -1, STEPS + 1, 1.0, "1", True, None])
def test_number_of_steps_out_of_range(num_backprop_steps):
    pipe = lora_pipe()
    with pytest.raises(ValueError, match=r"num_backprop_steps must be .*got"):
        draw(pipe, num_backprop_steps)


@pytest.mark.parametrize(
    ("prompts", "error"), [([], ValueError), ("a dog", TypeError), (["a dog", 3], TypeError), (None, TypeError)]
)
def test_wrong_prompts(prompts, error):
    with pytest.raises(error, match=r"prompts must .*got"):
        sample_with_grad(lora_pipe(), prompts, 1, num_inference_steps=2, **TINY_SIZE)


def test_a_size_the_pipeline_would_round_is_an_error():
    with pytest.raises(ValueError, match=r"cannot make {'num_frames': 6}: it made {'num_frames': 5}"):
        draw(lora_pipe(), 1, num_frames=6)


def test_nothing_to_differentiate_is_an_error():
    pipe = tiny_wan()
    for part in (pipe.transformer, pipe.vae, pipe.text_encoder):
        part.requires_grad_(False)
    with pytest.raises(RuntimeError, match="has no graph"):
        draw(pipe, 1)


def test_inference_mode_is_an_error():
    pipe = lora_pipe()
    with torch.inference_mode(), pytest.raises(RuntimeError, match="inference_mode"):
        draw(pipe, 1)


def test_reserved_arguments_and_output_type():
    pipe = lora_pipe()
    with pytest.raises(ValueError, match=r"must not hold \['prompt'\]"):
        draw(pipe, 1, prompt="another")
    with pytest.raises(ValueError, match="output_type must be"):
        draw(pipe, 1, output_type="pil")
    latents = draw(pipe, 1, output_type="latent")
    assert torch.equal(latents, infer(pipe, STEPS, output_type="latent"))
    assert latents.requires_grad


def test_a_loop_that_skips_steps_is_an_error():
    pipe = lora_pipe()
    pipe.transformer.register_forward_hook(lambda module, args, output: setattr(pipe, "_interrupt", True))
    with pytest.raises(RuntimeError, match=r"called scheduler.step 1 times where its scheduler announced 4 steps"):
        draw(pipe, 1)
