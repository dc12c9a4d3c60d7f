"""load_reward: every name of the registry finds its class and its weights."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.blip_factories import tiny_videorm_blip_folder
from tests.rewards.factories import (
    PROMPTS,
    bert_folder,
    clip_folder,
    image_reward_folder,
    published_mlp,
    smooth_frames,
    tiny_architecture,
    tiny_clip_model,
    tiny_image_reward,
    tiny_open_clip,
)
from videorm_hf.models.conversion import ConversionError
from videorm_hf.rewards import (
    REWARDS,
    AestheticReward,
    CLIPScoreReward,
    FunctionReward,
    HPSv2Reward,
    ImageRewardReward,
    PickScoreReward,
    Reward,
    VideoRMBlipReward,
    VideoRMReward,
    check_reward,
    load_reward,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers CLIP with an aesthetic head, an open_clip folder, an ImageReward, a VIDEORM on ImageReward."""
    folder = tmp_path_factory.mktemp("registry")
    clip_folder(folder / "clip", tiny_clip_model())
    head = {f"layers.{name}": value for name, value in published_mlp(48).state_dict().items()}
    torch.save(head, folder / "clip" / "sac+logos+ava1-l14-linearMSE.pth")
    tiny_architecture(folder / "open_clip")
    torch.save(tiny_open_clip().state_dict(), folder / "open_clip" / "open_clip_pytorch_model.bin")
    image_reward_folder(folder / "image_reward", tiny_image_reward())
    tiny_videorm_blip_folder(folder / "videorm_blip", bert_folder(folder / "bert"))
    return folder


@pytest.mark.parametrize(
    ("name", "source", "reward_class"),
    [
        ("hps_v2", "clip", HPSv2Reward),
        ("hps_v2.1", "clip", HPSv2Reward),
        ("pick_score", "clip", PickScoreReward),
        ("clip_score", "clip", CLIPScoreReward),
        ("clip_score", "open_clip", CLIPScoreReward),
        ("image_reward", "image_reward", ImageRewardReward),
        ("aesthetic", "clip", AestheticReward),
        ("videorm_blip", "videorm_blip", VideoRMBlipReward),
    ],
)
def test_names_find_classes(folder: Path, name: str, source: str, reward_class: type[Reward]) -> None:
    prefix = "videorm" if name == "videorm_blip" else name
    reward = load_reward(f"{prefix}:{folder / source}")
    assert type(reward) is reward_class
    assert reward.name == name
    frames = smooth_frames(2, 2, 40, 60).requires_grad_()
    rewards = reward(frames, PROMPTS)
    assert rewards.shape == (2,) and torch.isfinite(rewards).all()
    rewards.sum().backward()
    assert frames.grad.abs().max() > 0


def test_videorm_needs_no_name(videorm_folder: Path, folder: Path) -> None:
    frames = smooth_frames(2, 8, 40, 60)
    named, bare = load_reward(f"videorm:{videorm_folder}"), load_reward(videorm_folder, num_frames=4)
    assert type(named) is type(bare) is VideoRMReward
    assert bare.num_frames == 4
    assert torch.equal(named(frames[:, 1::2], PROMPTS), named(frames[:, 1::2].repeat_interleave(2, dim=1), PROMPTS))
    assert type(load_reward(folder / "videorm_blip")) is VideoRMBlipReward


@pytest.mark.parametrize("kind", ["videorm", "videorm_blip", "image_reward"])
def test_saved_models_must_be_complete(folder: Path, videorm_folder: Path, tmp_path: Path, kind: str) -> None:
    if kind == "image_reward":
        load_reward(f"image_reward:{folder / kind}").model.save_pretrained(tmp_path)
    else:
        shutil.copytree(videorm_folder if kind == "videorm" else folder / kind, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    moved, misshapen = list(weights)[0], next(name for name in weights if name.endswith("patch_embedding.weight"))
    weights["moved"] = weights.pop(moved)
    weights[misshapen] = weights[misshapen][:3].clone()
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConversionError) as error:
        load_reward(f"{'image_reward' if kind == 'image_reward' else 'videorm'}:{tmp_path}")
    message = str(error.value)
    assert f"missing (1):\n    {moved}" in message and "unexpected (1):\n    moved" in message
    assert f"wrong shape (1):\n    {misshapen}: got (3, 3" in message


