"""Rewards: every scorer of (prompt, video) behind one differentiable call."""

from videorm_hf.rewards.aesthetic import AestheticReward
from videorm_hf.rewards.base import Reward
from videorm_hf.rewards.clip import CLIPScoreReward, HPSv2Reward, PickScoreReward
from videorm_hf.rewards.frames import FrameMean, ImageReward
from videorm_hf.rewards.function import FunctionReward
from videorm_hf.rewards.image_reward import ImageRewardReward
from videorm_hf.rewards.loading import REWARDS, check_reward, load_reward
from videorm_hf.rewards.mixture import MixtureReward
from videorm_hf.rewards.videorm import VideoRMReward
from videorm_hf.rewards.videorm_blip import VideoRMBlipReward

__all__ = [
    "REWARDS",
    "AestheticReward",
    "CLIPScoreReward",
    "FrameMean",
    "FunctionReward",
    "HPSv2Reward",
    "ImageReward",
    "ImageRewardReward",
    "MixtureReward",
    "PickScoreReward",
    "Reward",
    "VideoRMBlipReward",
    "VideoRMReward",
    "check_reward",
    "load_reward",
]
