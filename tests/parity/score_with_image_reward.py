"""Score images with the `image-reward` package: runs in its environment, in a folder that holds the job.

The model is the package's own class at its published size with random weights, which are saved for the other side. The
folder `bert-base-uncased` beside the job is where its tokenizer comes from.
"""

import json

import torch
from ImageReward.ImageReward import ImageReward
from PIL import Image

job = torch.load("job.pt", weights_only=True)
with open("med_config.json", "w", encoding="utf-8") as file:
    json.dump(job["med_config"], file)
model = ImageReward(med_config="med_config.json", device="cpu").eval()
generator = torch.Generator().manual_seed(0)
for name, parameter in model.named_parameters():  # as made, its scores would hardly differ
    is_scale = parameter.ndim == 1 and name.endswith("weight")
    width = parameter[0].numel() if parameter.ndim > 1 else 100
    noise = torch.randn(parameter.shape, generator=generator) * (1.5 / width**0.5)
    parameter.data.copy_(noise + float(is_scale))
torch.save(model.state_dict(), "ImageReward.pt")

resize, crop, _, _, normalize = model.preprocess.transforms
scores, tensor_scores, gradients = [], [], []
for image, prompt in zip(job["images"], job["prompts"], strict=True):
    eight_bits = (255 * image).round().to(torch.uint8)
    scores.append(model.score(prompt, Image.fromarray(eight_bits.permute(1, 2, 0).numpy())))
    pixels = image.clone().requires_grad_()
    tokens = model.blip.tokenizer(prompt, padding="max_length", truncation=True, max_length=35, return_tensors="pt")
    fitted = normalize(crop(resize(pixels)))[None]
    reward = model.score_gard(tokens.input_ids, tokens.attention_mask, fitted)
    reward.sum().backward()
    tensor_scores.append(reward.item())
    gradients.append(pixels.grad)
torch.save(
    {
        "scores": torch.tensor(scores),
        "tensor_scores": torch.tensor(tensor_scores),
        "gradients": gradients,
    },
    "original.pt",
)
