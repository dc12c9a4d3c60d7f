"""Tiny real pipelines of every tested family, with their real text encoder and tokenizer classes, built locally.

Each row of `PIPELINES` says how a pipeline is built and called. Random weights of this size hardly let the latents
show in the frames, so some output layers are made livelier; nothing else differs from what the classes make.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    AnimateDiffPipeline,
    AutoencoderKL,
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLLTXVideo,
    AutoencoderKLMochi,
    AutoencoderKLTemporalDecoder,
    ClassifierFreeGuidance,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LattePipeline,
    LatteTransformer3DModel,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
    MotionAdapter,
    StableDiffusionPipeline,
    TextToVideoSDPipeline,
    UNet2DConditionModel,
    UNet3DConditionModel,
)
from transformers import (
    ByT5Tokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    LlamaConfig,
    LlamaModel,
    LlamaTokenizerFast,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLTextModel,
    Qwen2Tokenizer,
    T5Config,
    T5EncoderModel,
)

from tests.draftv.factories import tiny_t5_tokenizer, tiny_wan
from tests.factories import shared_tokenizer

WIDTH = 16
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def clip_text_encoder(width: int = WIDTH) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(hidden_size=width, intermediate_size=width, num_hidden_layers=1, num_attention_heads=2)
    )


def t5_text_encoder(vocab_size: int) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(vocab_size=vocab_size, d_model=WIDTH, d_kv=8, d_ff=WIDTH, num_layers=1, num_heads=2)
    )


def image_vae() -> AutoencoderKL:
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
    )
    return livelier(vae, vae.decoder.conv_out, 0.3)


def livelier(vae: torch.nn.Module, last_layer: torch.nn.Module, scale: float) -> Any:
    """Make the frames vary around mid-grey instead of being one flat colour."""
    last_layer.bias.data.zero_()
    last_layer.weight.data.mul_(scale / last_layer.weight.data.std() / last_layer.weight[0].numel() ** 0.5)
    return vae


def ddim() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )


def tiny_modelscope() -> TextToVideoSDPipeline:
    unet = UNet3DConditionModel(
        sample_size=4,
        block_out_channels=(8, 8),
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
    )
    open_last_temporal_convolutions(unet)
    return TextToVideoSDPipeline(
        vae=image_vae(), text_encoder=clip_text_encoder(), tokenizer=shared_tokenizer(), unet=unet, scheduler=ddim()
    )


def open_last_temporal_convolutions(unet: UNet3DConditionModel) -> None:
    """Fill the convolutions over time that start at zero, which training would have moved."""
    for name, parameter in unet.named_parameters():
        if ".conv4." in name and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)


def image_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        block_out_channels=(8, 8),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
    )


def tiny_animatediff() -> AnimateDiffPipeline:
    adapter = MotionAdapter(
        block_out_channels=(8, 8), motion_layers_per_block=1, motion_num_attention_heads=2, motion_norm_num_groups=4
    )
    for name, parameter in adapter.named_parameters():
        if "proj_out" in name and parameter.ndim > 1:  # starts at zero; training would have moved it
            torch.nn.init.normal_(parameter, std=0.1)
    return AnimateDiffPipeline(
        vae=image_vae(),
        text_encoder=clip_text_encoder(),
        tokenizer=shared_tokenizer(),
        unet=image_unet(),
        motion_adapter=adapter,
        scheduler=ddim(),
    )


def tiny_stable_diffusion() -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=image_vae(),
        text_encoder=clip_text_encoder(),
        tokenizer=shared_tokenizer(),
        unet=image_unet(),
        scheduler=ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def tiny_cogvideox() -> CogVideoXPipeline:
    """The layout of the 2B model: learned or sinusoidal positions, no rotary ones."""
    tokenizer = tiny_t5_tokenizer()
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        time_embed_dim=4,
        text_embed_dim=WIDTH,
        num_layers=1,
        sample_width=2,
        sample_height=2,
        sample_frames=9,
        max_text_seq_length=8,
    )
    vae = AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2
    )
    return CogVideoXPipeline(
        tokenizer=tokenizer,
        text_encoder=t5_text_encoder(len(tokenizer)),
        vae=livelier(vae, vae.decoder.conv_out.conv, 0.3),
        transformer=transformer,
        scheduler=CogVideoXDDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            snr_shift_scale=3.0,
            timestep_spacing="trailing",
        ),
    )


def tiny_ltx() -> LTXPipeline:
    """With a decoder that takes a timestep and added noise, as in the later releases."""
    tokenizer = tiny_t5_tokenizer()
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        num_layers=1,
        caption_channels=WIDTH,
    )
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        timestep_conditioning=True,
    )
    return LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=livelier(vae, vae.decoder.conv_out.conv, 0.3),
        text_encoder=t5_text_encoder(len(tokenizer)),
        tokenizer=tokenizer,
        transformer=transformer,
    )


def tiny_llama_tokenizer() -> LlamaTokenizerFast:
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3}
    for letter in LETTERS:
        vocabulary[letter] = len(vocabulary)
    tokenizer = LlamaTokenizerFast(vocab=vocabulary, merges=[])
    tokenizer.pad_token = "</s>"
    return tokenizer


def tiny_hunyuanvideo() -> HunyuanVideoPipeline:
    tokenizer = tiny_llama_tokenizer()
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        rope_axes_dim=(2, 4, 2),
    )
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    )
    llama = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
        pad_token_id=2,
    )
    return HunyuanVideoPipeline(
        text_encoder=LlamaModel(llama),
        tokenizer=tokenizer,
        transformer=transformer,
        vae=livelier(vae, vae.decoder.conv_out.conv, 0.3),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=clip_text_encoder(),
        tokenizer_2=shared_tokenizer(),
    )


def tiny_mochi() -> MochiPipeline:
    tokenizer = tiny_t5_tokenizer()
    transformer = MochiTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        pooled_projection_dim=WIDTH,
        text_embed_dim=WIDTH,
        time_embed_dim=4,
        max_sequence_length=8,
    )
    vae = AutoencoderKLMochi(
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        layers_per_block=(1, 1, 1, 1, 1),
    )
    return MochiPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        vae=livelier(vae, vae.decoder.proj_out, 0.3),
        text_encoder=t5_text_encoder(len(tokenizer)),
        tokenizer=tokenizer,
        transformer=transformer,
    )


def tiny_qwen_tokenizer() -> Qwen2Tokenizer:
    vocabulary = {character: index for index, character in enumerate(["Ġ", "Ċ", *LETTERS])}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[])
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }} {% endfor %}"
    return tokenizer


def tiny_hunyuanvideo15() -> HunyuanVideo15Pipeline:
    tokenizer = tiny_qwen_tokenizer()
    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_refiner_layers=1,
        text_embed_dim=WIDTH,
        text_embed_2_dim=WIDTH,
        image_embed_dim=WIDTH,
        rope_axes_dim=(2, 4, 2),
        task_type="t2v",
    )
    vae = AutoencoderKLHunyuanVideo15(latent_channels=4, block_out_channels=(8, 8, 8, 8, 8), layers_per_block=1)
    qwen = Qwen2_5_VLTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    pipe = HunyuanVideo15Pipeline(
        text_encoder=Qwen2_5_VLTextModel(qwen),
        tokenizer=tokenizer,
        transformer=transformer,
        vae=livelier(vae, vae.decoder.conv_out.conv, 0.3),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        text_encoder_2=t5_text_encoder(384),
        tokenizer_2=ByT5Tokenizer(),
        guider=ClassifierFreeGuidance(guidance_scale=6.0),
    )
    # The pipeline's call has no arguments for these lengths: the real ones would cost a test seconds.
    pipe.system_message = "describe"
    pipe.prompt_template_encode_start_idx = 4
    pipe.tokenizer_max_length = 16
    pipe.tokenizer_2_max_length = 8
    pipe.vision_num_semantic_tokens = 4
    # Its VAE's attention mask does not broadcast over a batch: one video at a time.
    pipe.vae.enable_slicing()
    return pipe


def tiny_latte() -> LattePipeline:
    """A pipeline with a VAE that mixes the frames it is given, and a name of its own for their number."""
    tokenizer = tiny_t5_tokenizer()
    transformer = LatteTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=WIDTH,
        attention_bias=True,
        sample_size=2,
        patch_size=1,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        caption_channels=WIDTH,
        video_length=4,
    )
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4, layers_per_block=1
    )
    # Frames of a video mix only where this is not zero, as after training.
    torch.nn.init.normal_(vae.decoder.time_conv_out.weight, std=0.1)
    return LattePipeline(
        tokenizer=tokenizer,
        text_encoder=t5_text_encoder(len(tokenizer)),
        vae=livelier(vae, vae.decoder.conv_out, 0.3),
        transformer=transformer,
        scheduler=ddim(),
    )


@dataclass(frozen=True)
class TinyPipeline:
    """How one family is built and called; `num_frames` and `size` are the smallest that show motion and space.

    A U-Net's middle needs more than one place: attention over a single one has no gradient in query and key.
    """

    build: Callable[[], DiffusionPipeline]
    call: dict[str, Any] = field(default_factory=dict)
    num_frames: int = 5
    size: int = 16
    calls_per_step: int = 1  # denoiser calls per sampling step with guidance: 1 where it is batched, 2 where not
    own_loader: bool = True  # whether the pipeline's own load_lora_weights reads our files
    per_frame_vae: bool = False
    image: bool = False
    frames_argument: str = "num_frames"

    def arguments(self) -> dict[str, Any]:
        frames = {} if self.image else {self.frames_argument: self.num_frames}
        return {"height": self.size, "width": self.size, **frames, **self.call}


PIPELINES: dict[str, TinyPipeline] = {
    "modelscope": TinyPipeline(
        tiny_modelscope, {"guidance_scale": 9.0}, num_frames=4, size=32, own_loader=False, per_frame_vae=True
    ),
    "animatediff": TinyPipeline(tiny_animatediff, {"guidance_scale": 7.5}, num_frames=4, size=32, per_frame_vae=True),
    "wan": TinyPipeline(tiny_wan, {"guidance_scale": 5.0, "max_sequence_length": 8}, calls_per_step=2),
    "cogvideox": TinyPipeline(tiny_cogvideox, {"guidance_scale": 6.0, "max_sequence_length": 8}, num_frames=9),
    "ltx": TinyPipeline(
        tiny_ltx,
        {"guidance_scale": 3.0, "max_sequence_length": 8, "decode_timestep": 0.05, "decode_noise_scale": 0.025},
        num_frames=9,
        size=32,
    ),
    "hunyuanvideo": TinyPipeline(
        tiny_hunyuanvideo,
        {
            "guidance_scale": 6.0,
            "true_cfg_scale": 3.0,
            "negative_prompt": "grass",
            "prompt_template": {"template": "describe {}", "crop_start": 2},
            "max_sequence_length": 16,
        },
        calls_per_step=2,
    ),
    "mochi": TinyPipeline(tiny_mochi, {"guidance_scale": 4.5, "max_sequence_length": 8}, num_frames=7),
    "hunyuanvideo15": TinyPipeline(tiny_hunyuanvideo15, calls_per_step=2, own_loader=False),
    "latte": TinyPipeline(
        tiny_latte,
        {"guidance_scale": 7.5, "clean_caption": False},
        num_frames=4,
        own_loader=False,
        frames_argument="video_length",
    ),
    "stable_diffusion": TinyPipeline(
        tiny_stable_diffusion, {"guidance_scale": 7.5}, num_frames=1, size=32, per_frame_vae=True, image=True
    ),
}


def tiny_pipeline(name: str) -> DiffusionPipeline:
    """Build the pipeline of this row, the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipe = PIPELINES[name].build()
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe
