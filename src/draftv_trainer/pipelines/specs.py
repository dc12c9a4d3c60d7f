"""The table of families of which something must be said, most often a rule for sizes.

Each row is tested against what its pipeline makes. A pipeline without a row works too: a size that it rounds is then
found when the first clip is there.
"""

from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from draftv_trainer.pipelines.spec import PipelineSpec

# By the name of the pipeline's class: importing the classes would load every family.
SPECS: dict[str, PipelineSpec] = {
    "TextToVideoSDPipeline": PipelineSpec(
        "ModelScope", size_step=lambda pipe: pipe.vae_scale_factor, folds_frames=True
    ),
    "AnimateDiffPipeline": PipelineSpec(
        "AnimateDiff",
        max_frames=lambda pipe: pipe.unet.config.motion_max_seq_length,
        size_step=lambda pipe: pipe.vae_scale_factor,
    ),
    "StableDiffusionPipeline": PipelineSpec("Stable Diffusion", size_step=lambda pipe: pipe.vae_scale_factor),
    "WanPipeline": PipelineSpec(
        "Wan",
        frame_step=lambda pipe: pipe.vae_scale_factor_temporal,
        size_step=lambda pipe: pipe.vae_scale_factor_spatial * pipe.transformer.config.patch_size[1],
    ),
    "CogVideoXPipeline": PipelineSpec(
        "CogVideoX",
        # The VAE decodes two latent frames at a time, and one more at the start of an odd number.
        frame_step=lambda pipe: 2 * pipe.vae_scale_factor_temporal,
        frame_remainders=(0, 1),
        size_step=lambda pipe: pipe.vae_scale_factor_spatial * pipe.transformer.config.patch_size,
    ),
    "LTXPipeline": PipelineSpec(
        "LTX",
        frame_step=lambda pipe: pipe.vae_temporal_compression_ratio,
        size_step=lambda pipe: pipe.vae_spatial_compression_ratio,
    ),
    "HunyuanVideoPipeline": PipelineSpec(
        "HunyuanVideo",
        frame_step=lambda pipe: pipe.vae_scale_factor_temporal,
        size_step=lambda pipe: pipe.vae_scale_factor_spatial * pipe.transformer.config.patch_size,
    ),
    "HunyuanVideo15Pipeline": PipelineSpec(
        "HunyuanVideo 1.5",
        frame_step=lambda pipe: pipe.vae_scale_factor_temporal,
        size_step=lambda pipe: pipe.vae_scale_factor_spatial * pipe.transformer.config.patch_size,
    ),
    "LattePipeline": PipelineSpec(
        "Latte",
        # The positions of its denoiser are for one length; a single frame gets none.
        frame_choices=lambda pipe: (1, pipe.transformer.config.video_length),
        frames_argument="video_length",
    ),
    "MochiPipeline": PipelineSpec(
        "Mochi",
        frame_step=lambda pipe: pipe.vae_temporal_scale_factor,
        size_step=lambda pipe: pipe.vae_spatial_scale_factor * pipe.transformer.config.patch_size,
    ),
}


def find_spec(pipe: DiffusionPipeline) -> PipelineSpec:
    """Look up the rules of a pipeline by its class or the classes that it extends.

    Args:
        pipe (`DiffusionPipeline`):
            Any pipeline.

    Returns:
        `PipelineSpec`: without any rule where the table has no row.
    """
    rows = [SPECS[kind.__name__] for kind in type(pipe).__mro__ if kind.__name__ in SPECS]
    return rows[0] if rows else PipelineSpec(type(pipe).__name__)
