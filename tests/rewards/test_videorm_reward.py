"""VideoRMReward: the model behind the call that trainers use."""

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from tests.factories import tiny_processor, tiny_videorm
from videorm_hf.rewards import VideoRMReward

TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
PROMPTS = ["a corgi on a skateboard", "a cat asleep"]


def colourful_frames(batch_size: int, num_frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch_size * num_frames, 3, 3, 5, generator=generator)
    return torch.nn.functional.interpolate(coarse, scale_factor=16).unflatten(0, (batch_size, num_frames))


def test_equals_processor_and_model_and_reaches_the_sampled_frames():
    model, processor = tiny_videorm(open_gate=True), tiny_processor()
    frames = colourful_frames(2, 16).requires_grad_()
    rewards = VideoRMReward(model, processor)(frames, PROMPTS)
    inputs = processor(text=PROMPTS, videos=[clip.detach() for clip in frames])
    torch.testing.assert_close(rewards, model(**inputs).rewards, rtol=0, atol=1e-6)
    rewards.sum().backward()
    touched = frames.grad.flatten(2).norm(dim=-1) > 0
    assert touched[0].nonzero().flatten().tolist() == list(range(1, 16, 2))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_each_prompt_is_encoded_once(monkeypatch):
    model = tiny_videorm()
    encoded = []
    original = model.get_text_embeds

    def counted(**inputs):
        encoded.append(len(inputs["input_ids"]))
        return original(**inputs)

    monkeypatch.setattr(model, "get_text_embeds", counted)
    reward = VideoRMReward(model, tiny_processor(), num_frames=2)
    first = reward(colourful_frames(3, 2), [PROMPTS[0], PROMPTS[1], PROMPTS[0]])
    second = reward(colourful_frames(3, 2), [PROMPTS[0], PROMPTS[1], PROMPTS[0]])
    assert encoded == [2]
    assert torch.equal(first, second)


def test_loads_from_a_folder(videorm_folder):
    reward = VideoRMReward.from_pretrained(videorm_folder, num_frames=4)
    assert (reward.name, reward.num_frames) == ("videorm", 4)
    assert reward(colourful_frames(2, 4), PROMPTS).shape == (2,)
    assert VideoRMReward.from_pretrained("videorm-mini").model.config.num_frames == 8


def test_wrong_input_is_an_error(videorm_folder, tmp_path):
    reward = VideoRMReward.from_pretrained(videorm_folder)
    with pytest.raises(ValueError, match="frames of shape \\(2, 4, 3, 48, 80\\) and 1 prompts"):
        reward(colourful_frames(2, 4), PROMPTS[:1])
    with pytest.raises(ValueError, match="frames of shape \\(2, 4, 3, 48, 80\\) and the text 'ab'"):
        reward(colourful_frames(2, 4), "ab")
    with pytest.raises(ValueError, match="Expected frames .*got frames of shape \\(2, 3, 4, 48, 80\\)"):
        reward(colourful_frames(2, 4).transpose(1, 2), PROMPTS)
    with pytest.raises(FileNotFoundError, match="got 'vidoerm-mini'.* Was 'videorm-mini' meant"):
        VideoRMReward.from_pretrained("vidoerm-mini")
    with pytest.raises(ValueError, match="must lie in \\[0, 1\\], got values from 0.* to 2"):
        reward(colourful_frames(2, 4) * 255, PROMPTS)
    with pytest.raises(ValueError, match="max_frames=32, got 33"):
        VideoRMReward.from_pretrained(videorm_folder, num_frames=33)
    CLIPModel(CLIPConfig(text_config=TOWER, vision_config=TOWER)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a 'clip' model, expected a VIDEORM"):
        VideoRMReward.from_pretrained(tmp_path)
