"""Reward-driven video alignment for the Hugging Face ecosystem: VIDEORM and the tools around it.

Importing this package registers VIDEORM with transformers' Auto classes. It imports torch and transformers only.
"""

from transformers import AutoConfig, AutoModel, AutoProcessor, AutoVideoProcessor

from videorm_hf.models.videorm.configuration_videorm import VideoRMConfig
from videorm_hf.models.videorm.modeling_videorm import VideoRMModel, VideoRMOutput
from videorm_hf.models.videorm.processing_videorm import VideoRMProcessor
from videorm_hf.models.videorm.video_decoding_videorm import VideoDecodingError
from videorm_hf.models.videorm.video_processing_videorm import VideoRMVideoProcessor
from videorm_hf.models.videorm_blip.configuration_videorm_blip import VideoRMBlipConfig
from videorm_hf.models.videorm_blip.modeling_videorm_blip import VideoRMBlipModel
from videorm_hf.models.videorm_blip.processing_videorm_blip import VideoRMBlipProcessor, VideoRMBlipVideoProcessor

AutoConfig.register("videorm", VideoRMConfig, exist_ok=True)
AutoModel.register(VideoRMConfig, VideoRMModel, exist_ok=True)
AutoProcessor.register(VideoRMConfig, VideoRMProcessor, exist_ok=True)
AutoVideoProcessor.register(VideoRMConfig, VideoRMVideoProcessor, exist_ok=True)
AutoConfig.register("videorm_blip", VideoRMBlipConfig, exist_ok=True)
AutoModel.register(VideoRMBlipConfig, VideoRMBlipModel, exist_ok=True)
AutoProcessor.register(VideoRMBlipConfig, VideoRMBlipProcessor, exist_ok=True)
AutoVideoProcessor.register(VideoRMBlipConfig, VideoRMBlipVideoProcessor, exist_ok=True)

# A saved model carries its own code, so that it loads with `trust_remote_code=True` where this package is absent.
VideoRMConfig.register_for_auto_class()
VideoRMModel.register_for_auto_class("AutoModel")
VideoRMProcessor.register_for_auto_class()
VideoRMVideoProcessor.register_for_auto_class()

__version__ = "0.1.0.dev0"

__all__ = [
    "VideoDecodingError",
    "VideoRMBlipConfig",
    "VideoRMBlipModel",
    "VideoRMBlipProcessor",
    "VideoRMBlipVideoProcessor",
    "VideoRMConfig",
    "VideoRMModel",
    "VideoRMOutput",
    "VideoRMProcessor",
    "VideoRMVideoProcessor",
]
