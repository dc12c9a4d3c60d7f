"""Every study runs at a tiny size on the shipped weights, goes on where it was, and its parts hold what they claim."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.studies import page, shift_placement
from benchmarks.studies.image_reward import IMAGE, VIDEORM, load_image_reward, load_rewards, load_videorm
from benchmarks.studies.known_pairs import GROUPS, TIME_DOES_NOT, TIME_MATTERS, make_pairs
from benchmarks.studies.registry import STUDIES, load_study
from benchmarks.studies.reward_accuracy import summarise, together
from benchmarks.studies.study import Weights, Work
from benchmarks.studies.tuning import Tuning, Watched, Watcher, tune
from benchmarks.studies.verdicts import CLAIMS, verdict_table
from benchmarks.studies.world import Sampling, held_out_prompts, score_clips, tell_truth, truths_of
from videorm_hf.miniature.scenes import parse_prompt, split_of
from videorm_hf.miniature.shipped import T2V_MINI, VIDEORM_MINI

ROOT = Path(__file__).parents[2]
needs_weights = pytest.mark.skipif(
    not (VIDEORM_MINI.is_dir() and T2V_MINI.is_dir()), reason="the small world's weights are not built: make miniature"
)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """One folder for all, so that studies share what they tune, as they do when they are run."""
    return Work(tmp_path_factory.mktemp("studies"), Weights(VIDEORM_MINI, T2V_MINI))


@needs_weights
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_runs_draws_and_reports(name: str, work: Work) -> None:
    study = load_study(name)
    own = Work(work.folder / name, work.weights)
    results = study.run(study.smoke, own)
    results = json.loads(json.dumps(results, allow_nan=False))  # what a results file holds
    assert results["settings"]
    study.draw(results, own.folder / "figure.png")
    assert (own.folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    text = study.report(results)
    assert "|:-" in text and " nan" not in text
    again = json.loads(json.dumps(study.run(study.smoke, own)))
    assert again == results  # from what is kept, and the same


@needs_weights
@pytest.mark.slow
def test_a_tower_of_real_shape_shows_the_shift_at_its_full_depth(work: Work) -> None:
    settings = shift_placement.Settings(num_clips=8, towers=(shift_placement.SIZE_B32,), folds=2)
    (shifts,) = shift_placement.run(settings, work)["towers"].values()
    assert shifts["none"]["direction"]["value"] == 0.5  # a mean over frames knows no order
    cosine = {shift: found["cosine"] for shift, found in shifts.items()}
    assert cosine["none"] == pytest.approx(1)
    for padding in ("replicate", "zero"):  # a shift inside the residual branch leaves more of the features
        assert cosine[f"block {padding}"] < cosine[f"residual {padding}"] < 1 - 1e-5


def test_the_list_of_studies_is_that_of_the_modules() -> None:
    for name in STUDIES:
        study = load_study(name)
        assert study.name == name and type(study.full) is type(study.smoke) and study.full != study.smoke
    modules = {path.stem for path in (ROOT / "benchmarks" / "studies").glob("*.py") if "STUDY = " in path.read_text()}
    assert modules == set(STUDIES)


def test_the_page_is_what_the_results_say() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.make_page(page.read_results()), (
        "run `python -m benchmarks.studies page`"
    )


@needs_weights
@pytest.mark.parametrize("name", STUDIES)
def test_results_are_of_the_shipped_weights(name: str) -> None:
    assert page.read_results()[name]["weights"] == Weights(VIDEORM_MINI, T2V_MINI).fingerprint, (
        f"run `python -m benchmarks.studies {name}`"
    )


def test_every_claim_is_of_a_study_and_needs_no_other() -> None:
    assert {claim.study for claim in CLAIMS} <= set(STUDIES)
    assert len({claim.text for claim in CLAIMS}) == len(CLAIMS)
    assert "claim" not in verdict_table({})


@needs_weights
def test_the_studies_tune_in_the_way_that_validation_prompts_chose() -> None:
    found = page.read_results()["tuning_choice"]["over_untuned"]
    best = max(found, key=lambda way: found[way]["mean"]["difference"])
    steps = "all steps" if Tuning().backprop == "all" else f"last {Tuning().num_backprop_steps}"
    assert best == f"{Tuning().learning_rate:g}, {steps}"


@pytest.mark.parametrize(
    ("change", "low", "said"), [(0.2, 0.05, "yes"), (0.2, -0.05, "within chance"), (-0.1, -0.3, "**no**")]
)
def test_a_change_counts_as_shown_only_beyond_its_interval(change: float, low: float, said: str) -> None:
    cell = {"difference": change, "difference_interval": [low, 0.35]}
    cells = {"mean": cell, "motion": cell, "video_quality": cell}
    table = verdict_table({"draftv": {"over_untuned": {"DRaFT-V": cells}, "draftv_over": {"DRaFT-H": cells}}})
    rows = [row.split("|") for row in table.splitlines()[2:]]
    assert len(rows) == 4 and all(row[3].strip() == said for row in rows)


@pytest.mark.parametrize(
    ("rise", "guarded", "updates", "said"),
    [(0.2, 0.1, 40, "yes"), (0.2, -0.1, 40, "**no**"), (0.2, 0.1, 80, "**no**"), (-0.2, 0.1, 40, "**no**")],
    ids=["in time", "too late", "never", "nothing hacked"],
)
def test_the_guard_must_stop_and_stop_in_time(rise: float, guarded: float, updates: int, said: str) -> None:
    reward = {"change": [0.0, rise], "interval": [[0.0, 0.0], [rise - 0.1, rise + 0.1]]}
    free = {"step": [0, 40, 80], "mean": {"change": [0.0, 0.3, -0.4]}, "a reward": reward}
    stopped = {"step": [0, updates], "mean": {"change": [0.0, guarded]}, "guard_kept_step": 20}
    table = verdict_table({"hacking": {"curves": {"a reward": {"off": free, "tolerance 0.5": stopped}}}})
    assert table.splitlines()[2].split("|")[3].strip() == said


def test_held_out_prompts_are_of_their_split_and_the_same_every_time() -> None:
    for split in ("train", "test"):
        prompts = held_out_prompts(30, seed=1, two_things=0.5, split=split)
        assert len(set(prompts)) == 30 and prompts[:10] == held_out_prompts(10, seed=1, two_things=0.5, split=split)
        assert {split_of(thing) for prompt in prompts for thing in parse_prompt(prompt).things} == {split}


@pytest.mark.parametrize("fault", [fault for faults in GROUPS.values() for fault in faults])
def test_the_better_clip_of_a_pair_is_the_better_one_by_the_truth(fault: str) -> None:
    pairs = make_pairs(fault, 6, seed=0)
    better, worse = truths_of(pairs.better, pairs.prompts), truths_of(pairs.worse, pairs.prompts)
    assert min(better["mean"]) > 4.9
    assert np.mean(worse["mean"]) < np.mean(better["mean"]) - 0.1
    blamed = "video_quality" if fault in ("flicker", "jitter", "blur", "noise", "shuffled") else "prompt_following"
    assert np.mean(worse[blamed]) < np.mean(better[blamed]) - 0.2


def test_backwards_is_the_same_frames_in_the_other_order() -> None:
    pairs = make_pairs("backwards", 3, seed=0)
    assert np.array_equal(pairs.worse, pairs.better[:, ::-1])
    assert set(TIME_MATTERS).isdisjoint(TIME_DOES_NOT)


def test_the_truth_tells_motion_from_looks() -> None:
    pairs = make_pairs("wrong_direction", 4, seed=0)
    for prompt, good, bad in zip(pairs.prompts, pairs.better, pairs.worse, strict=True):
        assert tell_truth(good, prompt).motion == 1.0 > tell_truth(bad, prompt).motion
        assert tell_truth(bad, prompt).looks == 1.0


@needs_weights
def test_the_image_reward_sees_no_order_and_is_the_mean_over_frames() -> None:
    pairs = make_pairs("backwards", 4, seed=0)
    image, videorm = load_image_reward(VIDEORM_MINI), load_videorm(VIDEORM_MINI)
    forwards = score_clips(image, pairs.better, pairs.prompts)
    assert score_clips(image, pairs.worse, pairs.prompts) == pytest.approx(forwards, abs=1e-5)
    alone = [score_clips(image, pairs.better[:, [frame]], pairs.prompts) for frame in range(8)]
    assert np.mean(alone, axis=0) == pytest.approx(forwards, abs=1e-5)
    assert not np.allclose(score_clips(videorm, pairs.worse, pairs.prompts),
                           score_clips(videorm, pairs.better, pairs.prompts), atol=1e-5)  # fmt: skip
    for name, reward in load_rewards(VIDEORM_MINI).items():
        assert len(score_clips(reward, pairs.better, pairs.prompts)) == 4, name


@needs_weights
def test_the_image_reward_has_videorms_own_towers() -> None:
    model = load_videorm(VIDEORM_MINI).model
    frames = torch.rand(1, 1, 3, 32, 32)
    processor = load_videorm(VIDEORM_MINI).processor
    pixels = processor.video_processor(frames, num_frames=1, input_data_format="channels_first")["pixel_values_videos"]
    text = model.get_text_embeds(**processor(text=["a red ball moves left"]))
    expected = (model.get_frame_embeds(pixels)[:, 0] * text).sum(dim=-1)  # one frame: a shift has nothing to shift
    found = load_image_reward(VIDEORM_MINI)(frames, ["a red ball moves left"])
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)


def test_gains_are_paired_and_prompts_of_different_faults_stay_apart() -> None:
    one = {"prompt": [0, 1, 2, 3], VIDEORM: [1.0, 1.0, 1.0, 0.0], IMAGE: [0.5, 0.5, 0.0, 0.0]}
    summary = summarise(one)
    assert summary["accuracy"][VIDEORM]["value"] == 0.75 and summary["gain"]["value"] == 0.5
    low, high = summary["gain"]["interval"]
    assert low <= 0.5 <= high and (low, high) != (0.5, 0.5)
    both = together([one, one])
    assert len(set(both["prompt"])) == 8 and both[VIDEORM] == 2 * one[VIDEORM]


def test_a_cell_is_computed_once_for_its_settings(tmp_path: Path) -> None:
    work = Work(tmp_path, Weights(tmp_path / "a", tmp_path / "b"))
    counts = []

    def compute() -> dict[str, int]:
        counts.append(1)
        return {"value": len(counts)}

    assert work.cell("cell", {"x": 1}, compute) == work.cell("cell", {"x": 1}, compute) == {"value": 1}
    assert work.cell("cell", {"x": 2}, compute) == {"value": 2}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "model.safetensors").write_bytes(b"other weights")
    assert Work(tmp_path, Weights(tmp_path / "a", tmp_path / "b")).cell("cell", {"x": 1}, compute) == {"value": 3}


@needs_weights
def test_an_interrupted_tuning_goes_on_and_measures_every_step_once(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = Tuning(steps=2, batch_size=1, lora_rank=2, sampling=Sampling(2), num_prompts=2, seed=5)
    watched = Watched(every=1, num_prompts=2)
    own = Work(work.folder / "interrupted", work.weights)
    measure = Watcher._measure

    def interrupt_at_two(self: Watcher, step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt
        measure(self, step)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(Watcher, "_measure", interrupt_at_two)
        with pytest.raises(KeyboardInterrupt):
            tune(tuning, own, watched, save_steps=1)
    folder = tune(tuning, own, watched, save_steps=1)
    curve = json.loads((folder / "curve.json").read_text(encoding="utf-8"))
    assert [row["step"] for row in curve] == [0, 1, 2]
    assert json.loads((folder / "log.json").read_text(encoding="utf-8"))["global_step"] == 2
    assert tune(tuning, own, watched) == folder
    assert tune(dataclasses.replace(tuning, seed=6), own) != folder
