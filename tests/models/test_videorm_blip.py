"""VIDEORM on ImageReward (variant beta): opens as ImageReward's mean over frames, then time matters."""

import math
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModel, AutoProcessor

from tests.models.blip_factories import tiny_videorm_blip, tiny_videorm_blip_folder, tiny_videorm_blip_processor
from tests.rewards.factories import PROMPTS, bert_folder, image_reward_folder, smooth_frames, tiny_image_reward
from videorm_hf import VideoRMBlipConfig, VideoRMBlipModel, VideoRMBlipProcessor, VideoRMBlipVideoProcessor
from videorm_hf.models.videorm_blip.image_reward_checkpoint import load_image_reward
from videorm_hf.rewards import ImageRewardReward, VideoRMBlipReward


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert_folder(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def processor(bert: Path) -> VideoRMBlipProcessor:
    return tiny_videorm_blip_processor(bert)


def tiny(processor: VideoRMBlipProcessor, **overrides: object) -> VideoRMBlipModel:
    return tiny_videorm_blip(len(processor.tokenizer) + 2, **overrides)


def batch(processor: VideoRMBlipProcessor, num_frames: int = 8) -> dict[str, torch.Tensor]:
    clips = list(smooth_frames(2, num_frames, 40, 60))
    return dict(processor(text=PROMPTS, videos=clips, num_frames=num_frames))


@pytest.mark.parametrize("temporal_head", ["transformer", "conv1d", "lstm", "mean"])
def test_a_new_head_on_a_checkpoint_is_the_mean_of_image_reward(tmp_path: Path, temporal_head: str) -> None:
    folder = image_reward_folder(tmp_path, tiny_image_reward())
    model = load_image_reward(folder / "ImageReward.pt", temporal_head=temporal_head, temporal_num_layers=2)
    processor = tiny_videorm_blip_processor(folder)
    frames = smooth_frames(2, 8, 40, 60)
    expected = ImageRewardReward.from_pretrained(folder)(frames, PROMPTS)
    rewards = VideoRMBlipReward(model, processor)(frames, PROMPTS)
    torch.testing.assert_close(rewards, expected, rtol=0, atol=1e-5)
    assert (expected[0] - expected[1]).abs() > 1e-3


def test_an_open_head_hears_order_and_prompt(processor: VideoRMBlipProcessor) -> None:
    model, inputs = tiny(processor, open_gate=True), batch(processor)
    with torch.no_grad():
        rewards = model(**inputs).rewards
        reversed_ = model(**{**inputs, "pixel_values_videos": inputs["pixel_values_videos"].flip(1)}).rewards
        swapped = model(**{**inputs, "input_ids": inputs["input_ids"].flip(0)}).rewards
    assert (rewards - reversed_).abs().min() > 1e-4
    assert (rewards - swapped).abs().min() > 1e-4


def test_padded_frames_change_nothing(processor: VideoRMBlipProcessor) -> None:
    model, inputs = tiny(processor, open_gate=True), batch(processor, 5)
    padded = {**inputs, "frame_mask": torch.tensor([[True] * 5 + [False] * 2] * 2)}
    noise = torch.randn(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    padded["pixel_values_videos"] = torch.cat([inputs["pixel_values_videos"], noise], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(model(**padded).rewards, model(**inputs).rewards, rtol=0, atol=1e-5)


def test_padding_of_prompts_changes_nothing(processor: VideoRMBlipProcessor) -> None:
    model, inputs = tiny(processor), batch(processor)
    short = {name: inputs[name][:, :12] for name in ("input_ids", "attention_mask")}
    assert not inputs["attention_mask"][:, 12:].any()
    with torch.no_grad():
        torch.testing.assert_close(model(**{**inputs, **short}).rewards, model(**inputs).rewards, rtol=0, atol=1e-5)


def test_loss_is_that_of_preferences(processor: VideoRMBlipProcessor) -> None:
    model, inputs = tiny(processor, open_gate=True), batch(processor)
    output = model(**inputs, return_loss=True)
    difference = (output.rewards[0] - output.rewards[1]).item()
    assert output.loss.item() == pytest.approx(math.log1p(math.exp(-difference)), rel=1e-5)
    same = {name: value[:1].repeat_interleave(2, dim=0) for name, value in inputs.items()}
    assert model(**same, return_loss=True).loss.item() == pytest.approx(math.log(2), rel=1e-5)
    with pytest.raises(ValueError, match="needs an even batch"):
        model(**{name: value[:1] for name, value in inputs.items()}, return_loss=True)


def test_temporal_training_moves_the_head_and_nothing_else(processor: VideoRMBlipProcessor) -> None:
    model, inputs = tiny(processor), batch(processor)
    model.freeze_for_temporal_training()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam([value for value in model.parameters() if value.requires_grad], lr=1e-2)
    losses = []
    for _ in range(3):  # the gate is zero: the first step moves it alone
        loss = model(**inputs, return_loss=True).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    expected = {name for name in before if name.startswith("temporal_head.")}
    # Attention does not see a bias that all keys share.
    assert expected - moved <= {name for name in expected if name.endswith("k_proj.bias")}
    assert moved <= expected
    with pytest.raises(ValueError, match="temporal_head='mean' has no parameters to train"):
        tiny(processor, temporal_head="mean").freeze_for_temporal_training()


def test_gradients_reach_the_pixels_of_every_frame(processor: VideoRMBlipProcessor) -> None:
    frames = smooth_frames(2, 8, 40, 60).requires_grad_()
    VideoRMBlipReward(tiny(processor, open_gate=True), processor)(frames, PROMPTS).sum().backward()
    assert (frames.grad.flatten(2).norm(dim=-1) > 0).all()


def test_saved_and_loaded_it_is_the_same(bert: Path, tmp_path: Path) -> None:
    folder = tiny_videorm_blip_folder(tmp_path / "saved", bert, open_gate=True)
    assert sorted(path.suffix for path in folder.iterdir() if path.suffix == ".py") == []
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    assert type(model) is VideoRMBlipModel and type(AutoConfig.from_pretrained(folder)) is VideoRMBlipConfig
    assert type(processor) is VideoRMBlipProcessor
    assert type(processor.video_processor) is VideoRMBlipVideoProcessor
    inputs = batch(processor)
    assert sorted(inputs) == ["attention_mask", "input_ids", "pixel_values_videos"]
    assert inputs["pixel_values_videos"].shape == (2, 8, 3, 32, 32)
    with torch.no_grad():
        expected = tiny(processor, open_gate=True)(**inputs).rewards
        assert torch.equal(model(**inputs).rewards, expected)
        plain = model(**inputs, return_dict=False)
    assert isinstance(plain, tuple) and torch.equal(plain[0], expected)


def test_attention_may_be_chosen_for_the_temporal_head(bert: Path, tmp_path: Path) -> None:
    folder = tiny_videorm_blip_folder(tmp_path / "saved", bert, open_gate=True)
    inputs = batch(AutoProcessor.from_pretrained(folder))
    with torch.no_grad():
        rewards = [
            AutoModel.from_pretrained(folder, attn_implementation=name)(**inputs).rewards for name in ("sdpa", "eager")
        ]
    torch.testing.assert_close(*rewards, rtol=0, atol=1e-5)


def test_files_and_frames_are_cropped(processor: VideoRMBlipProcessor, real_clips: list[Path]) -> None:
    pixels = processor.video_processor([real_clips[0]], num_frames=4)["pixel_values_videos"]
    assert pixels.shape == (1, 4, 3, 32, 32)
    assert pixels.std() > 0.1
    pixels = processor.video_processor([real_clips[0]], size={"shortest_edge": 16})["pixel_values_videos"]
    assert pixels.shape[-2:] == (16, 16)


def test_half_precision_gives_float32_rewards(processor: VideoRMBlipProcessor) -> None:
    model, inputs = tiny(processor, open_gate=True), batch(processor)
    with torch.no_grad():
        expected = model(**inputs).rewards
        rewards = model.to(torch.bfloat16)(**inputs).rewards
    assert rewards.dtype == torch.float32
    torch.testing.assert_close(rewards, expected, rtol=0.1, atol=0.1)


def test_wrong_input_is_an_error(processor: VideoRMBlipProcessor) -> None:
    model, inputs = tiny(processor), batch(processor)
    with pytest.raises(ValueError, match="got 1 prompts and 2 clips"):
        model(**{**inputs, "input_ids": inputs["input_ids"][:1]})
    with pytest.raises(ValueError, match="1 to max_frames=32 frames, got 33"):
        model(**{**inputs, "pixel_values_videos": inputs["pixel_values_videos"][:, [0] * 33]})
    with pytest.raises(ValueError, match="max_frames=32, got 33"):
        VideoRMBlipReward(model, processor, num_frames=33)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temporal_hed": "mean"}, "unknown keys: temporal_hed"),
        ({"text_config": {"hiden_size": 3}}, "BlipTextConfig does not have: hiden_size"),
        ({"text_config": {"encoder_hidden_size": 512}}, "must be the image encoder's hidden_size=1024, got 512"),
        ({"text_config": {"encoder_hidden_size": 1024, "is_decoder": False}}, "builds no cross-attention"),
        ({"projection_dim": 12}, "hidden_size=768, got 12"),
        ({"num_frames": 40}, "num_frames=40 and max_frames=32"),
        ({"temporal_num_heads": 7}, "multiple of temporal_num_heads"),
        ({"temporal_dropout": 1.0}, "must be in \\[0, 1\\), got 1.0"),
        ({"score_std": 0.0}, "above 0"),
        ({"num_frames": 0}, "num_frames must be at least 1"),
    ],
)
def test_impossible_configurations_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises((TypeError, StrictDataclassError), match=f"(?s){message}"):
        VideoRMBlipConfig(**fields)


def test_defaults_are_image_rewards() -> None:
    config = VideoRMBlipConfig()
    assert (config.vision_config.hidden_size, config.vision_config.num_hidden_layers) == (1024, 24)
    assert (config.text_config.hidden_size, config.text_config.num_attention_heads) == (768, 12)
    assert (config.projection_dim, config.temporal_num_heads, config.temporal_intermediate_size) == (768, 12, 3072)
