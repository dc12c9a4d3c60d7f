"""Rewards: every scorer of (prompt, video) behind one differentiable call."""

from videorm_hf.rewards.base import Reward
from videorm_hf.rewards.frames import FrameMean
from videorm_hf.rewards.videorm import VideoRMReward

__all__ = ["FrameMean", "Reward", "VideoRMReward"]
