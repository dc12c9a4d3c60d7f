"""The settings: the paper's defaults, the pipeline's own defaults, and errors before anything runs."""

import pytest
from transformers import HfArgumentParser

from draftv_trainer import DRaFTVConfig


def test_defaults_are_the_papers_and_the_pipelines_own(tmp_path):
    config = DRaFTVConfig(output_dir=str(tmp_path), use_cpu=True)
    assert config.learning_rate == 1e-5
    assert (config.per_device_train_batch_size, config.per_device_eval_batch_size) == (1, 1)
    assert config.remove_unused_columns is False
    settings = config.sampling_settings()
    assert settings.graph_steps(step_seed=0).choose(50) == set(range(40, 50))
    assert settings.checkpointing == "auto"
    assert settings.num_inference_steps is None
    assert settings.pipeline_kwargs == {}


def test_only_given_arguments_reach_the_pipeline(tmp_path):
    config = DRaFTVConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        height=64,
        guidance_scale=1.0,
        eta=0.0,
        pipeline_kwargs={"negative_prompt": "x"},
    )
    expected = {"height": 64, "guidance_scale": 1.0, "eta": 0.0, "negative_prompt": "x"}
    assert config.sampling_settings().pipeline_kwargs == expected


def test_command_line(tmp_path):
    flags = ["--output_dir", str(tmp_path), "--use_cpu", "--num_backprop_steps", "3", "--reward_weights", "1", "0.5"]
    flags += ["--pipeline_kwargs", '{"negative_prompt": "blurry"}', "--checkpointing", "step", "--backprop", "drtune"]
    (config,) = HfArgumentParser(DRaFTVConfig).parse_args_into_dataclasses(flags)
    assert (config.num_backprop_steps, config.backprop, config.checkpointing) == (3, "drtune", "step")
    assert config.reward_weights == [1.0, 0.5]
    assert config.pipeline_kwargs == {"negative_prompt": "blurry"}
    assert config.logging_steps == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_backprop_steps": 0}, "num_backprop_steps must be an integer of at least 1: got 0"),
        ({"num_backprop_steps": True}, "num_backprop_steps must be an integer"),
        ({"backprop": "first"}, "backprop must be one of"),
        ({"backprop": "all", "num_backprop_steps": 2}, "must be None for backprop='all'"),
        ({"backprop": "last", "refl_range": [3, 4]}, "refl_range belongs to"),
        ({"lv_samples": 2, "num_backprop_steps": 3}, "lv_samples needs"),
        ({"checkpointing": "full"}, "checkpointing must be one of"),
        ({"gradient_checkpointing": True}, 'must be False: got True. Set checkpointing="block"'),
        ({"reference_coef": -0.5}, "reference_coef must be at least 0"),
        ({"num_inference_steps": 0}, "num_inference_steps must be at least 1"),
        ({"eta": 1.5}, "eta must be between 0 and 1, or None for the pipeline's default: got 1.5"),
        ({"num_frames": -1}, "num_frames must be at least 1"),
        ({"reward_num_frames": 0}, "reward_num_frames must be at least 1"),
        ({"remove_unused_columns": True}, "remove_unused_columns must be False"),
        ({"pipeline_kwargs": {"height": 64}}, r"must not hold \['height'\]"),
        ({"pipeline_kwargs": {"generator": None}}, r"must not hold \['generator'\]"),
        ({"pipeline_kwargs": "height"}, "pipeline_kwargs must be a dict or a JSON object"),
    ],
)
def test_wrong_settings(tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        DRaFTVConfig(output_dir=str(tmp_path), use_cpu=True, **overrides)
