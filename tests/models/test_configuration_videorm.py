"""VideoRMConfig: what it refuses, and that it survives a round trip."""

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, CLIPConfig

from tests.factories import tiny_videorm_config
from videorm_hf import VideoRMConfig


def test_defaults_are_resolved_to_numbers():
    config = VideoRMConfig(projection_dim=1024)
    assert (config.temporal_num_heads, config.temporal_intermediate_size) == (16, 4096)
    assert (config.num_frames, config.temporal_num_layers, config.temporal_shift_fold_div) == (8, 6, 8)


def test_round_trip_through_a_folder(tmp_path):
    config = tiny_videorm_config(temporal_shift="block", temporal_head="lstm", temporal_dropout=0.1)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, VideoRMConfig)
    ours, theirs = config.to_dict(), loaded.to_dict()
    assert theirs.pop("_name_or_path") == str(tmp_path)
    ours.pop("_name_or_path")
    assert ours == theirs


def test_towers_of_a_published_clip_are_copied():
    clip = CLIPConfig(vision_config={"hidden_size": 96, "num_attention_heads": 4, "legacy_key": 1})
    config = VideoRMConfig(vision_config=clip.vision_config, text_config=clip.text_config)
    assert config.vision_config.hidden_size == 96
    assert config.vision_config is not clip.vision_config
    VideoRMConfig.from_dict(config.to_dict())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temporal_shfit": "none"}, "'temporal_shfit' \\(did you mean 'temporal_shift'"),
        ({"vision_config": {"hiden_size": 8}}, "vision_config got keys .* hiden_size"),
        ({"temporal_shift": "blocks"}, "temporal_shift.*'residual', 'block', 'none'"),
        ({"temporal_head": "rnn"}, "temporal_head.*'transformer', 'conv1d', 'lstm', 'mean'"),
        ({"num_frames": "8"}, "num_frames.*expected int, got str"),
        ({"num_frames": 0}, "num_frames must be at least 1, got 0"),
        ({"num_frames": 33}, "num_frames must not exceed max_frames, got num_frames=33 and max_frames=32"),
        ({"temporal_num_heads": 7}, "projection_dim=512 and temporal_num_heads=7"),
        ({"temporal_dropout": 1.0}, "temporal_dropout must be in \\[0, 1\\), got 1.0"),
        ({"temporal_shift_fold_div": 1}, "temporal_shift_fold_div must be between 2 .* got 1"),
        ({"vision_config": {"num_channels": 4}}, "num_channels must be 3 \\(RGB\\), got 4"),
    ],
)
def test_wrong_fields_are_errors_that_say_what_was_got(fields, message):
    with pytest.raises((TypeError, StrictDataclassError), match=f"(?s){message}"):
        VideoRMConfig(**fields)


def test_unused_shift_settings_are_not_checked():
    assert VideoRMConfig(temporal_shift="none", temporal_shift_fold_div=1).temporal_shift == "none"
