"""What a user hands the trainer: rewards by name."""

import pytest
import torch
from datasets import Dataset
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig

from draftv_trainer import DRaFTVTrainer
from draftv_trainer.trainer_inputs import load_rewards
from tests.draftv.factories import PROMPTS, redness, tiny_args, tiny_wan
from tests.draftv.pipeline_factories import tiny_stable_diffusion
from tests.rewards.factories import clip_folder, tiny_clip_model
from videorm_hf.rewards import HPSv2Reward, PickScoreReward, VideoRMReward


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return clip_folder(tmp_path_factory.mktemp("clip"), tiny_clip_model())


def test_rewards_are_loaded_by_name(clip, videorm_folder):
    given = [str(videorm_folder), f"hps_v2.1:{clip}", redness, f"pick_score:{clip}"]
    loaded = load_rewards(given, torch.device("cpu"))
    assert [type(reward) for reward in loaded if reward is not redness] == [
        VideoRMReward,
        HPSv2Reward,
        PickScoreReward,
    ]
    assert loaded[2] is redness
    assert loaded[1].version == "2.1"


def test_sharding_that_accelerate_was_configured_for_is_refused(tmp_path, monkeypatch):
    args = tiny_args(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="FSDP and DeepSpeed .* are not supported.*shard_denoiser"):
        DRaFTVTrainer(tiny_wan(), redness, args, train_dataset=PROMPTS)


def test_a_pipeline_is_tuned_by_rewards_by_name(clip, tmp_path):
    run = DRaFTVTrainer(
        model=tiny_wan(),
        reward_funcs=[f"hps_v2:{clip}", f"pick_score:{clip}"],
        args=tiny_args(tmp_path, max_steps=2, reward_weights=[1.0, 0.1]),
        train_dataset=PROMPTS,
    )
    run.train()
    first, second = (entry for entry in run.state.log_history if "reward" in entry)
    assert first["grad_norm/hps_v2"] > 0 and first["grad_norm/pick_score"] > 0
    total = first["rewards/hps_v2"] + 0.1 * first["rewards/pick_score"]
    assert first["reward"] == pytest.approx(total, rel=1e-4)
    assert first["rewards/hps_v2"] != second["rewards/hps_v2"]


def test_a_prompt_that_is_absent_is_named_by_its_row(tmp_path):
    prompts = Dataset.from_dict({"prompt": ["a red dog runs", None]})
    with pytest.raises(TypeError, match="train_dataset must hold strings: got none in row 1"):
        DRaFTVTrainer(tiny_wan(), redness, tiny_args(tmp_path), train_dataset=prompts)


def test_a_safety_checker_is_refused(tmp_path):
    pipe = tiny_stable_diffusion()
    tower = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = CLIPConfig(text_config=tower, vision_config={**tower, "image_size": 32, "patch_size": 16})
    pipe.register_modules(safety_checker=StableDiffusionSafetyChecker(config))
    with pytest.raises(ValueError, match="safety_checker=None"):
        DRaFTVTrainer(pipe, redness, tiny_args(tmp_path, pipeline_kwargs={}, num_frames=None), train_dataset=PROMPTS)
