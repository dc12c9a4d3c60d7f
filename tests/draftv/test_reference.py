"""The distance to the untuned denoiser: zero at the start, right by its formula, and a gradient that pulls back."""

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from draftv_trainer.lora import add_lora
from draftv_trainer.reference import ReferenceDistance, without_lora
from draftv_trainer.sampling import sample_with_grad
from tests.draftv.explicit_sampling import STEPS, ExplicitWan, assert_same_gradients, gradients_of, lora_pipe
from tests.draftv.factories import PROMPTS, TINY_SIZE, euler_flow_scheduler, generators, tiny_wan


def distance(pipe, num_backprop_steps=2, **overrides):
    reference = ReferenceDistance(pipe.transformer)
    arguments = {**TINY_SIZE, "num_inference_steps": STEPS, "generator": generators(len(PROMPTS)), **overrides}
    sample_with_grad(pipe, PROMPTS, num_backprop_steps, observe=reference, **arguments)
    return reference


def trainable(pipe):
    return {name for name, parameter in pipe.transformer.named_parameters() if parameter.requires_grad}


def test_zero_at_the_start():
    pipe = tiny_wan()
    add_lora(pipe)
    reference = distance(pipe)
    assert reference.mean().item() == 0.0
    assert len(reference.distances) == 2 * 2
    assert reference.mean().requires_grad


def test_equals_its_formula():
    pipe = lora_pipe(euler_flow_scheduler)
    ours = distance(pipe).mean()
    gradients = gradients_of(pipe, ours)
    explicit, terms = ExplicitWan(pipe), []
    latents = explicit.start
    for step in range(STEPS):
        if step >= STEPS - 2:
            time = explicit.scheduler.timesteps[step].expand(2)
            for embeds in (explicit.text, explicit.negative):
                tuned = pipe.transformer(latents, time, embeds, return_dict=False)[0]
                with torch.no_grad(), without_lora(pipe.transformer):
                    untuned = pipe.transformer(latents, time, embeds, return_dict=False)[0]
                terms.append((tuned - untuned).square().mean())
        latents = explicit.euler(latents, step, explicit.velocity(latents, step, grad=step >= STEPS - 2))
    expected = torch.stack(terms).mean()
    torch.testing.assert_close(ours, expected)
    assert_same_gradients(gradients, gradients_of(pipe, expected), atol=1e-4)


def test_the_gradient_pulls_back():
    pipe = lora_pipe()
    before = distance(pipe).mean()
    gradients = gradients_of(pipe, before)
    norm = torch.cat([gradient.flatten() for gradient in gradients.values()]).norm()
    for name, parameter in pipe.transformer.named_parameters():
        if name in gradients:
            parameter.data -= 0.05 * gradients[name] / norm
    assert distance(pipe).mean() < before


def test_equal_under_checkpointing():
    pipe = lora_pipe()
    plain = gradients_of(pipe, distance(pipe).mean())
    assert_same_gradients(gradients_of(pipe, distance(pipe, checkpoint_calls=True).mean()), plain)


def test_the_lora_is_off_inside_and_as_before_outside():
    pipe = lora_pipe()
    names = trainable(pipe)
    frozen = next(iter(names))
    pipe.transformer.get_parameter(frozen).requires_grad_(False)
    layers = [module for module in pipe.transformer.modules() if isinstance(module, BaseTunerLayer)]
    with without_lora(pipe.transformer):
        assert all(layer.disable_adapters for layer in layers)
    assert not any(layer.disable_adapters for layer in layers)
    assert trainable(pipe) == names - {frozen}
