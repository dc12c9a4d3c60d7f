"""videorm-mini: an image reward of the small world, trained on single frames, and a temporal head trained on ratings.

The image reward stands in for HPS v2. As HPS v2 it compares one prompt's images, here the first frames of clips: one
that shows the prompt, and faulty ones. Half of its prompts are those of clips, the others say where in the picture the
thing is, as captions of pictures do. It has never seen anything move.

CLIP has read and seen the web before anyone tunes it. In its place each tower has to name, by linear heads that are
thrown away, what a prompt says (its motion too, which is only read) and what a single frame shows.
"""

import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm
from transformers import CLIPTokenizer, get_cosine_schedule_with_warmup

from videorm_hf import VideoRMConfig, VideoRMModel, VideoRMProcessor, VideoRMVideoProcessor
from videorm_hf.miniature.clips import SIDE, Track, draw, plan
from videorm_hf.miniature.faults import render_with_fault
from videorm_hf.miniature.scenes import (
    BACKGROUNDS,
    COLORS,
    MOTIONS,
    SHAPES,
    SIZES,
    SPEEDS,
    Scene,
    parse_prompt,
    random_scene,
    write_prompt,
)
from videorm_hf.models.open_clip_layout import clip_tokenizer
from videorm_hf.trainer import VideoRewardConfig, VideoRewardTrainer
from videorm_hf.videoprefer.items import Item

logger = logging.getLogger(__name__)
WIDTH = 96
# What spoils the images that a prompt's true image is compared with, and how often.
PROMPT_FAULTS = {
    "wrong_direction": 0.25,
    "wrong_motion": 0.1,
    "wrong_shape": 0.3,
    "wrong_color": 0.15,
    "flicker": 0.07,
    "blur": 0.07,
    "noise": 0.06,
}
CAPTION_FAULTS = {"wrong_place": 0.4, "wrong_shape": 0.35, "wrong_color": 0.15, "blur": 0.05, "noise": 0.05}
PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the middle", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
# What the heads name.
VALUES = {
    "color": list(COLORS),
    "shape": list(SHAPES),
    "size": list(SIZES),
    "background": list(BACKGROUNDS),
    "motion": list(MOTIONS),
    "speed": list(SPEEDS),
    "place": [place for row in PLACES for place in row],
}
READ = ("color", "shape", "size", "motion", "speed", "place")
SEEN = ("color", "shape", "size", "background", "place")
PROMPTS_PER_STEP = 32


def build_tokenizer(seed: int) -> CLIPTokenizer:
    """Make CLIP's tokenizer with only those of its merges that the small world's prompts use.

    A tokenizer trained anew would order its pieces, and with them all that is trained later, differently in each run.
    """
    rng = np.random.default_rng(seed)
    clip = clip_tokenizer()
    used = {piece for _ in range(5000) for piece in clip.tokenize(image_pair(rng).prompt)}
    merges = json.loads(clip.backend_tokenizer.to_str())["model"]["merges"]
    for left, right in reversed(merges):  # a merge joins pieces of earlier ones
        if left + right in used:
            used |= {left, right}
    made = {left + right for left, right in merges}
    merges = [(left, right) for left, right in merges if left + right in used]
    pieces = sorted(clip.get_vocab(), key=clip.get_vocab().__getitem__)
    kept = [piece for piece in pieces if piece in used or piece not in made]
    return CLIPTokenizer({piece: number for number, piece in enumerate(kept)}, merges, model_max_length=77)


def build_processor(tokenizer: CLIPTokenizer) -> VideoRMProcessor:
    """Make a processor for frames of 32 x 32 pixels."""
    side = {"height": SIDE, "width": SIDE}
    return VideoRMProcessor(VideoRMVideoProcessor(size={"longest_edge": SIDE}, pad_size=side), tokenizer)


def build_model(tokenizer: CLIPTokenizer, seed: int) -> VideoRMModel:
    """Build the model with random weights."""
    torch.manual_seed(seed)
    # CLIP's 0.02 suits a width of 512 and more: so narrow a tower hardly learns from it.
    start = {"initializer_range": 0.1}
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_attention_heads": 4,
        "projection_dim": WIDTH,
        **start,
    }
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = VideoRMConfig(
        text_config={**tower, **ends, "vocab_size": len(tokenizer), "num_hidden_layers": 2},
        vision_config={**tower, "image_size": SIDE, "patch_size": 4, "num_hidden_layers": 3},
        projection_dim=WIDTH,
        max_frames=8,
        temporal_num_layers=2,
        temporal_num_heads=4,
        **start,
    )
    return VideoRMModel(config)


