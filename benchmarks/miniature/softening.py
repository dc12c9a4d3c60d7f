"""How strong a trained temporal head may be: weakened until what needs no time is judged best."""

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoProcessor

from benchmarks.studies.image_reward import load_image_reward
from benchmarks.studies.known_pairs import TIME_DOES_NOT, make_pairs
from benchmarks.studies.world import score_clips

STRENGTHS = tuple(round(0.05 * number, 2) for number in range(20, 0, -1))


@torch.no_grad()
def soften_head(folder: Path, trained: Path, num_pairs: int, seed: int) -> dict[str, object]:
    """Weaken a trained temporal head until it has forgotten nothing of what single frames told, and save the model.

    The head's gate is scaled to the strength at which it is most often right on pairs of the validation split whose
    fault needs no time to be seen; of equals, to the largest. Source: interpolation between a model and what it was
    tuned from, Wortsman et al. 2022 (WiSE-FT, arXiv 2109.01903).

    Args:
        folder (`Path`): Where the model goes.
        trained (`Path`): Folder of [`~benchmarks.miniature.reward.train_video_reward`].
        num_pairs (`int`): Pairs of each fault.
        seed (`int`): Of the pairs.

    Returns:
        `dict[str, object]`: the strength, the accuracy at each that was tried, and the image reward's.
    """
    model, processor = AutoModel.from_pretrained(trained).eval(), AutoProcessor.from_pretrained(trained)
    image_reward = load_image_reward(trained)
    embedded, wins = [], []
    for fault in TIME_DOES_NOT:
        pairs = make_pairs(fault, num_pairs, seed, split="validation")
        both = [processor(text=pairs.prompts, videos=list(clips)) for clips in (pairs.better, pairs.worse)]
        texts = model.get_text_embeds(both[0]["input_ids"], both[0]["attention_mask"])
        embedded.append((texts, *(model.get_frame_embeds(inputs["pixel_values_videos"]) for inputs in both)))
        better, worse = (score_clips(image_reward, clips, pairs.prompts) for clips in (pairs.better, pairs.worse))
        wins.append(np.greater(better, worse).mean())
    gate = model.temporal_head.gate.clone()

    def accuracy(strength: float) -> float:
        model.temporal_head.gate.copy_(strength * gate)
        margins = [
            (texts * (model.pool_frames(better) - model.pool_frames(worse))).sum(dim=-1)
            for texts, better, worse in embedded
        ]
        return float((torch.cat(margins) > 0).float().mean())

    tried = {strength: accuracy(strength) for strength in STRENGTHS}
    strength = max(tried, key=lambda one: tried[one])  # of equals the first, which is the largest
    model.temporal_head.gate.copy_(strength * gate)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    accuracies = {str(one): found for one, found in tried.items()}
    return {"strength": strength, "accuracy": accuracies, "image_reward_accuracy": float(np.mean(wins))}
