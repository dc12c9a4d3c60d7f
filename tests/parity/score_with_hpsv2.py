"""Score images with the `hpsv2` package: runs in its environment, in a folder that holds weights and job.

`hpsv2.img_score.score` is called as it is. Only its model is put in place beforehand, by the same call that it makes
itself but for the pretrained CLIP that it would download first and then overwrite, and for the size.
"""

import hpsv2.img_score
import torch
from hpsv2.src.open_clip import create_model_and_transforms, get_tokenizer
from PIL import Image
from torchvision.transforms import Compose

job = torch.load("job.pt", weights_only=True)
model, _, preprocess = create_model_and_transforms(
    job["architecture"],
    None,
    precision="amp",
    device="cpu",
    light_augmentation=True,
    aug_cfg={},
    output_dict=True,
    with_score_predictor=False,
    with_region_predictor=False,
)
hpsv2.img_score.device = "cpu"
hpsv2.img_score.model_dict.update(model=model, preprocess_val=preprocess)
tokenizer = get_tokenizer("ViT-H-14")
# The steps after the conversion to a tensor.
fit = Compose(preprocess.transforms[2:])

scores, gradients = [], []
for image, prompt in zip(job["images"], job["prompts"], strict=True):
    scores += hpsv2.img_score.score(Image.fromarray(image.permute(1, 2, 0).numpy()), prompt, cp=job["checkpoint"])
    pixels = (image / 255).requires_grad_()
    outputs = model(fit(pixels)[None], tokenizer([prompt]))
    (outputs["image_features"] @ outputs["text_features"].T).sum().backward()
    gradients.append(pixels.grad)
torch.save({"scores": torch.tensor([float(score) for score in scores]), "gradients": gradients}, "original.pt")
