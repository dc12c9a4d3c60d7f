"""VideoRMModel: a CLIP-based reward for (prompt, video) that models time.

Frames pass through transformers' CLIP image tower, whose blocks exchange a few channels between neighbouring frames
(temporal shift); a temporal head over the frame features gives the video embedding; the reward is its cosine with the
text embedding.

Follows: Wu et al. 2024 (NeurIPS), VIDEORM, Figure 1; temporal shift after Lin et al. 2019 (TSM) and Wang et al. 2021
(ActionCLIP). Shapes: B clips, T frames, L tokens (one class token, then patches), D channels.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.clip.configuration_clip import CLIPVisionConfig
from transformers.models.clip.modeling_clip import (
    CLIPAttention,
    CLIPEncoderLayer,
    CLIPPreTrainedModel,
    CLIPTextModel,
    CLIPVisionEmbeddings,
)
from transformers.utils import ModelOutput
from transformers.utils.output_capturing import capture_outputs

from .configuration_videorm import VideoRMConfig


@dataclass
class VideoRMOutput(ModelOutput):
    """What a [`VideoRMModel`] returns.

    Args:
        loss (`torch.FloatTensor` of shape `()`, *optional*, returned with `return_loss=True`):
            Preference loss over the (chosen, rejected) halves of the batch.
        rewards (`torch.FloatTensor` of shape `(batch_size,)`):
            Cosine of text and video, in [-1, 1], float32 also for a half-precision model; higher is better.
        text_embeds (`torch.FloatTensor` of shape `(batch_size, projection_dim)`):
            Text embeddings of unit norm.
        video_embeds (`torch.FloatTensor` of shape `(batch_size, projection_dim)`):
            Video embeddings of unit norm.
        frame_embeds (`torch.FloatTensor` of shape `(batch_size, num_frames, projection_dim)`):
            Frame embeddings of unit norm, as the temporal head receives them.
        hidden_states (`tuple(torch.FloatTensor)`, *optional*, returned with `output_hidden_states=True`):
            The temporal transformer's states, input first, each `(batch_size, num_frames, projection_dim)`. Empty for
            another head. The towers' own states: call `model.vision_model` or `model.text_model`.
        attentions (`tuple(torch.FloatTensor)`, *optional*, returned with `output_attentions=True`):
            The temporal transformer's attention between frames, each `(batch_size, heads, num_frames, num_frames)`.
            Needs `attn_implementation="eager"`.
    """

    loss: torch.Tensor | None = None
    rewards: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    frame_embeds: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


def temporal_shift(
    hidden_states: torch.Tensor,
    num_frames: int,
    fold_div: int,
    padding: str,
    frame_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Exchange channels of patch tokens between neighbouring frames; class tokens stay.

    With `fold = D // fold_div`, channels `[0, fold)` come from the next frame, `[fold, 2 * fold)` from the previous
    one.

    Args:
        hidden_states (`torch.Tensor` of shape `(batch_size * num_frames, num_tokens, channels)`):
            Tokens of all frames, the class token first.
        num_frames (`int`):
            Frames a clip.
        fold_div (`int`):
            One part in `fold_div` of the channels moves in each direction.
        padding (`"replicate"` or `"zero"`):
            What the ends of the clip receive: their own channels, or zeros.
        frame_mask (`torch.BoolTensor` of shape `(batch_size, num_frames)`, *optional*):
            False for padded frames, which stand at the end; the last true frame then counts as the end.

    Returns:
        `torch.Tensor` of the same shape.

    Reference:
        Lin et al. 2019 (TSM), channel order as there; patch tokens only, as in ActionCLIP. Differs: `"replicate"`
        padding.
    """
    frames = hidden_states.unflatten(0, (-1, num_frames))
    patches = frames[:, :, 1:]
    fold = patches.shape[-1] // fold_div
    from_next, from_previous, stay = patches.split([fold, fold, patches.shape[-1] - 2 * fold], dim=-1)

    if padding == "zero":
        after_last, before_first = torch.zeros_like(from_next), torch.zeros_like(from_previous[:, :1])
    else:
        after_last, before_first = from_next, from_previous[:, :1]
    shifted_next = torch.cat([from_next[:, 1:], after_last[:, -1:]], dim=1)
    if frame_mask is not None:
        is_last = frame_mask & ~nn.functional.pad(frame_mask[:, 1:], (0, 1), value=False)
        shifted_next = torch.where(is_last[:, :, None, None], after_last, shifted_next)
    shifted_previous = torch.cat([before_first, from_previous[:, :-1]], dim=1)

    patches = torch.cat([shifted_next, shifted_previous, stay], dim=-1)
    return torch.cat([frames[:, :, :1], patches], dim=2).flatten(0, 1)


