"""VideoRMBlipModel: VIDEORM on ImageReward, the paper's variant beta.

For each frame BLIP's text encoder reads the prompt with cross-attention to that frame; the state of its class token is
the frame's fused feature. VIDEORM's temporal head pools these over time, and ImageReward's head turns the pooled
feature into the reward. That head is affine, so a new temporal head, whose gate is zero, gives exactly the mean of
ImageReward over frames.

Follows: Wu et al. 2024 (NeurIPS), variant beta, whose attachment is open there; Xu et al. 2023 (ImageReward). Shapes:
B clips, T frames, D channels of the text encoder.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import BlipTextModel, BlipVisionModel
from transformers import initialization as init
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from videorm_hf.models.score_mlp import ScoreMLP
from videorm_hf.models.videorm.modeling_videorm import VideoRMModel, VideoRMPreTrainedModel, VideoRMTemporalHead
from videorm_hf.models.videorm_blip.configuration_videorm_blip import VideoRMBlipConfig


@dataclass
class VideoRMBlipOutput(ModelOutput):
    """What a [`VideoRMBlipModel`] returns.

    Args:
        loss (`torch.FloatTensor` of shape `()`, *optional*, returned with `return_loss=True`):
            Preference loss over the (chosen, rejected) halves of the batch.
        rewards (`torch.FloatTensor` of shape `(batch_size,)`):
            Standardised as ImageReward's, unbounded, float32 also for a half-precision model; higher is better.
        video_embeds (`torch.FloatTensor` of shape `(batch_size, projection_dim)`):
            Fused features of clip and prompt, pooled over time.
        frame_embeds (`torch.FloatTensor` of shape `(batch_size, num_frames, projection_dim)`):
            Fused features of each frame and the prompt, as the temporal head receives them.
    """

    loss: torch.Tensor | None = None
    rewards: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    frame_embeds: torch.Tensor | None = None


class VideoRMBlipModel(VideoRMPreTrainedModel):
    """VIDEORM on ImageReward: the reward of a video for a prompt, which each frame is read with.

    Args:
        config (`VideoRMBlipConfig`):
            The architecture.

    Reference:
        Wu et al. 2024 (NeurIPS), variant beta. Differs: the attachment is our choice (docs/paper_index.md).

    Example:

    ```python
    >>> import torch
    >>> from transformers import AutoModel, AutoProcessor
    >>> import videorm_hf

    >>> model = AutoModel.from_pretrained("path/to/videorm-blip").eval()
    >>> processor = AutoProcessor.from_pretrained("path/to/videorm-blip")
    >>> inputs = processor(text=["a corgi on a skateboard"], videos=["clip.mp4"])
    >>> with torch.no_grad():
    ...     rewards = model(**inputs).rewards
    ```
    """

    config_class = VideoRMBlipConfig
    base_model_prefix = "videorm_blip"
    _no_split_modules = ["BlipEncoderLayer", "BlipTextEmbeddings", "BlipTextLayer", "VideoRMTemporalHead"]
    _can_record_outputs: dict[str, type[nn.Module]] = {}

    def __init__(self, config: VideoRMBlipConfig) -> None:
        super().__init__(config)
        # BLIP knows no other attention, whichever the temporal head is loaded with.
        config.text_config._attn_implementation = config.vision_config._attn_implementation = "eager"
        self.vision_model = BlipVisionModel(config.vision_config)
        self.text_model = BlipTextModel(config.text_config, add_pooling_layer=False)
        self.temporal_head = VideoRMTemporalHead(config)
        self.score_head = ScoreMLP(config.text_config.hidden_size)
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        self.post_init()

    # The same settings, checks and loss as VIDEORM's.
    freeze_for_temporal_training = VideoRMModel.freeze_for_temporal_training
    _check_clips = VideoRMModel._check_clips
    _preference_loss = VideoRMModel._preference_loss

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, VideoRMBlipModel):
            init.constant_(module.logit_scale, module.config.logit_scale_init_value)

    def get_frame_embeds(
        self,
        pixel_values_videos: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Read each frame of a clip with its prompt, before the temporal head.

        Args:
            pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, num_frames, 3, height, width)`):
                Normalised frames. Gradients flow through.
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
                Tokens of the prompts.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                1 for tokens, 0 for padding.
            frame_mask (`torch.BoolTensor` of shape `(batch_size, num_frames)`, *optional*):
                False for padded frames, which stand at the end of a clip; it is checked here, and used by
                [`pool_frames`].

        Returns:
            `torch.FloatTensor` of shape `(batch_size, num_frames, projection_dim)`: fused features, float32.
        """
        self._check_clips(pixel_values_videos, frame_mask)
        num_frames = pixel_values_videos.shape[1]
        image_states = self.vision_model(pixel_values_videos.flatten(0, 1)).last_hidden_state
        text_states = self.text_model(
            input_ids=input_ids.repeat_interleave(num_frames, dim=0),
            attention_mask=None if attention_mask is None else attention_mask.repeat_interleave(num_frames, dim=0),
            encoder_hidden_states=image_states,
        ).last_hidden_state
        return text_states[:, 0].float().unflatten(0, pixel_values_videos.shape[:2])

    def pool_frames(self, frame_embeds: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Turn frame features `(B, T, D)` into clip features `(B, D)`: the temporal head alone."""
        return self.temporal_head(frame_embeds, None if frame_mask is None else frame_mask.bool())

    def score_embeds(self, video_embeds: torch.Tensor) -> torch.Tensor:
        """Turn clip features `(B, D)` into rewards `(B,)`, float32: ImageReward's head and standardisation."""
        scores = self.score_head(video_embeds.to(self.logit_scale.dtype)).float()
        return (scores - self.config.score_mean) / self.config.score_std

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        return_loss: bool = False,
    ) -> VideoRMBlipOutput:
        """Score clips for prompts, one prompt a clip.

        Args:
            pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, num_frames, 3, height, width)`):
                Normalised frames. Gradients flow through.
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
                Tokens of the prompts.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                1 for tokens, 0 for padding.
            frame_mask (`torch.BoolTensor` of shape `(batch_size, num_frames)`, *optional*):
                False for padded frames, which stand at the end of a clip.
            return_loss (`bool`, defaults to `False`):
                Return the preference loss. The first half of the batch then holds the chosen clips and the second half
                the rejected ones, in the same order, as TRL's reward trainer lays them out.

        Returns:
            [`VideoRMBlipOutput`]: rewards, features, and the loss
            `-log sigmoid(exp(logit_scale) * (reward_chosen - reward_rejected))`, mean over pairs.

        Raises:
            ValueError: If prompts and clips differ in number; wrong shapes and an odd batch with `return_loss` are one
                too.

        Reference:
            Wu et al. 2024 (NeurIPS), VIDEORM loss. Differs: none as long as the scale is 1, its initial value.
        """
        if len(input_ids) != len(pixel_values_videos):
            raise ValueError(
                f"Expected one prompt for each clip, got {len(input_ids)} prompts and {len(pixel_values_videos)} "
                "clips."
            )
        frame_embeds = self.get_frame_embeds(pixel_values_videos, input_ids, attention_mask, frame_mask)
        video_embeds = self.pool_frames(frame_embeds, frame_mask)
        rewards = self.score_embeds(video_embeds)
        return VideoRMBlipOutput(
            loss=self._preference_loss(rewards) if return_loss else None,
            rewards=rewards,
            video_embeds=video_embeds,
            frame_embeds=frame_embeds,
        )


__all__ = ["VideoRMBlipModel", "VideoRMBlipOutput"]
