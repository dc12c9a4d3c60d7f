"""Features computed once: the same training, what makes them stale, and what interruption leaves."""

import json
import os

import numpy as np
import pytest
import torch
from peft import LoraConfig

from tests.trainer.factories import (
    preference_rows,
    rated_items,
    small_folder,
    small_model,
    small_trainer,
    weights,
)
from tests.video_factory import cut, numbered_frames, write_video
from videorm_hf.trainer import VideoRewardConfig
from videorm_hf.trainer.feature_cache import FeatureCache, video_key


def encoded_clips(trainer):
    """Count the clips that pass the image tower from now on."""
    counts = []
    trainer.reward_model.vision_model.register_forward_pre_hook(lambda module, inputs: counts.append(len(inputs[0])))
    return counts


@pytest.mark.parametrize("overrides", [{}, {"temporal_shift": "block", "temporal_head": "lstm"}])
def test_a_whole_training_is_the_same_to_a_millionth(tmp_path, overrides):
    data = {"v": rated_items(4), "h": preference_rows(4)}
    settings = {
        "dataset_proportions": {"v": 0.5, "h": 0.5},
        "eval_dataset": rated_items(2, seed=40),
        "max_steps": 12,
        "learning_rate": 1e-4,
        "use_margin": True,
    }
    plain = small_trainer(tmp_path / "plain", data, model=small_model(**overrides), **settings)
    cached = small_trainer(tmp_path / "cached", data, model=small_model(**overrides), cache_features=True, **settings)
    before = weights(plain)
    plain.train()
    counts = encoded_clips(cached)
    cached.train()
    assert counts == []
    losses = [[entry["loss"] for entry in run.state.log_history if "loss" in entry] for run in (plain, cached)]
    assert len(losses[0]) == 12 and losses[0] == pytest.approx(losses[1], abs=1e-6)
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(cached)[name], value, atol=1e-6, rtol=0)
    assert max((weights(plain)[name] - before[name]).abs().max() for name in before) > 3e-4
    evaluations = [run.evaluate() for run in (plain, cached)]
    for name in ("eval_loss", "eval_margin", "eval_reward_chosen", "eval_accuracy"):
        assert evaluations[0][name] == pytest.approx(evaluations[1][name], abs=1e-6)


def test_a_second_run_computes_nothing_and_new_videos_are_added(tmp_path):
    cache = str(tmp_path / "features")
    first = small_trainer(tmp_path / "a", rated_items(2), cache_features=True, feature_cache_dir=cache)
    assert (tmp_path / "features" / "frames-00000.f32").stat().st_size == 8 * 4 * 32 * 4
    before = {path.name: path.read_bytes() for path in (tmp_path / "features").iterdir()}
    second = small_trainer(tmp_path / "b", rated_items(2), cache_features=True, feature_cache_dir=cache)
    assert {path.name: path.read_bytes() for path in (tmp_path / "features").iterdir()} == before
    row = [trainer.train_dataset[0].frame_embeds[1] for trainer in (first, second)]
    assert torch.equal(*row)
    more = rated_items(2) + rated_items(1, seed=70)
    small_trainer(tmp_path / "c", more, cache_features=True, feature_cache_dir=cache)
    assert (tmp_path / "features" / "frames-00000.f32").stat().st_size == 12 * 4 * 32 * 4


def change(kind):
    if kind == "weights":
        return {"model": small_model(seed=1)}
    if kind == "temporal_shift":
        return {"model": small_model(temporal_shift="none")}
    if kind == "frame_times":
        return {"num_frames": 3}
    return {"bf16": True}


@pytest.mark.parametrize("kind", ["weights", "temporal_shift", "frame_times", "mixed_precision"])
def test_a_stale_cache_is_refused_with_its_reason(tmp_path, kind):
    cache = {"cache_features": True, "feature_cache_dir": str(tmp_path / "features")}
    small_trainer(tmp_path / "a", rated_items(1), **cache)
    with pytest.raises(ValueError, match=f"stale: they were computed with other .*{kind}.*feature_cache_dir"):
        small_trainer(tmp_path / "b", rated_items(1), **cache, **change(kind))


def test_other_preprocessing_is_stale_but_another_head_is_not(tmp_path):
    cache = {"cache_features": True, "feature_cache_dir": str(tmp_path / "features")}
    small_trainer(tmp_path / "a", rated_items(1), **cache)
    other = small_model(temporal_head="conv1d")
    towers = {name: value for name, value in small_model().state_dict().items() if "temporal_head" not in name}
    other.load_state_dict(towers, strict=False)
    small_trainer(tmp_path / "b", rated_items(1), model=other, **cache)
    trainer = small_trainer(tmp_path / "c", rated_items(1))
    processor = trainer.processing_class
    processor.video_processor.image_mean = [0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match="stale.*preprocessing"):
        small_trainer(tmp_path / "d", rated_items(1), processing_class=processor, **cache)


def test_a_file_that_changed_is_another_video(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, numbered_frames(5), codec="mpeg4")
    key = video_key(str(path))
    assert video_key(path) == key == video_key({"path": str(path), "bytes": None})
    os.utime(path, ns=(1, 1))
    assert video_key(path) != key
    assert video_key(b"abc") == video_key({"bytes": b"abc", "path": "x"}) != video_key(b"abd")
    assert video_key(np.zeros((2, 4, 4, 3))) != video_key(np.zeros((4, 2, 4, 3)))
    with pytest.raises(TypeError, match="got a list"):
        video_key([])