@dataclass(frozen=True)
class ImagePair:
    """A prompt, its image and a faulty one, of shape `(32, 32, 3)`, bytes; and what the towers have to name.

    Args:
        prompt (`str`): Of the training split.
        good (`np.ndarray`): A first frame that shows it.
        bad (`np.ndarray`): A faulty one.
        said (`dict[str, str]`): What the prompt says, by attribute.
        shown (`dict[str, str]`): What the good image shows, by attribute; of two things, nothing.
    """

    prompt: str
    good: np.ndarray
    bad: np.ndarray
    said: dict[str, str]
    shown: dict[str, str]


def image_pair(rng: np.random.Generator) -> ImagePair:
    """Draw a prompt with a good and a bad image."""
    scene = random_scene(rng, 0.12, split="train")
    is_caption = len(scene.things) == 1 and rng.random() < 0.5
    if is_caption:  # a picture: nothing moves, and the thing may be anywhere
        scene = replace(scene, things=(replace(scene.things[0], motion="still", speed=None),))
    faults = CAPTION_FAULTS if is_caption else PROMPT_FAULTS
    fault = str(rng.choice(list(faults), p=list(faults.values())))
    tracks = plan(scene, rng, num_frames=2)
    place = place_of(tracks[0])
    prompt = _caption(scene, place, rng) if is_caption else write_prompt(scene, rng)
    if fault == "wrong_place":
        others = iter(lambda: plan(scene, rng, num_frames=2), None)
        bad = draw(scene, next(other for other in others if place_of(other[0]) != place), rng)
    else:
        bad = render_with_fault(scene, fault, float(rng.uniform(0.3, 1.0)), rng, num_frames=2)
    claimed = parse_prompt(prompt)
    said = {**claimed.things[0].said(), **({"place": place} if is_caption else {})}
    thing = scene.things[0]
    shown = {"color": thing.color, "shape": thing.shape, "size": thing.size, "background": scene.background}
    one = {**shown, "place": place} if len(scene.things) == 1 and thing.motion != "growing" else {}
    return ImagePair(
        prompt, draw(scene, tracks, rng)[0], bad[0], said, {name: str(value) for name, value in one.items()}
    )


class NamingHeads(torch.nn.Module):
    """Linear heads that name attributes from embeddings, to train a tower; thrown away afterwards.

    Args:
        attributes (`Sequence[str]`): Of `VALUES`.
    """

    def __init__(self, attributes: Sequence[str]) -> None:
        super().__init__()
        self.heads = torch.nn.ModuleDict({name: torch.nn.Linear(WIDTH, len(VALUES[name])) for name in attributes})

    def loss(self, embeds: torch.Tensor, labels: Sequence[Mapping[str, str]]) -> torch.Tensor:
        """Return the summed cross-entropies of all heads; rows without a label are left out.

        Args:
            embeds (`torch.Tensor` of shape `(num_rows, 96)`): Of unit norm.
            labels (`Sequence[Mapping[str, str]]`): Of each row, value by attribute.
        """
        losses = []
        for name, head in self.heads.items():
            targets = [VALUES[name].index(row[name]) if name in row else -100 for row in labels]
            if max(targets) >= 0:
                logits = head(embeds * WIDTH**0.5)
                losses.append(F.cross_entropy(logits, torch.tensor(targets), ignore_index=-100))
        return torch.stack(losses).sum()


def place_of(track: Track) -> str:
    """Say where a thing is in the first frame."""
    column, row = np.clip(np.floor(track.centers[0] * 3).astype(int), 0, 2)
    return PLACES[row][column]


def _caption(scene: Scene, place: str, rng: np.random.Generator) -> str:
    """Say what a picture shows and where: the prompt of a still clip, with the place for its stillness."""
    return re.sub("|".join(MOTIONS["still"]), place, write_prompt(scene, rng))


