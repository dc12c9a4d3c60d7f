"""Every tested pipeline, unmodified: equal frames, a graph where it was asked for, and true gradients."""

import inspect

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from draftv_trainer.lora import add_lora
from draftv_trainer.sampling import sample_with_grad
from tests.draftv.factories import PROMPTS, generators
from tests.draftv.pipeline_factories import PIPELINES, tiny_pipeline

STEPS = 3
ROWS = pytest.mark.parametrize("name", PIPELINES)


def lora_pipe(name):
    """The pipeline with a LoRA that does not start at zero, so that every LoRA weight has a gradient."""
    pipe = tiny_pipeline(name)
    denoiser = add_lora(pipe)
    generator = torch.Generator().manual_seed(1)
    for parameter in trainable(denoiser).values():
        parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return pipe, denoiser


def trainable(denoiser):
    return {name: parameter for name, parameter in denoiser.named_parameters() if parameter.requires_grad}


def arguments(name, **overrides):
    return {**PIPELINES[name].arguments(), "num_inference_steps": STEPS, "generator": generators(2), **overrides}


def ordinary(pipe, name, call=None):
    """Frames as a user of diffusers gets them, by default from the pipeline's own call."""
    call = call or type(pipe).__call__
    output = call(pipe, prompt=PROMPTS, output_type="pt", **arguments(name))
    return output["images"].unsqueeze(1) if PIPELINES[name].image else output["frames"]


def score(frames):
    """Unlike a mean over everything, sensitive to each frame and channel on its own."""
    pattern = torch.linspace(-1.0, 1.0, frames[0].numel()).sin().view(frames.shape[1:])
    return (frames * pattern).double().sum()


def gradients(denoiser):
    taken = {name: parameter.grad for name, parameter in trainable(denoiser).items()}
    denoiser.zero_grad()
    return taken


@ROWS
@pytest.mark.parametrize("num_backprop_steps", [1, 2])
def test_equal_frames_and_a_graph_in_the_last_steps_only(name, num_backprop_steps):
    row = PIPELINES[name]
    pipe, denoiser = lora_pipe(name)
    expected = ordinary(pipe, name)
    built, num_samples = [], []

    def note(module, args, kwargs, output):
        built.append(output[0].requires_grad)
        num_samples.append(len(output[0]))

    denoiser.register_forward_hook(note, with_kwargs=True)
    frames = sample_with_grad(pipe, PROMPTS, num_backprop_steps, **arguments(name))
    assert torch.equal(frames, expected)
    assert frames.shape == (2, row.num_frames, 3, row.size, row.size)
    assert frames.std() > 0.01
    early = (STEPS - num_backprop_steps) * row.calls_per_step
    assert built == [False] * early + [True] * num_backprop_steps * row.calls_per_step
    # With guidance every step sees each prompt twice, in one call or in two.
    assert sum(num_samples) == STEPS * 2 * len(PROMPTS)


@ROWS
def test_all_steps_equal_a_plain_full_backward(name):
    pipe, denoiser = lora_pipe(name)
    score(sample_with_grad(pipe, PROMPTS, STEPS, **arguments(name))).backward()
    ours = gradients(denoiser)
    score(ordinary(pipe, name, inspect.unwrap(type(pipe).__call__))).backward()
    plain = gradients(denoiser)
    assert all(torch.equal(ours[key], gradient) for key, gradient in plain.items())
    assert all(gradient.abs().max() > 0 for gradient in plain.values())


@ROWS
def test_gradient_of_one_weight_agrees_with_finite_differences(name):
    pipe, denoiser = lora_pipe(name)
    score(sample_with_grad(pipe, PROMPTS, STEPS, **arguments(name))).backward()
    taken = gradients(denoiser)
    largest = max(taken, key=lambda key: taken[key].abs().max().item())
    index = taken[largest].abs().argmax()
    weight = trainable(denoiser)[largest].data.view(-1)
    start, step, values = weight[index].item(), 2e-3, []
    for shifted in (start + step, start - step):
        weight[index] = shifted
        values.append(score(ordinary(pipe, name)).item())
    expected = (values[0] - values[1]) / (2 * step)
    assert taken[largest].view(-1)[index].item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("name", "num_videos"), [("modelscope", 1), ("animatediff", 2)])
def test_fresh_noise_in_ddim_steps_is_the_same_with_a_graph(name, num_videos):
    pipe, _ = lora_pipe(name)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)

    def noise(**overrides):
        return arguments(name, generator=generators(num_videos), **overrides)

    prompts = PROMPTS[:num_videos]
    expected = pipe(prompts, output_type="pt", **noise(eta=1.0))["frames"]
    frames = sample_with_grad(pipe, prompts, 2, **noise(eta=1.0))
    assert torch.equal(frames, expected)
    assert not torch.equal(frames, pipe(prompts, output_type="pt", **noise())["frames"])
    assert frames.requires_grad


def test_fresh_noise_that_the_pipeline_cannot_draw_for_several_videos_is_named():
    pipe, _ = lora_pipe("modelscope")
    with pytest.raises(ValueError, match="TextToVideoSDPipeline gives its scheduler frames.*Got 2 prompts"):
        sample_with_grad(pipe, PROMPTS, 2, **arguments("modelscope", eta=0.5))


class CuttingDDIM(DDIMScheduler):
    @torch.no_grad()
    def step(self, *args, **kwargs):
        return super().step(*args, **kwargs)


class CuttingEuler(FlowMatchEulerDiscreteScheduler):
    @torch.no_grad()
    def step(self, *args, **kwargs):
        return super().step(*args, **kwargs)


@pytest.mark.parametrize(("name", "kind"), [("modelscope", CuttingDDIM), ("ltx", CuttingEuler)])
def test_a_scheduler_that_cuts_the_graph_is_named_before_anything_is_decoded(name, kind):
    pipe, _ = lora_pipe(name)
    pipe.scheduler = kind.from_config(pipe.scheduler.config)
    decoded = []
    pipe.vae.decoder.register_forward_hook(lambda module, args, output: decoded.append(output))
    with pytest.raises(RuntimeError, match=f"The scheduler {kind.__name__} cuts the graph.*Use another one"):
        sample_with_grad(pipe, PROMPTS, 1, **arguments(name))
    assert not decoded
