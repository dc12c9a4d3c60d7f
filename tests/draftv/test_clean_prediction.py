"""ReFL and DRaFT-LV: the clean prediction of each scheduler, and both estimators against their formulas."""

import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)

from draftv_trainer.clean_prediction import check_clean_prediction, noised_to_last_step, predicted_clean, start_at
from draftv_trainer.graph_steps import refl_step
from draftv_trainer.sampling import sample_renoised, sample_with_grad
from tests.draftv.explicit_sampling import STEPS, ExplicitWan, assert_same_gradients, gradients_of, lora_pipe
from tests.draftv.factories import (
    PROMPTS,
    TINY_SIZE,
    euler_flow_scheduler,
    generators,
    infer,
    redness,
    unipc_flow_scheduler,
)

FLOW = [euler_flow_scheduler, unipc_flow_scheduler]
DIFFUSION = {
    f"{kind.__name__}-{prediction_type}": (kind, {**settings, "prediction_type": prediction_type})
    for kind, settings in [
        (DDIMScheduler, {"clip_sample": False}),
        (DDPMScheduler, {"clip_sample": False}),
        (CogVideoXDDIMScheduler, {"clip_sample": False}),
        (UniPCMultistepScheduler, {}),
        (DPMSolverMultistepScheduler, {}),
    ]
    for prediction_type in ("epsilon", "v_prediction", "sample")
}
SAMPLING = {**TINY_SIZE, "num_inference_steps": STEPS}


def noise_dpm_solver():
    return DPMSolverMultistepScheduler(algorithm_type="dpmsolver", final_sigmas_type="sigma_min")


def tensors(*shape):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for _ in range(3)]


@pytest.mark.parametrize("name", DIFFUSION)
@pytest.mark.parametrize("step", [0, 3])
def test_the_clean_prediction_of_diffusion_schedulers(name, step):
    kind, settings = DIFFUSION[name]
    scheduler = kind(**settings)
    scheduler.set_timesteps(STEPS)
    start_at(scheduler, step)
    clean, noise, _ = tensors(2, 4)
    timestep = scheduler.timesteps[step]
    signal = scheduler.alphas_cumprod[timestep]
    noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
    output = {
        "epsilon": noise,
        "sample": clean,
        "v_prediction": signal.sqrt() * noise - (1 - signal).sqrt() * clean,
    }[settings["prediction_type"]]
    result = scheduler.step(output, timestep, noisy, return_dict=False)
    predicted = predicted_clean(scheduler, result, {"model_output": output, "sample": noisy})
    torch.testing.assert_close(predicted, clean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make_scheduler", FLOW)
@pytest.mark.parametrize("step", [0, 3])
def test_the_clean_prediction_of_flow_schedulers(make_scheduler, step):
    scheduler = make_scheduler()
    scheduler.set_timesteps(STEPS)
    start_at(scheduler, step)
    clean, noise, _ = tensors(2, 4)
    sigma = scheduler.sigmas[step]
    noisy, velocity = (1 - sigma) * clean + sigma * noise, noise - clean
    result = scheduler.step(velocity, scheduler.timesteps[step], noisy, return_dict=True)
    predicted = predicted_clean(scheduler, result, {"model_output": velocity, "sample": noisy})
    torch.testing.assert_close(predicted, clean)


@pytest.mark.parametrize("step", [0, 3])
def test_sigmas_that_rise_to_the_clean_sample(step):
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    scheduler.set_timesteps(STEPS)
    start_at(scheduler, step)
    clean, noise, _ = tensors(2, 4)
    share = 1 - scheduler.sigmas[step]
    noisy, velocity = (1 - share) * clean + share * noise, clean - noise
    result = scheduler.step(velocity, scheduler.timesteps[step], noisy, return_dict=False)
    torch.testing.assert_close(predicted_clean(scheduler, result, {"model_output": velocity, "sample": noisy}), clean)
    if step == STEPS - 1:
        torch.testing.assert_close(noised_to_last_step(scheduler, clean, noise), noisy)
        torch.testing.assert_close(result[0], clean)


@pytest.mark.parametrize("make_scheduler", [*FLOW, lambda: DDIMScheduler(), lambda: UniPCMultistepScheduler()])
def test_noised_to_the_last_step(make_scheduler):
    scheduler = make_scheduler()
    scheduler.set_timesteps(STEPS)
    clean, noise, _ = tensors(2, 3, 4)
    noised = noised_to_last_step(scheduler, clean, noise)
    if make_scheduler in FLOW:
        sigma = scheduler.sigmas[STEPS - 1]
        signal = 1 - sigma
    else:
        squared = scheduler.alphas_cumprod[scheduler.timesteps[-1]]
        signal, sigma = squared.sqrt(), (1 - squared).sqrt()
    torch.testing.assert_close(noised, signal * clean + sigma * noise)
    torch.testing.assert_close(noised_to_last_step(scheduler, clean, noise), noised)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (FlowMatchHeunDiscreteScheduler(), "FlowMatchHeunDiscreteScheduler does not tell: expected one of"),
        (UniPCMultistepScheduler(predict_x0=False), "does not tell with an algorithm that works on the noise"),
        (noise_dpm_solver(), "does not tell with an algorithm"),
    ],
)
def test_schedulers_that_cannot(scheduler, message):
    with pytest.raises(ValueError, match=message):
        check_clean_prediction(scheduler)


