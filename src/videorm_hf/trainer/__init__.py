"""Training reward models on preferences between videos: `VideoRewardTrainer` on transformers' Trainer."""

from videorm_hf.trainer.video_reward_config import VideoRewardConfig
from videorm_hf.trainer.video_reward_trainer import VideoRewardTrainer

__all__ = ["VideoRewardConfig", "VideoRewardTrainer"]