def test_what_is_no_reward_is_named() -> None:
    with pytest.raises(ValueError, match="no reward 'hps_v3' .* one of videorm, hps_v2, hps_v2.1, pick_score"):
        load_reward("hps_v3:path")
    with pytest.raises(ValueError, match="names no weights: write hps_v2:SOURCE"):
        load_reward("hps_v2:")
    with pytest.raises(ValueError, match="names no weights: write aesthetic:SOURCE"):
        load_reward("aesthetic")
    assert set(REWARDS) >= {"videorm", "hps_v2", "hps_v2.1", "pick_score", "clip_score", "image_reward", "aesthetic"}


def test_words_are_checked_before_anything_is_loaded(tmp_path: Path) -> None:
    check_reward("hps_v2.1:nowhere")
    check_reward("videorm-mini")
    check_reward("owner/name")
    for word, error in (("hps_v3:x", ValueError), ("hps_v2:", ValueError), ("videorm:nowhere", FileNotFoundError)):
        with pytest.raises(error):
            check_reward(word)


OWN_REWARDS = """
import torch
from videorm_hf.rewards import Reward

constant = 3

def brighter_than(frames, prompts, level):
    return frames.mean(dim=(1, 2, 3, 4)) - torch.tensor(level)

class Still(Reward):
    name = "stillness"

    def forward(self, frames, prompts, **columns):
        return -frames.diff(dim=1).abs().mean(dim=(1, 2, 3, 4))
"""


@pytest.fixture
def own_rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of rewards in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"rewards_in_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN_REWARDS)
    (tmp_path / f"needs_{name}.py").write_text("import a_package_that_is_not_there\n")
    return name


def test_rewards_of_ones_own_are_imported(own_rewards: str) -> None:
    frames = torch.rand(2, 4, 3, 8, 8, requires_grad=True)
    level, still = load_reward(f"{own_rewards}:brighter_than"), load_reward(f"{own_rewards}:Still")
    assert (level.name, still.name) == ("brighter_than", "stillness")
    # Of a data set's columns a function gets those that it names.
    rewards = level(frames, PROMPTS, level=[0.25, 0.5], source=["a", "b"])
    assert torch.equal(rewards, frames.mean(dim=(1, 2, 3, 4)) - torch.tensor([0.25, 0.5]))
    rewards.sum().backward()
    assert (frames.grad != 0).all()
    assert torch.equal(still(frames, PROMPTS), -frames.diff(dim=1).abs().mean(dim=(1, 2, 3, 4)))


def test_a_function_without_prompts_is_no_reward() -> None:
    def brightness(frames: torch.Tensor) -> torch.Tensor:
        return frames.mean(dim=(1, 2, 3, 4))

    with pytest.raises(TypeError, match=r"A reward takes \(frames, prompts\): got brightness\(frames"):
        FunctionReward(brightness)(torch.rand(1, 2, 3, 4, 4), ["a"])


def test_what_is_wrong_with_ones_own_reward_is_said(own_rewards: str) -> None:
    with pytest.raises(ImportError, match="has no 'absent'"):
        load_reward(f"{own_rewards}:absent")
    with pytest.raises(TypeError, match="must be a function .* got int"):
        load_reward(f"{own_rewards}:constant")
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        load_reward(f"needs_{own_rewards}:reward")
    with pytest.raises(ValueError, match="takes no further arguments"):
        load_reward(f"{own_rewards}:Still", num_frames=4)
    with pytest.raises(ValueError, match="one prompt a video"):
        load_reward(f"{own_rewards}:brighter_than")(torch.rand(2, 4, 3, 8, 8), ["one"])


@pytest.mark.slow  # a fresh interpreter
def test_importing_the_rewards_does_not_import_open_clip() -> None:
    code = "import sys, videorm_hf.rewards; print(*({'open_clip', 'diffusers', 'datasets'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert result.stdout.split() == []
