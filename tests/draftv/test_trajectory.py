"""Which graph a trajectory builds: subsets of the steps, detached inputs, and the gradients of an explicit loop."""

import pytest
import torch

from draftv_trainer.graph_steps import all_steps, random_last_steps, spread_steps, these_steps
from draftv_trainer.sampling import sample_with_grad
from tests.draftv.explicit_sampling import (
    STEPS,
    ExplicitWan,
    assert_same_gradients,
    gradients_of,
    lora_pipe,
)
from tests.draftv.factories import (
    PROMPTS,
    TINY_SIZE,
    generators,
    infer,
    redness,
    unipc_flow_scheduler,
)


def draw(pipe, steps, **overrides):
    arguments = {**TINY_SIZE, "num_inference_steps": STEPS, "generator": generators(len(PROMPTS)), **overrides}
    return sample_with_grad(pipe, PROMPTS, steps, **arguments)


def graph_calls(pipe):
    """Return a list that fills with whether each denoiser call built a graph."""
    built = []
    pipe.transformer.register_forward_hook(lambda module, args, output: built.append(output[0].requires_grad))
    return built


@pytest.mark.parametrize(("seed", "chosen"), [(2, {0, 2}), (0, {1, 3})])
def test_drtune_equals_an_explicit_loop(seed, chosen):
    pipe = lora_pipe()
    steps = spread_steps(2, seed)
    assert steps.choose(STEPS) == chosen
    frames = draw(pipe, steps)
    ours = gradients_of(pipe, redness(frames, PROMPTS).sum())
    explicit = ExplicitWan(pipe)
    latents = explicit.start
    for step in range(STEPS):
        velocity = explicit.velocity(latents.detach(), step, grad=step in chosen)
        latents = explicit.euler(latents, step, velocity)
    expected = explicit.decode(latents)
    torch.testing.assert_close(frames, expected, rtol=0.0, atol=1e-6)
    assert_same_gradients(ours, gradients_of(pipe, redness(expected, PROMPTS).sum()), atol=1e-5)


@pytest.mark.parametrize("chosen", [{0}, {0, 2}, {1, 3}, {0, 1, 2, 3}])
def test_any_subset_equals_an_explicit_loop(chosen):
    pipe = lora_pipe()
    ours = gradients_of(pipe, redness(draw(pipe, these_steps(chosen)), PROMPTS).sum())
    explicit = ExplicitWan(pipe)
    latents = explicit.start
    for step in range(STEPS):
        latents = explicit.euler(latents, step, explicit.velocity(latents, step, grad=step in chosen))
    assert_same_gradients(ours, gradients_of(pipe, redness(explicit.decode(latents), PROMPTS).sum()), atol=1e-5)


def test_an_early_step_alone_gets_a_gradient_through_the_scheduler():
    pipe = lora_pipe(unipc_flow_scheduler)
    gradients = gradients_of(pipe, redness(draw(pipe, these_steps({0})), PROMPTS).sum())
    assert all(gradient.abs().max() > 0 for gradient in gradients.values())


@pytest.mark.parametrize("make_scheduler", [None, unipc_flow_scheduler])
@pytest.mark.parametrize("steps", [spread_steps(2, 0), random_last_steps(None, 0), all_steps(), these_steps({1})])
def test_frames_equal_inference_and_only_the_chosen_steps_build_a_graph(make_scheduler, steps):
    pipe = lora_pipe(make_scheduler) if make_scheduler else lora_pipe()
    built = graph_calls(pipe)
    frames = draw(pipe, steps)
    chosen, with_guidance = steps.choose(STEPS), 2
    assert built == [step in chosen for step in range(STEPS) for _ in range(with_guidance)]
    assert torch.equal(frames, infer(pipe, STEPS))


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_all_is_the_last_T(guidance_scale):
    pipe = lora_pipe()
    every = gradients_of(pipe, redness(draw(pipe, all_steps(), guidance_scale=guidance_scale), PROMPTS).sum())
    last = gradients_of(pipe, redness(draw(pipe, STEPS, guidance_scale=guidance_scale), PROMPTS).sum())
    assert_same_gradients(every, last)


def test_a_forward_put_on_the_denoiser_by_another_library_is_called_and_stays():
    pipe = lora_pipe()
    forward, calls = pipe.transformer.forward, []

    def hooked(*args, **kwargs):
        calls.append(1)
        return forward(*args, **kwargs)

    pipe.transformer.forward = hooked
    draw(pipe, spread_steps(1, 0))
    assert pipe.transformer.forward is hooked
    assert len(calls) == 2 * STEPS
    plain = lora_pipe()
    draw(plain, spread_steps(1, 0))
    assert "forward" not in vars(plain.transformer)


def test_the_denoiser_is_as_before_after_an_error():
    pipe = lora_pipe()

    def fail(module, args, output):
        raise RuntimeError("stopped")

    handle = pipe.transformer.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="stopped"):
        draw(pipe, 1)
    handle.remove()
    assert "forward" not in vars(pipe.transformer)


def test_steps_outside_the_trajectory_are_an_error():
    with pytest.raises(ValueError, match=r"got \[4\], but the scheduler takes 4 steps, 0 to 3"):
        draw(lora_pipe(), these_steps({1, 4}))
