"""t2v-mini: a Latte pipeline of the small world, trained from nothing on imperfect clips.

Two in three clips show what their prompt says; the others have a fault, most often a wrong motion. So there is
something to align.

What a prompt says of colour, the denoiser learns soon; what it says of a motion, from latents of pictures alone, it
did not learn at all: a direction shows only as a product of direction, time and place. So the latents have four more
channels, which the decoder ignores: where the thing is, how fast it goes right and down, and how fast it grows. In
these a direction is as plain as a colour. Source: joint appearance and motion, VideoJAM, Chefer et al. 2025 (arXiv
2502.02492); there the motion is optical flow, here it is read off the one thing of each clip.
"""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, CogVideoXDDIMScheduler, LattePipeline, LatteTransformer3DModel
from diffusers.training_utils import EMAModel
from tqdm import tqdm
from transformers import T5Config, T5EncoderModel, T5TokenizerFast, get_cosine_schedule_with_warmup

from benchmarks.miniature.reward import NamingHeads
from videorm_hf.miniature.clips import SIDE, render
from videorm_hf.miniature.faults import render_with_fault
from videorm_hf.miniature.scenes import parse_prompt, prompt_words, random_scene, write_prompt

logger = logging.getLogger(__name__)
MAX_PROMPT_TOKENS = 120  # what LattePipeline pads prompts to
# Channels of a latent: what the decoder reads, and what moves where.
NUM_PICTURE_CHANNELS, NUM_MOTION_CHANNELS = 8, 4
NUM_LATENT_CHANNELS = NUM_PICTURE_CHANNELS + NUM_MOTION_CHANNELS
LATENT_SIDE = SIDE // 4
SPOKEN = ("color", "shape", "size", "motion", "speed")
# How clips are spoiled: share of the clips, and the range of strengths.
FAULT_SHARES = {
    "wrong_motion": 0.09,
    "wrong_direction": 0.09,
    "jitter": 0.04,
    "flicker": 0.03,
    "frozen": 0.02,
    "wrong_color": 0.03,
    "wrong_shape": 0.02,
}
STRENGTHS = (0.2, 0.6)
_MADE = "made.pt"


@dataclass(frozen=True)
class GeneratorSettings:
    """How much is trained.

    Args:
        num_clips (`int`): Clips that the networks learn from, each of one thing.
        autoencoder_steps (`int`): Steps of 32 frames.
        text_steps (`int`): Steps of 64 prompts, of the text encoder alone.
        denoiser_steps (`int`): Steps of 16 clips.
        early_step (`int`): After how many of these the pipeline is saved, beside what it will be.
        seed (`int`): Of everything that is drawn.
    """

    num_clips: int = 12_000
    autoencoder_steps: int = 900
    text_steps: int = 300
    denoiser_steps: int = 4_500
    early_step: int = 2_000
    seed: int = 0


