"""VIDEORM at its published size: how large it is, and whether it still scores as its image model does.

An open_clip ViT-H/14 with random weights is saved in the layout of HPS v2's checkpoint and converted by
`convert_checkpoint`. Still clips are then scored by the VIDEORM and, frame by frame, by open_clip itself. Needs about
10 GB of memory, 8 GB of disk and minutes. The architecture can be made smaller for a trial; the card shows ViT-H/14.

    python benchmarks/videorm_h14.py
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import open_clip
import torch
from machine import describe_machine

from videorm_hf import VideoRMModel, VideoRMProcessor
from videorm_hf.models.conversion import convert_checkpoint

PROMPTS = ["a corgi on a skateboard", "two kites over the sea at dusk", "it's raining in Tōkyō, 1985!"]
RESULTS = Path(__file__).resolve().parents[1] / "hub_cards" / "results"


def main() -> None:
    """Measure, and write the results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="ViT-H-14", help="open_clip's name")
    parser.add_argument("--output", type=Path, default=RESULTS / "videorm_h14.json")
    arguments = parser.parse_args()

    frames = torch.randn(len(PROMPTS), 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint, folder = Path(scratch) / "HPS_v2_compressed.pt", Path(scratch) / "videorm"
        expected = write_checkpoint(arguments.architecture, checkpoint, frames)
        report = convert_checkpoint(checkpoint, folder, architecture=arguments.architecture)
        checkpoint.unlink()
        stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        model, processor = VideoRMModel.from_pretrained(folder).eval(), VideoRMProcessor.from_pretrained(folder)
    tokens = processor.tokenizer(PROMPTS, padding="max_length", truncation=True, return_tensors="pt")
    results = {
        "machine": describe_machine("torch", "transformers", "open_clip_torch", threads=torch.get_num_threads()),
        "settings": {"architecture": arguments.architecture, "weights": "random", "dtype": "float32"},
        "parameters": parameters(model, report.num_fresh_parameters),
        "stored_mb": round(stored / 1e6, 1),
        "still_clips": still_clips(model, frames, tokens, expected),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))


def write_checkpoint(architecture: str, path: Path, frames: torch.Tensor) -> torch.Tensor:
    """Save a random open_clip model as HPS v2's checkpoint is laid out; return its cosines of frames and prompts."""
    torch.manual_seed(0)
    model = open_clip.create_model(architecture).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:  # norms and biases start at one and zero, where a mix-up would not show
            torch.nn.init.normal_(parameter, mean=float("ln" in name and name.endswith("weight")), std=0.1)
    torch.save({"epoch": 1, "state_dict": model.state_dict()}, path)
    with torch.no_grad():
        image_embeds = model.encode_image(frames, normalize=True)
        text_embeds = model.encode_text(open_clip.tokenize(PROMPTS), normalize=True)
    return (image_embeds * text_embeds).sum(-1)


def parameters(model: VideoRMModel, num_fresh: int) -> dict[str, int]:
    """Count parameters: all, and those of the temporal head, which training moves."""
    return {"all": sum(parameter.numel() for parameter in model.parameters()), "temporal_head": num_fresh}


def still_clips(model: VideoRMModel, frames: torch.Tensor, tokens: Any, expected: torch.Tensor) -> dict[str, Any]:
    """Score a still clip a prompt, and say how far from the image model's cosine of its frame it is at most."""
    with torch.no_grad():
        rewards = model(frames[:, None].expand(-1, 8, -1, -1, -1), **tokens).rewards
    difference = (rewards - expected).abs().max().item()
    spread = (expected.max() - expected.min()).item()
    return {"clips": len(frames), "num_frames": 8, "max_difference": difference, "spread_of_rewards": spread}


if __name__ == "__main__":
    main()
