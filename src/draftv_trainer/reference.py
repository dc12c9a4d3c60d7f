"""Distance between the tuned denoiser's predictions and the untuned one's, to be added to the loss.

The untuned denoiser is the tuned one with its LoRA switched off. In flow matching and in diffusion the mean squared
distance of predictions is, up to a factor that depends on the step, the divergence of the two sampling processes.
Source: the regularisation by the pretrained model of DPOK (Fan et al. 2023, arXiv 2305.16381), Sec. 4.2.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer


class ReferenceDistance:
    """Gather the distance over the denoiser calls that build a graph; hand it to the sampling functions as `observe`.

    Args:
        denoiser (`torch.nn.Module`):
            The denoiser with its LoRA.
    """

    def __init__(self, denoiser: torch.nn.Module) -> None:
        self.denoiser = denoiser
        self.distances: list[torch.Tensor] = []

    def __call__(self, output: Any, repeat: Callable[[], Any]) -> None:
        """Add the distance of one call.

        Args:
            output (`Any`):
                The tuned denoiser's output.
            repeat (`Callable`):
                Repeats the call.
        """
        with torch.no_grad(), without_lora(self.denoiser):
            untuned = repeat()[0]
        self.distances.append((output[0].float() - untuned.float()).square().mean())

    def mean(self) -> torch.Tensor:
        """Return the mean over the calls.

        Returns:
            `torch.Tensor`: a scalar, 0 or greater, with a graph to the LoRA.
        """
        return torch.stack(self.distances).mean()


@contextmanager
def without_lora(denoiser: torch.nn.Module) -> Iterator[None]:
    """Switch the denoiser's LoRA off within the context.

    Args:
        denoiser (`torch.nn.Module`):
            The denoiser; without a LoRA it stays as it is.
    """
    layers = [module for module in denoiser.modules() if isinstance(module, BaseTunerLayer)]
    trainable = [parameter for parameter in denoiser.parameters() if parameter.requires_grad]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        # Switching on makes every weight of the adapter trainable, switching off none.
        denoiser.requires_grad_(False)
        for parameter in trainable:
            parameter.requires_grad_(True)