class VideoRMVisionLayer(CLIPEncoderLayer):
    """A CLIP encoder layer that shifts patch tokens in time, on the residual stream or inside the attention branch."""

    def __init__(self, config: VideoRMConfig) -> None:
        super().__init__(config.vision_config)
        self.placement = config.temporal_shift
        self.fold_div = config.temporal_shift_fold_div
        self.padding = config.temporal_shift_padding

    def forward(
        self, hidden_states: torch.Tensor, num_frames: int, frame_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Map tokens `(B * T, L, D)` to tokens of the same shape."""
        branch = hidden_states
        if self.placement != "none":
            branch = temporal_shift(hidden_states, num_frames, self.fold_div, self.padding, frame_mask)
        residual = branch if self.placement == "block" else hidden_states
        attended, _ = self.self_attn(hidden_states=self.layer_norm1(branch), attention_mask=None)
        hidden_states = residual + attended
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))


class VideoRMVisionEncoder(nn.Module):
    """The image tower's layers, under CLIP's parameter names."""

    def __init__(self, config: VideoRMConfig) -> None:
        super().__init__()
        depth = config.vision_config.num_hidden_layers
        self.layers = nn.ModuleList([VideoRMVisionLayer(config) for _ in range(depth)])

    def forward(
        self, hidden_states: torch.Tensor, num_frames: int, frame_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Map tokens `(B * T, L, D)` to tokens of the same shape."""
        for layer in self.layers:
            hidden_states = layer(hidden_states, num_frames, frame_mask)
        return hidden_states


class VideoRMVisionModel(CLIPPreTrainedModel):
    """CLIP's image tower over clips: the same parameters under the same names, with time shifts between frames."""

    config_class = CLIPVisionConfig
    main_input_name = "pixel_values_videos"
    input_modalities = ("video",)
    _no_split_modules = ["CLIPVisionEmbeddings", "VideoRMVisionLayer"]
    _input_embed_layer = "patch_embedding"

    def __init__(self, config: VideoRMConfig) -> None:
        super().__init__(config.vision_config)
        width, eps = config.vision_config.hidden_size, config.vision_config.layer_norm_eps
        self.embeddings = CLIPVisionEmbeddings(config.vision_config)
        self.pre_layrnorm = nn.LayerNorm(width, eps=eps)
        self.encoder = VideoRMVisionEncoder(config)
        self.post_layernorm = nn.LayerNorm(width, eps=eps)
        self.post_init()

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self, pixel_values_videos: torch.Tensor, frame_mask: torch.Tensor | None = None, **kwargs: object
    ) -> BaseModelOutputWithPooling:
        """Encode clips `(B, T, 3, H, W)`; `pooler_output` is `(B * T, D)`, a class-token state for every frame."""
        num_frames = pixel_values_videos.shape[1]
        hidden_states = self.pre_layrnorm(self.embeddings(pixel_values_videos.flatten(0, 1)))
        hidden_states = self.encoder(hidden_states, num_frames, frame_mask)
        pooled = self.post_layernorm(hidden_states[:, 0])
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)