def test_what_an_interruption_leaves_half_written_is_computed_again(tmp_path):
    cache = {"cache_features": True, "feature_cache_dir": str(tmp_path / "features")}
    whole = small_trainer(tmp_path / "a", rated_items(2), **cache)
    expected = [group.frame_embeds for group in whole.train_dataset]
    folder = tmp_path / "features"
    numbers, index = folder / "frames-00000.f32", folder / "frames-00000.jsonl"
    os.truncate(numbers, 5 * 4 * 32 * 4 + 100)  # five rows and a bit
    index.write_text("\n".join(index.read_text().split("\n")[:6]) + '\n"cut sho')
    again = small_trainer(tmp_path / "b", rated_items(2), **cache)
    assert numbers.stat().st_size == 8 * 4 * 32 * 4
    assert len([json.loads(line) for line in index.read_text().splitlines()]) == 8
    for group, embeds in zip(again.train_dataset, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(group.frame_embeds, embeds, strict=True))


def test_a_row_that_another_process_left_half_written_is_not_read(tmp_path):
    cache = FeatureCache(tmp_path, {}, (4, 8))
    cache.prompts.append(1, ["a"], torch.ones(1, 8))
    with open(tmp_path / "prompts-00001.f32", "ab") as file:
        file.write(b"half a row")
    cache.prompts.refresh()
    assert cache.prompts.get("a").tolist() == [1.0] * 8


def test_two_runs_do_not_write_one_cache_at_once(tmp_path):
    cache = FeatureCache(tmp_path, {}, (4, 8))
    with cache.lock(0), pytest.raises(ValueError, match="Another run is computing features"):
        FeatureCache(tmp_path, {}, (4, 8)).lock(0)


def test_features_that_are_not_finite_are_refused(tmp_path):
    cache = FeatureCache(tmp_path, {}, (4, 8))
    with pytest.raises(ValueError, match="finite.*1 numbers not finite"):
        cache.prompts.append(0, ["a"], torch.tensor([[torch.nan] + [0.0] * 7]))


def test_an_unreadable_clip_is_left_out_as_without_a_cache(tmp_path):
    write_video(tmp_path / "good.mp4", numbered_frames(20))
    data = rated_items(3)
    data[1]["candidates"][2]["video"] = str(cut(tmp_path / "good.mp4", tmp_path / "bad.mp4", 0.6))
    runs = [
        small_trainer(tmp_path / name, data, cache_features=name == "cached", learning_rate=1e-4, max_steps=6)
        for name in ("plain", "cached")
    ]
    for run in runs:
        run.train()
        assert run.bad_clips == {"item-0-1/c2": "truncated"}
    for name, value in weights(runs[0]).items():
        torch.testing.assert_close(weights(runs[1])[name], value, atol=1e-6, rtol=0)


def test_workers_read_the_cache(tmp_path):
    cache = {"cache_features": True, "feature_cache_dir": str(tmp_path / "features")}
    here = small_trainer(tmp_path / "a", rated_items(3), **cache)
    there = small_trainer(tmp_path / "b", rated_items(3), dataloader_num_workers=1, **cache)
    here.train()
    there.train()
    assert all(torch.equal(value, weights(there)[name]) for name, value in weights(here).items())


@pytest.mark.parametrize(
    "settings",
    [
        {"trainable": "all"},
        {"trainable": "temporal+last_n_blocks", "num_trainable_blocks": 1},
        {"frame_sampling": "random"},
    ],
)
def test_towers_that_change_cannot_be_cached(tmp_path, settings):
    with pytest.raises(ValueError, match="features that stay the same"):
        VideoRewardConfig(str(tmp_path), cache_features=True, **settings)


def test_an_adapter_cannot_be_cached(tmp_path):
    base = small_folder(tmp_path / "base")
    with pytest.raises(ValueError, match="needs frozen towers: got a peft_config"):
        small_trainer(tmp_path, model=base, cache_features=True, peft_config=LoraConfig(target_modules=["q_proj"]))


def test_other_settings_of_a_tower_without_weights_of_their_own_are_stale(tmp_path):
    cache = {"cache_features": True, "feature_cache_dir": str(tmp_path / "features")}
    small_trainer(tmp_path / "a", rated_items(1), **cache)
    other = small_model()
    other.config.vision_config.hidden_act = "gelu"
    with pytest.raises(ValueError, match="stale: they were computed with other towers"):
        small_trainer(tmp_path / "b", rated_items(1), model=other, **cache)


def test_features_are_computed_in_the_precision_of_the_run(tmp_path):
    half, full = (
        small_trainer(tmp_path / name, rated_items(1), cache_features=True, bf16=name == "half")
        for name in ("half", "full")
    )
    found = [trainer.train_dataset[0].frame_embeds[0] for trainer in (half, full)]
    assert not torch.equal(*found)
    torch.testing.assert_close(*found, atol=0.1, rtol=0.1)
    assert not (tmp_path / "half" / "features").exists() and (tmp_path / "half" / "_features").is_dir()