@pytest.mark.parametrize("make_scheduler", FLOW)
@pytest.mark.parametrize("step", [0, 2, 3])
def test_refl_equals_its_formula_and_calls_the_denoiser_no_further(make_scheduler, step):
    pipe, calls = lora_pipe(make_scheduler), []
    forward = pipe.transformer.forward
    pipe.transformer.forward = lambda *args, **kwargs: (
        calls.append(torch.is_grad_enabled()),
        forward(*args, **kwargs),
    )[1]
    frames = sample_with_grad(pipe, PROMPTS, refl_step([step, step], 0), generator=generators(2), **SAMPLING)
    assert calls == [False] * 2 * step + [True] * 2
    ours = gradients_of(pipe, redness(frames, PROMPTS).sum())
    explicit, scheduler = ExplicitWan(pipe), make_scheduler()
    scheduler.set_timesteps(STEPS)
    explicit.scheduler = scheduler
    latents = explicit.start
    for earlier in range(step):
        velocity = explicit.velocity(latents, earlier, grad=False)
        latents = scheduler.step(velocity, scheduler.timesteps[earlier], latents, return_dict=False)[0]
    clean = latents - scheduler.sigmas[step] * explicit.velocity(latents, step)
    expected = explicit.decode(clean)
    torch.testing.assert_close(frames, expected, rtol=0.0, atol=1e-6)
    assert_same_gradients(ours, gradients_of(pipe, redness(expected, PROMPTS).sum()), atol=1e-5)


@pytest.mark.parametrize("make_scheduler", FLOW)
def test_lv_equals_its_formula(make_scheduler):
    pipe = lora_pipe(make_scheduler)
    clips = sample_renoised(pipe, PROMPTS, 2, generator=generators(2), **SAMPLING)
    ours = gradients_of(pipe, torch.stack([redness(clip, PROMPTS) for clip in clips]).mean())
    explicit, scheduler = ExplicitWan(pipe), make_scheduler()
    scheduler.set_timesteps(STEPS)
    explicit.scheduler = scheduler
    sigma = scheduler.sigmas[STEPS - 1]
    # Each video's noise goes on where its first latents ended.
    sources, rewards = generators(2), []
    for source in sources:
        torch.randn((1, 4, 2, 2, 2), generator=source)
    final = infer(pipe, STEPS, output_type="latent")
    for clip in clips:
        noise = torch.cat([torch.randn((1, 4, 2, 2, 2), generator=source) for source in sources])
        noised = (1 - sigma) * final + sigma * noise
        expected = explicit.decode(noised - sigma * explicit.velocity(noised, STEPS - 1))
        torch.testing.assert_close(clip, expected, rtol=0.0, atol=1e-5)
        rewards.append(redness(expected, PROMPTS))
    assert_same_gradients(ours, gradients_of(pipe, torch.stack(rewards).mean()), atol=1e-4)
    assert not torch.equal(clips[0], clips[1])


def test_lv_calls_the_denoiser_once_more_per_sample():
    pipe, built = lora_pipe(), []
    forward = pipe.transformer.forward

    def counted(*args, **kwargs):
        built.append(torch.is_grad_enabled())
        return forward(*args, **kwargs)

    pipe.transformer.forward = counted
    sample_renoised(pipe, PROMPTS, 3, generator=generators(2), **SAMPLING)
    assert built == [False] * 2 * STEPS + [True] * 2 * 3


@pytest.mark.parametrize("num_samples", [0, -1])
def test_lv_out_of_range(num_samples):
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        sample_renoised(lora_pipe(), PROMPTS, num_samples, **SAMPLING)


def test_a_scheduler_that_cannot_is_named_before_sampling():
    pipe = lora_pipe(FlowMatchHeunDiscreteScheduler)
    with pytest.raises(ValueError, match="FlowMatchHeunDiscreteScheduler does not tell"):
        sample_renoised(pipe, PROMPTS, 1, **SAMPLING)
    with pytest.raises(ValueError, match="FlowMatchHeunDiscreteScheduler does not tell"):
        sample_with_grad(pipe, PROMPTS, refl_step(None, 0), **SAMPLING)
