"""The pool and the draw: ranges kept, weights heeded, the same candidates for the same seed and item."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from videorm_hf.videoprefer.model_pool import ModelPool, PoolModel, draw_candidates, read_pool

POOL = """
num_candidates: 3
models:
  - name: wan
    pipeline: models/wan
    weight: 2
    guidance_scale: [3, 7.5]
    sizes: [[16, 16], [32, 16]]
    num_inference_steps: [2, 4]
    num_frames: 5
    call: {max_sequence_length: 8}
  - {name: a, pipeline: a, guidance_scale: [6, 9], sizes: [[16, 16]], num_inference_steps: [2], num_frames: 4, fps: 4}
  - {name: b, pipeline: b, guidance_scale: [1, 1], sizes: [[16, 16]], num_inference_steps: [2], num_frames: 4}
"""


def model(name: str, **changes: Any) -> PoolModel:
    fields: dict[str, Any] = {"guidance_scale": (1.0, 9.0), "sizes": ((16, 16),), "num_inference_steps": (2,)}
    return PoolModel(name=name, pipeline=name, **{**fields, "num_frames": 4, **changes})


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pool.yaml"
    path.write_text(text)
    return path


def test_a_pool_is_read(tmp_path: Path) -> None:
    pool = read_pool(write(tmp_path, POOL))
    assert (pool.num_candidates, pool.repeat_models) == (3, False)
    assert pool.models[0] == PoolModel(
        name="wan",
        pipeline="models/wan",
        weight=2,
        guidance_scale=(3.0, 7.5),
        sizes=((16, 16), (32, 16)),
        num_inference_steps=(2, 4),
        num_frames=5,
        call={"max_sequence_length": 8},
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_candidates: 3", "num_candidates: 4", "3 models cannot give 4 candidates"),
        ("num_candidates: 3", "candidates: 3", "not a pool of models.*candidates"),
        ("name: b", "name: a", "different names"),
        ("fps: 4", "speed: 4", "not a pool of models.*speed"),
        ("[6, 9]", "[9, 6]", "a: guidance_scale must be two bounds in order"),
        ("[6, 9]", "6", "not a pool of models"),
        ("[[16, 16], [32, 16]]", "[[15, 16]]", "wan: sizes must be even"),
        ("[2, 4]", "[]", "num_inference_steps, num_frames and fps must be at least 1"),
        ("weight: 2", "weight: 0", "weight must be above 0"),
        ("weight: 2", "dtype: float8", "dtype must be one of"),
        ("models:", "models: [", "is not YAML"),
        ("models:", "pool:", "not a pool of models: the pool has an unknown pool and has no models. It takes models,"),
        (
            "[6, 9]",
            "[6, 9], sizs: 1",
            "not a pool of models: model 2 has an unknown sizs. It takes name, pipeline, gui",
        ),
        (
            "guidance_scale: [6, 9]",
            "guidance: [6, 9]",
            "model 2 has an unknown guidance and has no guidance_scale. It",
        ),
        (POOL, "", "pool.yaml is empty: expected a pool"),
        (POOL, "- a", r"not a pool of models: the pool must be settings with their names, got \['a'\]"),
        (POOL, "models: [a]", "not a pool of models: model 1 must be settings with their names, got 'a'"),
        (POOL, "models:", "not a pool of models"),
    ],
)
def test_a_faulty_pool_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in POOL
    with pytest.raises(ValueError, match=message):
        read_pool(write(tmp_path, POOL.replace(old, new, 1)))


def test_the_draw_depends_on_seed_and_item_alone() -> None:
    pool = ModelPool(tuple(model(name) for name in "abcde"))
    assert draw_candidates("i", False, pool, 0) == draw_candidates("i", False, pool, 0)
    assert draw_candidates("i", False, pool, 0) != draw_candidates("i", False, pool, 1)
    assert draw_candidates("i", False, pool, 0) != draw_candidates("j", False, pool, 0)


def test_what_is_drawn_lies_in_the_ranges() -> None:
    models = (
        model("a", guidance_scale=(2.0, 3.0), sizes=((16, 32), (32, 16)), num_inference_steps=(3, 5)),
        model("b", guidance_scale=(7.0, 7.0)),
        model("c"),
        model("d"),
    )
    plans = [plan for item in range(200) for plan in draw_candidates(str(item), False, ModelPool(models), 0)]
    of_a = [plan for plan in plans if plan.model is models[0]]
    assert all(2 <= plan.guidance_scale <= 3 for plan in of_a) and len({plan.guidance_scale for plan in of_a}) > 50
    assert {(plan.height, plan.width) for plan in of_a} == {(16, 32), (32, 16)}
    assert {plan.num_inference_steps for plan in of_a} == {3, 5}
    assert {plan.guidance_scale for plan in plans if plan.model is models[1]} == {7.0}
    assert len({plan.seed for plan in plans}) == len(plans) == 800


def test_models_differ_unless_they_may_repeat() -> None:
    pool = ModelPool(tuple(model(name) for name in "abcd"))
    for item in range(50):
        names = [plan.model.name for plan in draw_candidates(str(item), False, pool, 0) if plan.model]
        assert sorted(names) == list("abcd")
    alone = ModelPool((model("a"),), repeat_models=True)
    assert len(draw_candidates("i", False, alone, 0)) == 4


def test_weights_are_heeded() -> None:
    pool = ModelPool((model("a", weight=3), model("b", weight=1)), num_candidates=2, repeat_models=True)
    plans = [plan for item in range(1000) for plan in draw_candidates(str(item), False, pool, 0)]
    counts = Counter(plan.model.name for plan in plans if plan.model)
    assert counts["a"] / 2000 == pytest.approx(0.75, abs=0.03)


def test_a_real_clip_takes_one_place_anywhere() -> None:
    pool = ModelPool(tuple(model(name) for name in "abcd"))
    places = Counter()
    for item in range(200):
        plans = draw_candidates(str(item), True, pool, 0)
        [real] = [plan for plan in plans if plan.model is None]
        places[real.candidate_id] += 1
        assert [plan.candidate_id for plan in plans] == ["0", "1", "2", "3"]
    assert min(places[str(place)] for place in range(4)) > 25
