"""Score images with `image-reward`'s `CLIPScore` and `AestheticScore`: runs in its environment, in the job's folder.

Both classes are the package's own. Only `clip.load` is put in place of the one that would download OpenAI's CLIP: it
gives OpenAI's model class with random weights, which are saved for the other side.
"""

import clip
import torch
from ImageReward.models.AestheticScore import AestheticScore
from ImageReward.models.CLIPScore import CLIPScore
from PIL import Image

job = torch.load("job.pt", weights_only=True)


def enliven(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Give a model seeded random weights under which its scores differ."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 0:
            is_scale = parameter.ndim == 1 and name.endswith("weight")
            width = parameter[0].numel() if parameter.ndim > 1 else 100
            noise = torch.randn(parameter.shape, generator=generator) * (1.5 / width**0.5)
            parameter.data.copy_(noise + float(is_scale))
    return model.eval()


def load(name: str, device: str, jit: bool, download_root: str) -> tuple[torch.nn.Module, object]:
    return enliven(clip.model.CLIP(**job["clip"]), 0), clip.clip._transform(224)


clip.load = load
clip_score, aesthetic = CLIPScore(".", "cpu").eval(), AestheticScore(".", "cpu").eval()
enliven(aesthetic.mlp, 1)
torch.save(clip_score.clip_model.state_dict(), "clip.pt")
torch.save(aesthetic.mlp.state_dict(), "sac+logos+ava1-l14-linearMSE.pth")

resize, crop, _, _, normalize = clip_score.preprocess.transforms
results = {"clip_score": [], "aesthetic": [], "clip_gradients": [], "aesthetic_gradients": []}
for index, (image, prompt) in enumerate(zip(job["images"], job["prompts"], strict=True)):
    path = f"{index}.png"
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    results["clip_score"].append(clip_score.score(prompt, path))
    results["aesthetic"].append(aesthetic.score(prompt, path))
    text = torch.nn.functional.normalize(clip_score.clip_model.encode_text(clip.tokenize(prompt, truncate=True)))
    for kind in ("clip", "aesthetic"):
        pixels = (image / 255).requires_grad_()
        model = clip_score.clip_model if kind == "clip" else aesthetic.clip_model
        embeds = torch.nn.functional.normalize(model.encode_image(normalize(crop(resize(pixels)))[None]))
        (embeds @ text.T if kind == "clip" else aesthetic.mlp(embeds)).sum().backward()
        results[f"{kind}_gradients"].append(pixels.grad)
torch.save(results, "original.pt")