def imperfect_clip(rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Draw a clip of the training split and the prompt it goes by.

    Returns:
        `tuple[np.ndarray, str]`: frames_THWC, bytes, and the prompt, which a faulty clip does not fulfil.
    """
    scene = random_scene(rng, two_things=0.0, split="train")
    prompt = write_prompt(scene, rng)
    draw = rng.random()
    for fault, share in FAULT_SHARES.items():
        if draw < share:
            return render_with_fault(scene, fault, float(rng.uniform(*STRENGTHS)), rng), prompt
        draw -= share
    return render(scene, rng), prompt


def build_tokenizer() -> T5TokenizerFast:
    """Make a tokenizer of a piece for each word of the small world, and letters for all others."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -8.0), (",", -3.0)]
    pieces += [(f"▁{word}", -2.0) for word in prompt_words()]
    pieces += [(letter, -9.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    return T5TokenizerFast(vocab=pieces, extra_ids=0)


def build_pipeline(seed: int) -> LattePipeline:
    """Build the pipeline with random weights."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    text_encoder = T5EncoderModel(
        T5Config(vocab_size=len(tokenizer), d_model=96, d_kv=24, d_ff=192, num_layers=2, num_heads=4, dropout_rate=0.0)
    )
    vae = AutoencoderKL(
        block_out_channels=(24, 48, 48),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=NUM_LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=SIDE,
        mid_block_add_attention=False,
    )
    transformer = LatteTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=32,
        in_channels=NUM_LATENT_CHANNELS,
        out_channels=2 * NUM_LATENT_CHANNELS,  # LattePipeline drops the second half: Latte's variances
        num_layers=4,
        cross_attention_dim=128,
        attention_bias=True,
        sample_size=LATENT_SIDE,
        patch_size=2,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        caption_channels=96,
        video_length=8,
    )
    # Half of ten steps fall where places and motions are decided, between noise levels of 0.85 and 0.997.
    scheduler = CogVideoXDDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        snr_shift_scale=3.0,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )
    return LattePipeline(tokenizer, text_encoder, vae, transformer, scheduler)


def train_autoencoder(vae: AutoencoderKL, clips: np.ndarray, settings: GeneratorSettings) -> float:
    """Train the autoencoder on single frames; the channels of motion remain without effect on what is decoded.

    Args:
        vae (`AutoencoderKL`): Trained in place. Its latents have zero mean and unit variance in each channel.
        clips (`np.ndarray` of shape `(num_clips, num_frames, 32, 32, 3)`): Bytes.
        settings (`GeneratorSettings`): How long.

    Returns:
        `float`: mean absolute error of the last tenth of the steps, of pixels in [0, 1].
    """
    rng = np.random.default_rng(settings.seed + 1)
    frames = clips.reshape(-1, *clips.shape[2:])
    reader = vae.post_quant_conv.weight
    reads = (torch.arange(NUM_LATENT_CHANNELS) < NUM_PICTURE_CHANNELS).float().view(1, -1, 1, 1)
    with torch.no_grad():
        reader.mul_(reads)
    hook = reader.register_hook(lambda gradient: gradient * reads)
    optimizer = torch.optim.AdamW(vae.parameters(), 2e-3, betas=(0.9, 0.99))
    steps = settings.autoencoder_steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    errors = []
    for _ in tqdm(range(steps), desc="autoencoder", mininterval=10):
        images = pixels(frames[rng.integers(0, len(frames), 32)])
        posterior = vae.encode(images).latent_dist
        decoded = vae.decode(posterior.sample()).sample
        # Things are a twentieth of a frame, and of its colours: without this weight only backgrounds are learned.
        weight = 1 + 8 * (images.amax(1, keepdim=True) - images.amin(1, keepdim=True))
        distance = decoded - images
        loss = (weight * (distance.abs() + distance**2)).mean() + 4e-7 * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        errors.append(distance.abs().mean().item() / 2)
    hook.remove()
    with torch.no_grad():
        latents = vae.encode(pixels(frames[rng.integers(0, len(frames), 512)])).latent_dist.mean
    standardize_latents(vae, latents.mean((0, 2, 3)), latents.std((0, 2, 3)))
    with torch.no_grad():  # of what moves, single frames tell nothing: the encoder gives the mean, zero
        vae.quant_conv.weight[NUM_PICTURE_CHANNELS:NUM_LATENT_CHANNELS] = 0
        vae.quant_conv.bias[NUM_PICTURE_CHANNELS:NUM_LATENT_CHANNELS] = 0
    return float(np.mean(errors[-max(1, steps // 10) :]))


@torch.no_grad()
def standardize_latents(vae: AutoencoderKL, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Shift and scale the latents channel by channel within the weights; what is decoded stays the same.

    Args:
        vae (`AutoencoderKL`): Changed in place; its `scaling_factor` becomes 1.
        mean (`torch.Tensor` of shape `(latent_channels,)`): Of its latents.
        std (`torch.Tensor` of shape `(latent_channels,)`): Of its latents.
    """
    encoder, decoder = vae.quant_conv, vae.post_quant_conv
    means, log_variances = slice(0, len(mean)), slice(len(mean), None)
    decoder.bias += decoder.weight[:, :, 0, 0] @ mean
    decoder.weight *= std.view(1, -1, 1, 1)
    encoder.weight[means] /= std.view(-1, 1, 1, 1)
    encoder.bias[means] = (encoder.bias[means] - mean) / std
    encoder.bias[log_variances] -= 2 * std.log()
    vae.register_to_config(scaling_factor=1.0)


def pixels(frames_NHWC: np.ndarray) -> torch.Tensor:
    """Return bytes as `(N, 3, H, W)` in [-1, 1], as the autoencoder takes them."""
    return torch.from_numpy(frames_NHWC).float().permute(0, 3, 1, 2) / 127.5 - 1


@torch.no_grad()
def encode_clips(vae: AutoencoderKL, clips: np.ndarray) -> torch.Tensor:
    """Return the latents of clips, with what moves in the last channels, all of about unit variance.

    Returns:
        `torch.Tensor` of shape `(num_clips, channels, num_frames, height, width)`.
    """
    latents = []
    for start in tqdm(range(0, len(clips), 16), desc="latents", mininterval=10):
        batch = clips[start : start + 16]
        means = vae.encode(pixels(batch.reshape(-1, *batch.shape[2:]))).latent_dist.mean
        latents.append(means.unflatten(0, (len(batch), -1)).permute(0, 2, 1, 3, 4)[:, :NUM_PICTURE_CHANNELS])
    motion = torch.from_numpy(np.stack([what_moves(frames_THWC) for frames_THWC in clips])).float()
    motion = (motion - motion.mean((0, 2, 3, 4), keepdim=True)) / motion.std((0, 2, 3, 4), keepdim=True)
    return torch.cat([torch.cat(latents), motion], dim=1)


def what_moves(frames_THWC: np.ndarray) -> np.ndarray:
    """Read off where the one thing of a clip is and what it does.

    Args:
        frames_THWC (`np.ndarray` of shape `(num_frames, 32, 32, 3)`): Bytes. What has a colour is the thing.

    Returns:
        `np.ndarray` of shape `(4, num_frames, 8, 8)`: how much of a place the thing covers, in [0, 1]; and this times
        its speed to the right and down, in sides a frame, and times the growth of its area's logarithm a frame.
    """
    colors = frames_THWC.astype(np.float64)
    covered_THW = np.clip((colors.max(-1) - colors.min(-1)) / 150, 0, 1)
    areas = covered_THW.sum((1, 2)) + 1e-6
    middles = (np.arange(SIDE) + 0.5) / SIDE
    across, down = (covered_THW.sum(axis) @ middles / areas for axis in (1, 2))
    factor = SIDE // LATENT_SIDE
    places = covered_THW.reshape(-1, LATENT_SIDE, factor, LATENT_SIDE, factor).mean((2, 4))
    changes = [np.gradient(values)[:, None, None] for values in (across, down, np.log(areas))]
    return np.stack([places, *(places * change for change in changes)])


def train_text_encoder(pipe: LattePipeline, settings: GeneratorSettings) -> float:
    """Teach the text encoder what prompts say, before the denoiser listens to it.

    Args:
        pipe (`LattePipeline`): Its text encoder is trained in place.
        settings (`GeneratorSettings`): How long.

    Returns:
        `float`: the last step's cross-entropy, summed over the attributes.
    """
    rng = np.random.default_rng(settings.seed + 3)
    heads = NamingHeads(SPOKEN)
    optimizer = torch.optim.AdamW([*pipe.text_encoder.parameters(), *heads.parameters()], 2e-3)
    losses = [0.0]
    for _ in tqdm(range(settings.text_steps), desc="text encoder", mininterval=10):
        prompts = [write_prompt(random_scene(rng, two_things=0.0, split="train"), rng) for _ in range(64)]
        embeds = encode_prompts(pipe, prompts, pad=False).sum(dim=1)
        loss = heads.loss(F.normalize(embeds, dim=-1), [parse_prompt(prompt).things[0].said() for prompt in prompts])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[-1]


def train_denoiser(
    pipe: LattePipeline,
    latents: torch.Tensor,
    prompts: list[str],
    settings: GeneratorSettings,
    save_early: Callable[[], None],
) -> list[float]:
    """Train denoiser and text encoder together, by v-prediction; keeps averaged weights.

    The denoiser's matrices are trained by Muon, all other weights by AdamW.

    Args:
        pipe (`LattePipeline`): Trained in place.
        latents (`torch.Tensor` of shape `(num_clips, channels, num_frames, height, width)`): Scaled.
        prompts (`list[str]`): One for each clip. One in eight is dropped at each step, for classifier-free guidance.
        settings (`GeneratorSettings`): How long.
        save_early (`Callable[[], None]`): Called after `settings.early_step` steps, with averaged weights in place.

    Returns:
        `list[float]`: the mean loss of each hundredth of the steps.
    """
    generator = torch.Generator().manual_seed(settings.seed + 2)
    weights = [*pipe.transformer.parameters(), *pipe.text_encoder.parameters()]
    steps = settings.denoiser_steps
    matrices = [
        weight for name, weight in pipe.transformer.named_parameters() if weight.ndim == 2 and "_blocks." in name
    ]
    others = [weight for weight in weights if all(weight is not matrix for matrix in matrices)]
    optimizers = [
        torch.optim.Muon(matrices, 3e-3, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, 1.2e-3, betas=(0.9, 0.98), weight_decay=0.01),
    ]
    schedules = [get_cosine_schedule_with_warmup(optimizer, steps // 20, steps) for optimizer in optimizers]
    average = EMAModel(weights, decay=0.998, use_ema_warmup=True, power=0.75)
    alphas = pipe.scheduler.alphas_cumprod
    losses: list[float] = []
    begin = time.monotonic()
    for step in tqdm(range(steps), desc="denoiser", mininterval=10):
        chosen = torch.randint(len(latents), (16,), generator=generator)
        clean = latents[chosen]
        noise = torch.randn(clean.shape, generator=generator)
        times = torch.randint(len(alphas), (len(clean),), generator=generator)
        if torch.rand((), generator=generator) < 0.5:  # where places and motions are decided
            times = len(alphas) // 2 + times // 2
        alpha = alphas[times].view(-1, 1, 1, 1, 1)
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        drop = torch.rand(len(clean), generator=generator) < 0.125
        texts = ["" if dropped else prompts[index] for index, dropped in zip(chosen.tolist(), drop, strict=True)]
        embeds = encode_prompts(pipe, texts, pad=bool(torch.rand((), generator=generator) < 0.08))
        predicted = pipe.transformer(noisy, timestep=times, encoder_hidden_states=embeds, return_dict=False)[0]
        predicted = predicted.chunk(2, dim=1)[0]
        squares = (predicted - target) ** 2
        loss = squares[:, :NUM_PICTURE_CHANNELS].mean() + squares[:, NUM_PICTURE_CHANNELS:].mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        average.step(weights)
        losses.append(loss.item())
        if step + 1 == settings.early_step:
            average.store(weights)
            average.copy_to(weights)
            save_early()
            average.restore(weights)
        if (step + 1) % 250 == 0:
            seconds = time.monotonic() - begin
            logger.info("denoiser %d/%d: loss %.4f, %.0f s", step + 1, steps, np.mean(losses[-250:]), seconds)
    average.copy_to(weights)
    return [float(np.mean(part)) for part in np.array_split(losses, min(100, len(losses)))]


def encode_prompts(pipe: LattePipeline, prompts: list[str], pad: bool) -> torch.Tensor:
    """Encode prompts with gradient, padded with zeros as the pipeline does it.

    `LattePipeline` zeroes what lies beyond a prompt's end. It pads several prompts to 120 tokens and cuts a single one
    at its end, so the denoiser learns both.

    Returns:
        `torch.Tensor` of shape `(num_prompts, num_tokens, 96)`.
    """
    tokens = pipe.tokenizer(
        prompts,
        padding="max_length" if pad else "longest",
        max_length=MAX_PROMPT_TOKENS if pad else None,
        return_tensors="pt",
    )
    embeds = pipe.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
    return embeds * tokens.attention_mask[..., None]


def build_autoencoder(folder: Path, settings: GeneratorSettings) -> dict[str, object]:
    """Train the autoencoder and encode all clips.

    Args:
        folder (`Path`): Where its weights, the latents and the prompts are kept.
        settings (`GeneratorSettings`): How long.

    Returns:
        `dict[str, object]`: facts of the run.
    """
    rng = np.random.default_rng(settings.seed)
    drawn = [imperfect_clip(rng) for _ in range(settings.num_clips)]
    clips, prompts = np.stack([clip for clip, _ in drawn]), [prompt for _, prompt in drawn]
    vae = build_pipeline(settings.seed).vae
    error = train_autoencoder(vae, clips, settings)
    logger.info("autoencoder: mean absolute error %.4f", error)
    folder.mkdir(parents=True)
    made = {"weights": vae.state_dict(), "latents": encode_clips(vae, clips), "prompts": prompts}
    torch.save(made, folder / _MADE)
    return {"mean_absolute_error": error}


def build_text_encoder(folder: Path, settings: GeneratorSettings) -> dict[str, object]:
    """Train the text encoder; see [`train_text_encoder`].

    Args:
        folder (`Path`): Where its weights are kept.
        settings (`GeneratorSettings`): How long.

    Returns:
        `dict[str, object]`: facts of the run.
    """
    pipe = build_pipeline(settings.seed)
    for _ in range(settings.autoencoder_steps):
        # What the autoencoder's training draws: the heads begin as if it had come before, as with the shipped weights.
        torch.randn(32, NUM_LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE)
    loss = train_text_encoder(pipe, settings)
    logger.info("text encoder: loss %.4f", loss)
    folder.mkdir(parents=True)
    gradients = {name: weight.grad for name, weight in pipe.text_encoder.named_parameters()}
    torch.save({"weights": pipe.text_encoder.state_dict(), "gradients": gradients}, folder / _MADE)
    return {"loss": loss}


def build_generator(
    folder: Path, settings: GeneratorSettings, autoencoder: Path, text_encoder: Path
) -> dict[str, object]:
    """Train the denoiser and save the pipeline, the large parts in half precision; it loads in single precision.

    Args:
        folder (`Path`): Where it is saved. What it is after `settings.early_step` steps is saved at [`early_folder`].
        settings (`GeneratorSettings`): How long.
        autoencoder (`Path`): Folder of [`build_autoencoder`].
        text_encoder (`Path`): Folder of [`build_text_encoder`].

    Returns:
        `dict[str, object]`: facts of the run.
    """
    pipe = build_pipeline(settings.seed)
    made = torch.load(autoencoder / _MADE, weights_only=True)
    pipe.vae.load_state_dict(made["weights"])
    pipe.vae.register_to_config(scaling_factor=1.0)  # as standardised
    texts = torch.load(text_encoder / _MADE, weights_only=True)
    pipe.text_encoder.load_state_dict(texts["weights"])
    for name, weight in pipe.text_encoder.named_parameters():
        weight.grad = texts["gradients"][name]  # those of its last step count in the denoiser's first
    losses = train_denoiser(
        pipe, made["latents"], made["prompts"], settings, lambda: _save_early(pipe, early_folder(folder))
    )
    pipe.vae.half()
    pipe.transformer.half()  # transformers would load a text encoder saved so in half precision too
    pipe.save_pretrained(folder)
    parts = (pipe.vae, pipe.transformer, pipe.text_encoder)
    return {
        "num_parameters": sum(weight.numel() for part in parts for weight in part.parameters()),
        "denoiser_loss": losses,
    }


def early_folder(folder: Path) -> Path:
    """Return where the half-trained pipeline of [`build_generator`] appears, complete, while training goes on."""
    return folder.with_name(f"{folder.name}-early")


def _save_early(pipe: LattePipeline, folder: Path) -> None:
    unfinished = folder.with_name(f"{folder.name}-unfinished")
    for one in (folder, unfinished):  # of an interrupted run
        shutil.rmtree(one, ignore_errors=True)
    pipe.save_pretrained(unfinished)
    unfinished.rename(folder)