class VideoRMTemporalTransformer(nn.Module):
    """CLIP encoder layers over frame features with learned frame positions."""

    def __init__(self, config: VideoRMConfig) -> None:
        super().__init__()
        self.config = config
        self.position_embedding = nn.Parameter(torch.empty(config.max_frames, config.projection_dim))
        self.input_norm = nn.LayerNorm(config.projection_dim, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.temporal_dropout)
        self.layers = nn.ModuleList([CLIPEncoderLayer(config) for _ in range(config.temporal_num_layers)])

    def forward(self, frame_embeds: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map frame features `(B, T, D)` to features of the same shape that have seen each other."""
        positions = self.position_embedding[: frame_embeds.shape[1]]
        hidden_states = self.dropout(self.input_norm(frame_embeds + positions))
        attention_mask = create_bidirectional_mask(self.config, hidden_states, frame_mask)
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_mask)
        return hidden_states


class VideoRMTemporalConv1d(nn.Module):
    """Convolutions of width 3 over time, each with a residual: the paper's dagger variant."""

    def __init__(self, config: VideoRMConfig) -> None:
        super().__init__()
        width = config.projection_dim
        self.layers = nn.ModuleList([nn.Conv1d(width, width, 3, padding=1) for _ in range(config.temporal_num_layers)])
        self.activation = ACT2FN[config.temporal_hidden_act]
        self.dropout = nn.Dropout(config.temporal_dropout)

    def forward(self, frame_embeds: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map frame features `(B, T, D)` to features of the same shape that have seen each other."""
        hidden_states = frame_embeds.transpose(1, 2)
        for layer in self.layers:
            if frame_mask is not None:
                hidden_states = hidden_states * frame_mask[:, None].to(hidden_states.dtype)
            hidden_states = hidden_states + self.dropout(self.activation(layer(hidden_states)))
        return hidden_states.transpose(1, 2)


class VideoRMTemporalLSTM(nn.Module):
    """A recurrent network forward in time, which padding cannot reach: the paper's double-dagger variant."""

    def __init__(self, config: VideoRMConfig) -> None:
        super().__init__()
        depth = config.temporal_num_layers
        dropout = config.temporal_dropout if depth > 1 else 0.0
        self.lstm = nn.LSTM(config.projection_dim, config.projection_dim, depth, batch_first=True, dropout=dropout)

    def forward(self, frame_embeds: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map frame features `(B, T, D)` to features of the same shape that have seen the past."""
        return self.lstm(frame_embeds)[0]


_TEMPORAL_BRANCHES = {
    "transformer": VideoRMTemporalTransformer,
    "conv1d": VideoRMTemporalConv1d,
    "lstm": VideoRMTemporalLSTM,
}


class VideoRMTemporalHead(nn.Module):
    """Pool frame features into a video feature: `mean_t(frames + gate * norm(branch(frames)))`.

    The gate, one number a channel, starts at zero: a new head is the mean over frames, and training departs from
    there.
    """

    def __init__(self, config: VideoRMConfig) -> None:
        super().__init__()
        if config.temporal_head == "mean":
            self.branch = None
        else:
            self.branch = _TEMPORAL_BRANCHES[config.temporal_head](config)
            self.output_norm = nn.LayerNorm(config.projection_dim, eps=config.layer_norm_eps)
            self.gate = nn.Parameter(torch.zeros(config.projection_dim))

    def forward(self, frame_embeds: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map frame features `(B, T, D)` to video features `(B, D)`, not yet normalised."""
        frame_embeds = self.mix_frames(frame_embeds, frame_mask)
        if frame_mask is None:
            return frame_embeds.mean(dim=1)
        weights = frame_mask[:, :, None].to(frame_embeds.dtype)
        return (frame_embeds * weights).sum(dim=1) / weights.sum(dim=1)

    def mix_frames(self, frame_embeds: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Let frame features `(B, T, D)` see each other; [`forward`] averages what comes of it."""
        if self.branch is None:
            return frame_embeds
        branch = self.branch(frame_embeds.to(self.gate.dtype), frame_mask)
        return frame_embeds + self.gate * self.output_norm(branch)


class VideoRMPreTrainedModel(CLIPPreTrainedModel):
    """Initial weights and the abilities that VIDEORM shares with CLIP: attention backends, checkpointing, sharding."""

    config_class = VideoRMConfig
    base_model_prefix = "videorm"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video", "text")
    _no_split_modules = [
        "CLIPTextEmbeddings",
        "CLIPEncoderLayer",
        "CLIPVisionEmbeddings",
        "VideoRMVisionLayer",
        "VideoRMTemporalHead",
    ]
    _can_record_outputs = {"hidden_states": CLIPEncoderLayer, "attentions": CLIPAttention}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        factor = self.config.initializer_factor
        if isinstance(module, VideoRMModel):
            init.normal_(module.text_projection.weight, std=module.config.text_config.hidden_size**-0.5 * factor)
            init.normal_(module.visual_projection.weight, std=module.config.vision_config.hidden_size**-0.5 * factor)
            init.constant_(module.logit_scale, module.config.logit_scale_init_value)
        elif isinstance(module, VideoRMTemporalHead) and module.branch is not None:
            init.zeros_(module.gate)
        elif isinstance(module, VideoRMTemporalTransformer):
            # Frame features have unit norm; positions of about the same norm are heard, and do not drown them.
            init.normal_(module.position_embedding, std=module.config.projection_dim**-0.5)


class VideoRMModel(VideoRMPreTrainedModel):
    """VIDEORM: the reward of a video for a prompt.

    The temporal head opens from zero as it is trained, so a new model is the mean of its image tower over frames. What
    its temporal shift changes from the start, it changes only where frames differ.

    Args:
        config (`VideoRMConfig`):
            The architecture.

    Reference:
        Wu et al. 2024 (NeurIPS), VIDEORM. Differs: docs/paper_index.md lists what the paper leaves open and what we
        chose.

    Example:

    ```python
    >>> import torch
    >>> from transformers import AutoModel, AutoProcessor
    >>> import videorm_hf

    >>> model = AutoModel.from_pretrained("path/to/videorm").eval()
    >>> processor = AutoProcessor.from_pretrained("path/to/videorm")
    >>> inputs = processor(text=["a corgi on a skateboard"], videos=["clip.mp4"])
    >>> with torch.no_grad():
    ...     rewards = model(**inputs).rewards
    ```
    """

    def __init__(self, config: VideoRMConfig) -> None:
        super().__init__(config)
        self.text_model = CLIPTextModel._from_config(config.text_config)
        self.vision_model = VideoRMVisionModel(config)
        self.visual_projection = nn.Linear(config.vision_config.hidden_size, config.projection_dim, bias=False)
        self.text_projection = nn.Linear(config.text_config.hidden_size, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        self.temporal_head = VideoRMTemporalHead(config)
        self.post_init()

    def freeze_for_temporal_training(self) -> None:
        """Leave only the temporal head trainable, the paper's setting.

        Raises:
            ValueError: If the head is `"mean"`, which has nothing to train.
        """
        if self.temporal_head.branch is None:
            raise ValueError(
                "temporal_head='mean' has no parameters to train. Use 'transformer', 'conv1d' or 'lstm', or train the "
                "towers instead of freezing them."
            )
        self.requires_grad_(False)
        self.temporal_head.requires_grad_(True)

    def get_text_embeds(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Encode prompts.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
                Tokens of the prompts.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                1 for tokens, 0 for padding.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, projection_dim)`: embeddings of unit norm, float32.
        """
        pooled = self.text_model(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        return _unit(self.text_projection(pooled))

    def get_frame_embeds(
        self, pixel_values_videos: torch.Tensor, frame_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Encode the frames of clips, before the temporal head.

        Args:
            pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, num_frames, 3, height, width)`):
                Normalised frames. Gradients flow through.
            frame_mask (`torch.BoolTensor` of shape `(batch_size, num_frames)`, *optional*):
                False for padded frames, which stand at the end of a clip.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, num_frames, projection_dim)`: embeddings of unit norm, float32.

        A wrong shape, a clip longer than `config.max_frames` and a mask with holes are a `ValueError`.
        """
        frame_mask = self._check_clips(pixel_values_videos, frame_mask)
        pooled = self.vision_model(pixel_values_videos, frame_mask=frame_mask).pooler_output
        return _unit(self.visual_projection(pooled)).unflatten(0, pixel_values_videos.shape[:2])

    def get_video_embeds(
        self, pixel_values_videos: torch.Tensor, frame_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Encode clips.

        Args:
            pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, num_frames, 3, height, width)`):
                Normalised frames. Gradients flow through.
            frame_mask (`torch.BoolTensor` of shape `(batch_size, num_frames)`, *optional*):
                False for padded frames, which stand at the end of a clip.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, projection_dim)`: embeddings of unit norm, float32.
        """
        frame_embeds = self.get_frame_embeds(pixel_values_videos, frame_mask)
        return self.pool_frames(frame_embeds, frame_mask)

    def pool_frames(self, frame_embeds: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Turn frame embeddings `(B, T, D)` into video embeddings `(B, D)` of unit norm: the temporal head alone."""
        return _unit(self.temporal_head(frame_embeds, None if frame_mask is None else frame_mask.bool()))

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        return_loss: bool = False,
        **kwargs: object,
    ) -> VideoRMOutput:
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
            **kwargs (`bool`):
                `output_attentions`, `output_hidden_states` and `return_dict`, as for every transformers model.
            return_loss (`bool`, defaults to `False`):
                Return the preference loss. The first half of the batch then holds the chosen clips and the second half
                the rejected ones, in the same order, as TRL's reward trainer lays them out.

        Returns:
            [`VideoRMOutput`]: rewards in [-1, 1], embeddings, and the loss
            `-log sigmoid(exp(logit_scale) * (reward_chosen - reward_rejected))`, mean over pairs.

        Raises:
            ValueError: If shapes disagree, or `return_loss` is asked of an odd batch.

        Reference:
            Wu et al. 2024 (NeurIPS), VIDEORM loss. Differs: rewards are multiplied by CLIP's learned scale, as HPS v2
            does.
        """
        if len(input_ids) != len(pixel_values_videos):
            raise ValueError(
                f"Expected one prompt for each clip, got {len(input_ids)} prompts and {len(pixel_values_videos)} "
                "clips. To score many clips for one prompt, use get_text_embeds and get_video_embeds."
            )
        frame_embeds = self.get_frame_embeds(pixel_values_videos, frame_mask)
        video_embeds = self.pool_frames(frame_embeds, frame_mask)
        text_embeds = self.get_text_embeds(input_ids, attention_mask).to(video_embeds.device)
        rewards = (video_embeds * text_embeds).sum(dim=-1)
        return VideoRMOutput(
            loss=self._preference_loss(rewards) if return_loss else None,
            rewards=rewards,
            text_embeds=text_embeds,
            video_embeds=video_embeds,
            frame_embeds=frame_embeds,
        )

    def _preference_loss(self, rewards: torch.Tensor) -> torch.Tensor:
        """Compare the chosen half of a batch with the rejected half."""
        if len(rewards) % 2:
            raise ValueError(
                "return_loss=True needs an even batch, chosen clips first and rejected ones after, got "
                f"{len(rewards)} clips."
            )
        chosen, rejected = rewards.chunk(2)
        scale = self.logit_scale.float().exp().to(rewards.device)
        return -nn.functional.logsigmoid(scale * (chosen - rejected)).mean()

    def _check_clips(self, pixel_values_videos: torch.Tensor, frame_mask: torch.Tensor | None) -> torch.Tensor | None:
        """Validate a batch of clips; return the mask as booleans, or None where no frame is padded."""
        if pixel_values_videos.ndim != 5 or pixel_values_videos.shape[2] != 3:
            raise ValueError(
                "pixel_values_videos must be (batch_size, num_frames, 3, height, width), got "
                f"{tuple(pixel_values_videos.shape)}."
            )
        if not 1 <= pixel_values_videos.shape[1] <= self.config.max_frames:
            raise ValueError(
                f"A clip must have 1 to max_frames={self.config.max_frames} frames, got "
                f"{pixel_values_videos.shape[1]}. Sample fewer frames, or build the model with a larger max_frames."
            )
        if frame_mask is None:
            return None
        if frame_mask.shape != pixel_values_videos.shape[:2]:
            raise ValueError(
                f"frame_mask must be (batch_size, num_frames) = {tuple(pixel_values_videos.shape[:2])}, got "
                f"{tuple(frame_mask.shape)}."
            )
        frame_mask = frame_mask.bool()
        if not torch.compiler.is_compiling() and not _is_right_padded(frame_mask):
            raise ValueError("Every row of frame_mask must start with a true frame, with all padding at the end.")
        return frame_mask


def _unit(embeds: torch.Tensor) -> torch.Tensor:
    """Project onto the unit sphere, in float32 at least: bfloat16 would leave a reward two digits."""
    return nn.functional.normalize(embeds.to(torch.promote_types(embeds.dtype, torch.float32)), dim=-1)


def _is_right_padded(frame_mask: torch.Tensor) -> bool:
    """Tell whether each row is true frames, at least one, followed by false ones."""
    return bool(frame_mask[:, 0].all() and not (frame_mask[:, 1:] & ~frame_mask[:, :-1]).any())


__all__ = ["VideoRMModel", "VideoRMOutput", "VideoRMPreTrainedModel"]
