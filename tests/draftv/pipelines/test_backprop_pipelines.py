"""Every tested pipeline with every way to the gradient: spread steps, ReFL, DRaFT-LV, checkpointing and reference."""

import pytest
import torch
from diffusers import CogVideoXDPMScheduler

from draftv_trainer.checkpointing import apply_checkpointing
from draftv_trainer.graph_steps import refl_step, spread_steps
from draftv_trainer.reference import ReferenceDistance
from draftv_trainer.sampling import sample_renoised, sample_with_grad
from tests.draftv.factories import PROMPTS
from tests.draftv.pipeline_factories import PIPELINES
from tests.draftv.pipelines.test_sampling_pipelines import (
    ROWS,
    STEPS,
    arguments,
    gradients,
    lora_pipe,
    ordinary,
    score,
)

pytestmark = pytest.mark.slow


@ROWS
def test_spread_steps_and_checkpointing(name):
    pipe, denoiser = lora_pipe(name)
    expected = ordinary(pipe, name)
    apply_checkpointing("none", denoiser, 2)
    frames = sample_with_grad(pipe, PROMPTS, spread_steps(2, 0), **arguments(name))
    score(frames).backward()
    plain = gradients(denoiser)
    assert all(gradient.abs().max() > 0 for gradient in plain.values())
    checkpoint_calls = apply_checkpointing("auto", denoiser, 2)
    reference = ReferenceDistance(denoiser)
    again = sample_with_grad(
        pipe, PROMPTS, spread_steps(2, 0), checkpoint_calls=checkpoint_calls, observe=reference, **arguments(name)
    )
    assert torch.equal(frames, expected) and torch.equal(again, expected)
    assert len(reference.distances) == 2 * PIPELINES[name].calls_per_step
    assert reference.mean() > 0
    score(again).backward()
    for key, gradient in gradients(denoiser).items():
        torch.testing.assert_close(gradient, plain[key], rtol=0.0, atol=1e-6 * plain[key].abs().max().item())


@ROWS
def test_refl_and_draft_lv(name):
    pipe, denoiser = lora_pipe(name)
    expected = ordinary(pipe, name)
    early = sample_with_grad(pipe, PROMPTS, refl_step([1, 1], 0), **arguments(name))
    last = sample_with_grad(pipe, PROMPTS, refl_step([STEPS - 1, STEPS - 1], 0), **arguments(name))
    clips = sample_renoised(pipe, PROMPTS, 2, **arguments(name))
    assert len(clips) == 2
    for frames in (early, last, *clips):
        assert frames.shape == expected.shape
        score(frames).backward()
        assert all(gradient.abs().max() > 0 for gradient in gradients(denoiser).values())
    # What the last step predicts is what it steps to, or within the little noise that a scheduler keeps at the end.
    assert (last - expected).abs().max() < (early - expected).abs().max()
    assert not torch.equal(*clips)


def test_a_scheduler_that_hands_its_prediction_on():
    pipe, denoiser = lora_pipe("cogvideox")
    pipe.scheduler = CogVideoXDPMScheduler.from_config(pipe.scheduler.config)
    for frames in (
        sample_with_grad(pipe, PROMPTS, refl_step([1, 1], 0), **arguments("cogvideox")),
        *sample_renoised(pipe, PROMPTS, 2, **arguments("cogvideox")),
    ):
        score(frames).backward()
        assert all(gradient.abs().max() > 0 for gradient in gradients(denoiser).values())
