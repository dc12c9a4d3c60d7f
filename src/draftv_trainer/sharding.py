"""A denoiser too large for one device: its frozen weights divided over the processes, its LoRA whole on each.

FSDP2 (`fully_shard`) gathers one block's weights at a time, under the unmodified pipeline. What is trained, the LoRA,
stays an ordinary tensor that DistributedDataParallel averages the gradients of, and that is saved as ever.
Source: Zhao et al. 2023 (FSDP, arXiv 2304.11277); PyTorch's `torch.distributed.fsdp`.
"""

from collections.abc import Iterable

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


def shard_denoisers(rollout: nn.Module, denoisers: Iterable[ModelMixin], device: torch.device) -> None:
    """Divide the denoisers' frozen weights over all processes.

    Every process must then make the same number of denoiser calls, as it does in training and evaluation here.

    Args:
        rollout (`nn.Module`):
            The module that DistributedDataParallel will wrap. Its `denoiser` becomes a plain attribute, so that of all
            weights it shows the LoRA alone: accelerate wraps no module that shows divided ones.
        denoisers (`Iterable[ModelMixin]`):
            The pipeline's one or two, one of them with a LoRA, on the CPU or on `device`, to which they are brought a
            block at a time; the LoRA is not. Changed in place.
        device (`torch.device`):
            Of this process.

    Raises:
        ValueError: If there is only one process.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    num_processes = torch.distributed.get_world_size() if distributed else 1
    if num_processes == 1:
        raise ValueError(
            "shard_denoiser needs several processes: got 1. Launch with torchrun or accelerate, or leave it out."
        )
    mesh = init_device_mesh(device.type, (num_processes,))
    for denoiser in denoisers:
        trained = {parameter for parameter in denoiser.parameters() if parameter.requires_grad}
        for block in denoiser_blocks(denoiser):
            fully_shard(block, mesh=mesh, ignored_params=trained)
        fully_shard(denoiser, mesh=mesh, ignored_params=trained)
    rollout.lora = nn.ParameterList(parameter for parameter in rollout.parameters() if parameter.requires_grad)
    rollout.__dict__["denoiser"] = rollout._modules.pop("denoiser")


def denoiser_blocks(denoiser: ModelMixin) -> list[nn.Module]:
    """Find the parts whose weights are gathered together: the entries of the denoiser's module lists.

    Args:
        denoiser (`ModelMixin`):
            Any denoiser of diffusers: all keep their blocks in lists, but for the middle one of a U-Net.

    Returns:
        `list[nn.Module]`: those that hold weights.
    """
    parts: list[nn.Module] = []
    for name, child in denoiser.named_children():
        if isinstance(child, nn.ModuleList):
            parts.extend(child)
        elif name == "mid_block":
            parts.append(child)
    return [part for part in parts if any(True for _ in part.parameters())]
