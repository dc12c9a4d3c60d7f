"""The rules of the table, held against what the pipelines make."""

import pytest
import torch
from diffusers import WanPipeline

from draftv_trainer.pipelines import PipelineSpec, check_sizes, find_spec
from draftv_trainer.pipelines.specs import SPECS
from draftv_trainer.sampling import sample
from tests.draftv.factories import generators, tiny_wan
from tests.draftv.pipeline_factories import PIPELINES, tiny_pipeline
from tests.draftv.pipelines.test_sampling_pipelines import arguments

FRAME_RULES = {"wan": "4k+1", "cogvideox": "8k or 8k+1", "ltx": "8k+1", "hunyuanvideo": "4k+1"}
FRAME_RULES |= {"hunyuanvideo15": "4k+1", "mochi": "6k+1"}
SIZE_RULES = {"modelscope": 8, "animatediff": 8, "wan": 16, "cogvideox": 16, "ltx": 32, "hunyuanvideo": 16}
SIZE_RULES |= {"hunyuanvideo15": 16, "mochi": 16, "stable_diffusion": 8}


def makes(pipe, name, **sizes):
    """Whether the pipeline makes what it is asked for."""
    try:
        sample(pipe, ["a dog"], **{**arguments(name), "generator": generators(1), "num_inference_steps": 2, **sizes})
    except (ValueError, RuntimeError):
        return False
    return True


def allowed(pipe, **sizes):
    try:
        check_sizes(find_spec(pipe), pipe, sizes)
    except ValueError:
        return False
    return True


def test_every_row_is_tested():
    assert {type(tiny_pipeline(name)).__name__ for name in [*SIZE_RULES, "latte"]} == set(SPECS)
    assert set(PIPELINES) - set(SIZE_RULES) == {"latte"}


def test_latte_is_asked_for_frames_as_all_others_are():
    pipe = tiny_pipeline("latte")
    own = {**arguments("latte"), "generator": generators(1), "num_inference_steps": 2}
    length = own.pop("video_length")
    frames = sample(pipe, ["a dog"], **own, num_frames=length)
    assert frames.shape[1] == length
    assert torch.equal(frames, sample(pipe, ["a dog"], **{**own, "generator": generators(1)}, video_length=length))


@pytest.mark.parametrize("name", FRAME_RULES)
def test_the_frame_rule_is_what_the_pipeline_can_make(name):
    pipe = tiny_pipeline(name)
    made = [number for number in range(5, 14) if makes(pipe, name, num_frames=number)]
    assert made == [number for number in range(5, 14) if allowed(pipe, num_frames=number)]
    with pytest.raises(ValueError) as error:
        check_sizes(find_spec(pipe), pipe, {"num_frames": 11})
    assert str(error.value).startswith(f"num_frames must be {FRAME_RULES[name]} for {find_spec(pipe).title}, got 11: ")


@pytest.mark.parametrize("name", SIZE_RULES)
def test_the_size_rule_is_what_the_pipeline_can_make(name):
    pipe, step = tiny_pipeline(name), SIZE_RULES[name]
    sizes = [step // 2, step, step + step // 2, 2 * step]
    for side in ("height", "width"):
        assert [size for size in sizes if allowed(pipe, **{side: size})] == [step, 2 * step]
        assert [size for size in sizes if makes(pipe, name, **{side: size})] == [step, 2 * step]
        with pytest.raises(ValueError, match=f"{side} must be a multiple of {step} for .*, got {step // 2}"):
            check_sizes(find_spec(pipe), pipe, {side: step // 2})


def test_modelscope_makes_any_number_of_frames():
    pipe = tiny_pipeline("modelscope")
    assert all(makes(pipe, "modelscope", num_frames=number) for number in (1, 2, 3, 5))


def test_the_longest_clip_of_animatediff():
    pipe = tiny_pipeline("animatediff")
    assert makes(pipe, "animatediff", num_frames=32)
    assert not makes(pipe, "animatediff", num_frames=33)
    with pytest.raises(ValueError, match="num_frames must be at most 32 for this AnimateDiff, got 33"):
        check_sizes(find_spec(pipe), pipe, {"num_frames": 33})


@pytest.mark.parametrize("argument", ["num_frames", "video_length"])
def test_latte_makes_only_the_length_of_its_denoiser_and_single_frames(argument):
    pipe = tiny_pipeline("latte")
    assert [number for number in range(1, 7) if allowed(pipe, **{argument: number})] == [1, 4]
    with pytest.raises(ValueError, match=r"num_frames must be 1 or 4 for this Latte, got 7: take 4\."):
        check_sizes(find_spec(pipe), pipe, {argument: 7})


def test_the_lengths_of_latte_are_those_that_it_makes():
    pipe = tiny_pipeline("latte")
    assert [number for number in range(1, 7) if makes(pipe, "latte", video_length=number)] == [1, 4]


def test_the_default_length_is_checked_where_the_checkpoint_has_another():
    pipe = tiny_pipeline("latte")
    with pytest.raises(ValueError, match=r"got none, which means 16: take 4\."):
        check_sizes(find_spec(pipe), pipe, {})


def test_the_message_says_what_to_take():
    pipe = tiny_wan()
    with pytest.raises(ValueError, match=r"num_frames must be 4k\+1 for Wan, got 16: take 13 or 17\."):
        check_sizes(find_spec(pipe), pipe, {"num_frames": 16})


def test_a_class_that_extends_a_row_has_its_rules_and_others_have_none():
    class MyWan(WanPipeline):
        pass

    class Unknown:
        pass

    pipe = tiny_wan()
    pipe.__class__ = MyWan
    assert find_spec(pipe) is SPECS["WanPipeline"]
    assert find_spec(Unknown()) == PipelineSpec("Unknown")
    check_sizes(PipelineSpec("Unknown"), pipe, {"num_frames": 16, "height": 7})