def train_image_reward(
    model: VideoRMModel, processor: VideoRMProcessor, steps: int, seed: int, preferences: bool = True
) -> list[float]:
    """Train the towers on single frames: each prompt must find its image among all of the step's, faulty ones too.

    Args:
        model ([`VideoRMModel`]): Its towers are trained in place; its temporal head stays as it is, closed.
        processor ([`VideoRMProcessor`]): Prepares frames and prompts.
        steps (`int`): Steps of 32 prompts and 64 images.
        seed (`int`): Of all images.
        preferences (`bool`, defaults to `True`): Show faulty images too. Without them, prompts and images only find
            each other, as CLIP was trained.

    Returns:
        `list[float]`: of each hundredth of the steps, how often a prompt scored its image above its faulty one, or,
        without preferences, above all others.
    """
    rng = np.random.default_rng(seed + 10)
    model.requires_grad_(True)
    model.temporal_head.requires_grad_(False)
    readers, seers = NamingHeads(READ), NamingHeads(SEEN)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    weights += [*readers.parameters(), *seers.parameters()]
    optimizer = torch.optim.AdamW(weights, 1e-3, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 20, steps)
    correct: list[float] = []
    begin = time.monotonic()
    for step in tqdm(range(steps), desc="image reward", mininterval=10):
        pairs = [image_pair(rng) for _ in range(PROMPTS_PER_STEP)]
        faulty = [pair.bad for pair in pairs] if preferences else []
        clips = [image[None] for image in (*(pair.good for pair in pairs), *faulty)]
        prompts = [pair.prompt for pair in pairs]
        inputs = processor(text=prompts, videos=clips, num_frames=1, padding="longest")
        images = model.get_video_embeds(inputs["pixel_values_videos"])
        texts = model.get_text_embeds(inputs["input_ids"], inputs["attention_mask"])
        rewards = texts @ images.T  # (prompts, images)
        scale, own = model.logit_scale.exp().clamp(max=100), torch.arange(len(prompts))
        among_all = F.cross_entropy(scale * rewards, own)
        among_prompts = F.cross_entropy(scale * rewards[:, : len(prompts)].T, own)
        if preferences:
            margins = rewards.diagonal() - rewards[:, len(prompts) :].diagonal()
            loss = (among_all + among_prompts) / 8 - F.logsigmoid(scale * margins).mean()
            is_right = margins > 0
        else:
            loss = (among_all + among_prompts) / 2
            is_right = rewards.argmax(dim=1) == own
        read = readers.loss(texts, [pair.said for pair in pairs])
        seen = seers.loss(images[: len(prompts)], [pair.shown for pair in pairs])
        loss = loss + (1 - step / steps) * (read + seen) / 2  # in the end, naming no longer counts
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        correct.append(is_right.float().mean().item())
        if (step + 1) % 100 == 0:
            seconds = time.monotonic() - begin
            logger.info(
                "image reward %d/%d: %.3f right, read %.2f, seen %.2f, %.0f s",
                *(step + 1, steps, np.mean(correct[-100:]), read.item(), seen.item(), seconds),
            )
    return [float(np.mean(part)) for part in np.array_split(correct, min(100, len(correct)))]


def build_image_reward(folder: Path, steps: int, seed: int, preferences: bool = True) -> dict[str, object]:
    """Train the image reward and save it with its processor, a VIDEORM whose temporal head is still closed.

    Args:
        folder (`Path`): Where it is saved.
        steps (`int`): Steps of 32 prompts and 64 images.
        seed (`int`): Of weights and images.
        preferences (`bool`, defaults to `True`): As in [`train_image_reward`].

    Returns:
        `dict[str, object]`: facts of the run.
    """
    tokenizer = build_tokenizer(seed)
    model, processor = build_model(tokenizer, seed), build_processor(tokenizer)
    accuracy = train_image_reward(model, processor, steps, seed, preferences)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return {"num_parameters": sum(weight.numel() for weight in model.parameters()), "accuracy": accuracy}


def train_video_reward(
    folder: Path, image_reward: Path, train_items: list[Item], validation_items: list[Item], epochs: int, seed: int
) -> dict[str, object]:
    """Train the temporal head on rated items, the paper's way, and save the model with the best validation accuracy.

    Args:
        folder (`Path`): Where the model goes; checkpoints and features go beside it.
        image_reward (`Path`): Folder of the model whose towers are trained.
        train_items (`list[Item]`): Rated candidates.
        validation_items (`list[Item]`): Decide which epoch is kept.
        epochs (`int`): Passes over the items.
        seed (`int`): Of the head's weights and the order of the items.

    Returns:
        `dict[str, object]`: the loss and the accuracy on the validation pairs of each epoch.
    """
    trainer = head_trainer(folder, image_reward, train_items, validation_items, epochs, seed)
    trainer.train()
    trainer.save_model(str(folder))
    history = trainer.state.log_history
    return {
        "loss": [entry["loss"] for entry in history if "loss" in entry],
        "accuracy": [entry["eval_accuracy"] for entry in history if "eval_accuracy" in entry],
    }


def head_trainer(
    folder: Path, image_reward: Path, train_items: list[Item], validation_items: list[Item], epochs: int, seed: int
) -> VideoRewardTrainer:
    """Build the trainer of [`train_video_reward`], which computes the features of all items, or finds them."""
    args = VideoRewardConfig(
        output_dir=str(folder.with_name(f"{folder.name}-training")),
        trainable="temporal",
        cache_features=True,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        warmup_steps=50,
        weight_decay=0.01,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=16,
        num_train_epochs=epochs,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        logging_strategy="epoch",
        seed=seed,
        use_cpu=True,
        report_to="none",
    )
    return VideoRewardTrainer(str(image_reward), args, train_dataset=train_items, eval_dataset=validation_items)
