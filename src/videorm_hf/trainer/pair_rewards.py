"""PairRewards: the module that the trainer trains, from a batch of groups to one reward a video.

It stands between Trainer and the reward model so that, also under `DistributedDataParallel`, all that trains runs in
one forward call: with each video and each prompt encoded once, or from features that were computed before.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from videorm_hf.models.videorm.modeling_videorm import VideoRMModel


class PairRewards(nn.Module):
    """Score the videos of a batch, each for the prompt of its group.

    Args:
        reward_model (`PreTrainedModel`):
            A [`VideoRMModel`]; or any model whose forward takes a row of `pixel_values_videos`, `input_ids` and
            `attention_mask` for each video and returns `rewards` of shape `(num_videos,)`.
        loss_scale (`float`, *optional*):
            What rewards are multiplied by in the loss. By default `exp(logit_scale)` of the model, or 1.
    """

    def __init__(self, reward_model: PreTrainedModel, loss_scale: float | None = None) -> None:
        super().__init__()
        self.reward_model = reward_model
        self.loss_scale = loss_scale

    def activation_checkpointing_enable(self, **kwargs: Any) -> None:
        """Have the reward model compute activations again in the backward pass, when Trainer wishes it.

        Args:
            kwargs (`Any`): As for transformers' models.
        """
        self.reward_model.activation_checkpointing_enable(**kwargs)

    def gradient_checkpointing_enable(self, **kwargs: Any) -> None:
        """Do the same under the name that older releases of transformers call it by.

        Args:
            kwargs (`Any`): As for transformers' models.
        """
        self.reward_model.gradient_checkpointing_enable(**kwargs)

    def train(self, mode: bool = True) -> "PairRewards":
        """Set training or evaluation; what is frozen always evaluates, so that its features stay the same.

        Args:
            mode (`bool`, defaults to `True`): Whether to train.

        Returns:
            `PairRewards`: itself.
        """
        super().train(mode)
        for child in self.reward_model.children():
            if not any(parameter.requires_grad for parameter in child.parameters()):
                child.eval()
        return self

    def scale(self) -> torch.Tensor | float:
        """Return what rewards are multiplied by in the loss."""
        if self.loss_scale is not None:
            return self.loss_scale
        logit_scale = dict(self.reward_model.named_parameters(recurse=False)).get("logit_scale")
        return 1.0 if logit_scale is None else logit_scale.float().exp()

    def forward(self, prompt_index: torch.Tensor, **inputs: torch.Tensor) -> dict[str, Any]:
        """Score videos from pixels and tokens, or from the frozen towers' features.

        Args:
            prompt_index (`torch.LongTensor` of shape `(num_videos,)`):
                Which prompt each video is scored for.
            inputs (`torch.Tensor`):
                Either `pixel_values_videos` `(num_videos, num_frames, 3, height, width)`, and `input_ids` and
                `attention_mask` `(num_prompts, sequence_length)`; or `frame_embeds`
                `(num_videos, num_frames, projection_dim)` and `text_embeds` `(num_prompts, projection_dim)`, as
                `get_frame_embeds` and `get_text_embeds` return them.

        Returns:
            `dict`: `rewards` of shape `(num_videos,)`, float32, and `scale`, what the loss multiplies them by.
        """
        return {"rewards": self._rewards(prompt_index, inputs), "scale": self.scale()}

    def _rewards(self, prompt_index: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        model = self.reward_model
        if "frame_embeds" in inputs:
            frame_embeds, text_embeds = inputs["frame_embeds"], inputs["text_embeds"]
        else:
            pixels = inputs["pixel_values_videos"].to(model.dtype)
            tokens = {name: inputs[name] for name in ("input_ids", "attention_mask")}
            if not isinstance(model, VideoRMModel):
                of_videos = {name: value[prompt_index] for name, value in tokens.items()}
                return model(pixel_values_videos=pixels, **of_videos).rewards.float()
            frame_embeds, text_embeds = model.get_frame_embeds(pixels), model.get_text_embeds(**tokens)
        return (model.pool_frames(frame_embeds) * text_embeds[prompt_index]).sum(dim=-1)
