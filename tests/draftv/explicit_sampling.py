"""Sampling tiny Wan written out as a loop over Euler steps, to compare the real pipeline's gradients against."""

import torch
from diffusers import WanPipeline

from draftv_trainer.lora import add_lora
from tests.draftv.factories import PROMPTS, TINY_SIZE, euler_flow_scheduler, generators, tiny_wan

STEPS = 4


def lora_pipe(make_scheduler=euler_flow_scheduler) -> WanPipeline:
    """A tiny Wan whose LoRA does not start at zero, so that every LoRA weight has a gradient."""
    pipe = tiny_wan(make_scheduler())
    denoiser = add_lora(pipe)
    generator = torch.Generator().manual_seed(1)
    for parameter in denoiser.parameters():
        if parameter.requires_grad:
            parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return pipe


def lora_gradients(pipe: WanPipeline) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in pipe.transformer.named_parameters() if p.requires_grad}


def gradients_of(pipe: WanPipeline, value: torch.Tensor) -> dict[str, torch.Tensor]:
    pipe.transformer.zero_grad()
    value.backward()
    return lora_gradients(pipe)


def assert_same_gradients(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], atol: float = 0.0) -> None:
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(got[name], gradient, rtol=0.0, atol=atol * gradient.abs().max().item(), msg=name)


class ExplicitWan:
    """What the pipeline's call does, one function a line."""

    def __init__(self, pipe: WanPipeline, num_steps: int = STEPS) -> None:
        self.pipe = pipe
        self.text, self.negative = (embeds.detach() for embeds in pipe.encode_prompt(PROMPTS, max_sequence_length=8))
        self.generators = generators(len(PROMPTS))
        noise = [torch.randn((1, 4, 2, 2, 2), generator=generator) for generator in self.generators]
        self.start = torch.cat(noise)
        self.scheduler = euler_flow_scheduler()
        self.scheduler.set_timesteps(num_steps)
        self.sigmas = self.scheduler.sigmas

    def velocity(self, latents: torch.Tensor, step: int, grad: bool = True) -> torch.Tensor:
        time = self.scheduler.timesteps[step].expand(len(latents))
        with torch.set_grad_enabled(grad):
            with_text, without = (
                self.pipe.transformer(latents, time, embeds, return_dict=False)[0]
                for embeds in (self.text, self.negative)
            )
            return without + TINY_SIZE["guidance_scale"] * (with_text - without)

    def euler(self, latents: torch.Tensor, step: int, velocity: torch.Tensor) -> torch.Tensor:
        return latents + (self.sigmas[step + 1] - self.sigmas[step]) * velocity

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        vae = self.pipe.vae
        mean, std = (
            torch.tensor(values).view(1, -1, 1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        video_BCTHW = vae.decode(latents * std + mean, return_dict=False)[0]
        return (video_BCTHW / 2 + 0.5).clamp(0, 1).permute(0, 2, 1, 3, 4)
