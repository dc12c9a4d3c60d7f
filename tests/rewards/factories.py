"""Tiny checkpoints in the layouts that rewards are published in, with the original model that each is of."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from torch import nn
from transformers import BertConfig, BertModel, BertTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel

from tests.factories import shared_tokenizer
from videorm_hf.models.open_clip_layout import clip_configs

PROMPTS = ["a corgi on a skateboard", "two kites over the sea at dusk"]
SIDE = 32
TINY_CLIP = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a corgi on skate ##board two kite ##s over the sea at dusk red ball".split()
MLP_WIDTHS = (1024, 128, 64, 16, 1)


def smooth_frames(batch_size: int, num_frames: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Smooth frames in [0.2, 0.8], which no bicubic overshoot leaves: there clamping changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch_size * num_frames, 3, 4, 5, generator=generator)
    frames = nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)
    return (0.2 + 0.6 * frames).unflatten(0, (batch_size, num_frames))


def enliven(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give norms, biases and weights seeded values at which a mix-up of any two would show."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 0:
            continue
        is_scale = parameter.ndim == 1 and name.endswith("weight")
        width = parameter[0].numel() if parameter.ndim > 1 else 100
        noise = torch.randn(parameter.shape, generator=generator) * (1.5 / width**0.5)
        parameter.data.copy_(noise + float(is_scale))
    return model.eval()


def tiny_open_clip(seed: int = 0) -> open_clip.CLIP:
    return enliven(open_clip.CLIP(**TINY_CLIP), seed)


def tiny_architecture(folder: Path) -> str:
    """Write an `open_clip_config.json` for the tiny CLIP; return open_clip's name for it."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY_CLIP, "preprocess_cfg": preprocess}))
    return f"local-dir:{folder}"


def hps_v2_file(folder: Path, model: nn.Module, version: str = "") -> Path:
    """Write a model as HPS v2 is published: a pickle with `state_dict` among other keys."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"HPS_v2{version}_compressed.pt"
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, path)
    return path


def tiny_clip_model(seed: int = 0) -> CLIPModel:
    text, vision = clip_configs(TINY_CLIP, "tiny")
    return enliven(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=48)), seed)


def clip_folder(folder: Path, model: CLIPModel) -> Path:
    """Write a model as PickScore is published: a transformers folder with tokenizer and image processor."""
    model.save_pretrained(folder)
    shared_tokenizer().save_pretrained(folder)
    tiny_image_processor().save_pretrained(folder)
    return folder


def tiny_image_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})


def published_mlp(input_size: int, seed: int = 0) -> nn.Sequential:
    """The head of ImageReward and of the aesthetic predictor, with dropout at the places where it was published."""
    widths = [input_size, *MLP_WIDTHS]
    linears = [nn.Linear(*pair) for pair in zip(widths, widths[1:], strict=False)]
    layers = [linears[0], nn.Dropout(0.2), linears[1], nn.Dropout(0.2), linears[2], nn.Dropout(0.1), *linears[3:]]
    return enliven(nn.Sequential(*layers), seed)


@dataclass(frozen=True)
class OriginalImageReward:
    """ImageReward of parts that are not ours: timm's ViT, transformers' BERT, and the head."""

    vision: nn.Module
    text: BertModel
    mlp: nn.Sequential

    def score(self, pixels: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.vision.forward_features(pixels)
        text = self.text(input_ids, attention_mask=attention_mask, encoder_hidden_states=states)
        return (self.mlp(text.last_hidden_state[:, 0])[:, 0] - 0.16717362830052426) / 1.0333394966054072

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The weights under the published names, with those that the score does not read."""
        weights = {f"blip.visual_encoder.{name}": value for name, value in self.vision.state_dict().items()}
        weights |= {
            f"blip.text_encoder.{name}": value
            for name, value in self.text.state_dict().items()
            if "token_type" not in name
        }
        weights |= {f"mlp.layers.{name}": value for name, value in self.mlp.state_dict().items()}
        unread = {"blip.vision_proj.weight": (256, 64), "blip.vision_proj.bias": (256,)}
        unread |= {"blip.text_proj.weight": (256, 128), "blip.text_proj.bias": (256,)}
        weights |= {name: torch.zeros(shape) for name, shape in unread.items()}
        weights["blip.text_encoder.embeddings.position_ids"] = torch.arange(40)[None]
        return weights


def tiny_image_reward(seed: int = 0) -> OriginalImageReward:
    """Two heads of 64 channels in the text encoder, one in the image encoder."""
    vision = timm.models.VisionTransformer(
        img_size=SIDE, patch_size=8, embed_dim=64, depth=2, num_heads=1, num_classes=0, global_pool=""
    )
    config = BertConfig(
        vocab_size=len(WORDS) + 2,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=96,
        max_position_embeddings=40,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        is_decoder=True,  # for the cross-attention; it must not look ahead only, see below
        add_cross_attention=True,
    )
    text = BertModel(config, add_pooling_layer=False)
    for layer in text.encoder.layer:  # BERT's own takes states of its own width only
        layer.crossattention.self.key, layer.crossattention.self.value = nn.Linear(64, 128), nn.Linear(64, 128)
    enliven(text, seed + 1)
    text.config.is_decoder = False
    text.embeddings.token_type_embeddings.weight.data.zero_()  # BLIP has none
    return OriginalImageReward(enliven(vision, seed), text, published_mlp(128, seed + 2))


def bert_folder(folder: Path) -> Path:
    """Write a small BERT vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return folder


def image_reward_folder(folder: Path, original: OriginalImageReward) -> Path:
    """Write `ImageReward.pt` and a vocabulary beside it."""
    bert_folder(folder)
    torch.save(original.state_dict(), folder / "ImageReward.pt")
    return folder


def bert_tokens(folder: Path, prompts: list[str]) -> Any:
    tokenizer = BertTokenizer.from_pretrained(folder)
    tokens = tokenizer(prompts, padding="max_length", truncation=True, max_length=35, return_tensors="pt")
    return {name: tokens[name] for name in ("input_ids", "attention_mask")}
