"""The trainer: the reward rises, only the LoRA moves, runs resume bit by bit, and errors come at the first step."""

import itertools
import os

import pytest
import torch
from datasets import Dataset
from diffusers import WanPipeline
from peft import LoraConfig
from transformers import TrainerCallback

from draftv_trainer import DRaFTVTrainer
from draftv_trainer.lora import LORA_WEIGHTS_NAME
from draftv_trainer.model_card import CARD_NAME, FACTS_NAME
from tests.draftv.factories import (
    PROMPTS,
    all_weights,
    euler_flow_scheduler,
    infer,
    lora_weights,
    motion,
    redness,
    tiny_args,
    tiny_wan,
)
from tests.processes import run_in_two_processes
from videorm_hf.rewards import VideoRMReward

DATA = [*PROMPTS, "a green bird jumps"]


def trainer(tmp_path, reward_funcs=redness, train_dataset=DATA, pipe=None, scheduler=None, peft=None, **overrides):
    return DRaFTVTrainer(
        model=pipe if pipe is not None else tiny_wan(scheduler),
        reward_funcs=reward_funcs,
        args=tiny_args(tmp_path, **overrides),
        train_dataset=train_dataset,
        eval_dataset=DATA,
        peft_config=peft,
    )


class DisturbRandomState(TrainerCallback):
    """Draw from the global random state before each step, as a dataset or a reward might."""

    def on_step_begin(self, args, state, control, **kwargs):
        torch.rand(7)


def logged(run, name):
    return [entry[name] for entry in run.state.log_history if name in entry]


def assert_equal_weights(got, expected):
    assert got.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(got[name], expected[name])] == []


def test_the_reward_rises(tmp_path):
    run = trainer(tmp_path, max_steps=20, learning_rate=3e-2, per_device_train_batch_size=3)
    before = run.evaluate()["eval_reward"]
    assert run.evaluate()["eval_reward"] == before
    run.train()
    after = run.evaluate()["eval_reward"]
    curve = logged(run, "reward")
    assert len(curve) == 20
    assert after > 1.25 * before > 0
    assert sum(curve[-5:]) > 1.25 * sum(curve[:5])
    assert logged(run, "rewards/redness") == curve
    assert logged(run, "loss") == pytest.approx([-value for value in curve], abs=1e-6)


@pytest.mark.parametrize("scheduler", [None, euler_flow_scheduler()])
def test_only_the_lora_moves_and_all_of_it(tmp_path, scheduler):
    run = trainer(tmp_path, scheduler=scheduler)
    before = all_weights(run.pipe)
    run.train()
    moved = {name for name, weight in all_weights(run.pipe).items() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if ".lora_" in name}
    assert len(moved) == 32


@pytest.mark.skipif(torch.accelerator.is_available(), reason="pins memory, as it should")
def test_a_cpu_is_not_warned_of_pinned_memory(tmp_path, recwarn):
    trainer(tmp_path, use_cpu=False, max_steps=1).train()
    assert [each for each in recwarn if "pin_memory" in str(each.message)] == []


def test_saved_lora_gives_a_fresh_pipeline_identical_frames(tmp_path):
    run = trainer(tmp_path, peft=LoraConfig(r=2, lora_alpha=6, target_modules=["to_q", "to_v"]), save_strategy="steps")
    run.train()
    run.save_model(str(tmp_path / "final"))
    assert sorted(os.listdir(tmp_path / "final")) == sorted([LORA_WEIGHTS_NAME, CARD_NAME, FACTS_NAME])
    fresh = tiny_wan()
    untuned = infer(fresh)
    fresh.load_lora_weights(str(tmp_path / "final"))
    assert torch.equal(infer(fresh), infer(run.pipe))
    assert not torch.equal(infer(fresh), untuned)
    from_checkpoint = tiny_wan()
    from_checkpoint.load_lora_weights(str(tmp_path / "checkpoint-3"))
    assert torch.equal(infer(from_checkpoint), infer(run.pipe))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, accumulation):
    settings = {"max_steps": 4, "save_steps": 2, "save_strategy": "steps", "per_device_train_batch_size": 1}
    settings["gradient_accumulation_steps"] = accumulation
    whole = trainer(tmp_path, **settings)
    whole.train()
    resumed = trainer(tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.state.global_step == 4
    assert_equal_weights(lora_weights(resumed.pipe), lora_weights(whole.pipe))
    assert logged(resumed, "reward") == logged(whole, "reward")


def test_an_incomplete_checkpoint_is_an_error(tmp_path):
    run = trainer(tmp_path, max_steps=2, save_steps=1, save_strategy="steps")
    run.train()
    (tmp_path / "checkpoint-1" / "trainer_state.json").unlink()
    with pytest.raises(ValueError, match="not a complete checkpoint"):
        trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_noise_is_made_of_facts_not_of_hidden_state(tmp_path):
    one = trainer(tmp_path, max_steps=2)
    one.train()
    other = trainer(tmp_path, max_steps=2)
    other.add_callback(DisturbRandomState())
    other.train()
    assert_equal_weights(lora_weights(other.pipe), lora_weights(one.pipe))


def test_a_run_that_was_interrupted_in_the_midst_of_a_step_can_begin_again(tmp_path):
    calls = itertools.count()

    def interrupted_once(frames, prompts):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return redness(frames, prompts)

    settings = {"max_steps": 2, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}
    run = trainer(tmp_path, interrupted_once, **settings)
    with pytest.raises(KeyboardInterrupt):
        run.train()
    run.train()
    whole = trainer(tmp_path, **settings)
    whole.train()
    assert_equal_weights(lora_weights(run.pipe), lora_weights(whole.pipe))


def test_a_global_batch_divided_over_micro_steps_gives_the_same_gradients(tmp_path):
    settings = {"max_steps": 1, "optim": "sgd", "train_dataset": [*DATA, "a circle falls"], "max_grad_norm": 0.0}
    settings["learning_rate"] = 100.0
    whole = trainer(tmp_path, per_device_train_batch_size=4, **settings)
    start = lora_weights(whole.pipe)
    whole.train()
    divided = trainer(tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=4, **settings)
    divided.train()
    expected, got = lora_weights(whole.pipe), lora_weights(divided.pipe)
    step = torch.cat([(expected[name] - start[name]).flatten() for name in start])
    difference = torch.cat([(expected[name] - got[name]).flatten() for name in start])
    assert step.abs().max() > 1e-2
    assert difference.abs().max() < 1e-4 * step.abs().max()
    assert logged(divided, "reward") == pytest.approx(logged(whole, "reward"), abs=1e-6)


def test_checkpointing_gives_equal_gradients(tmp_path):
    plain = trainer(tmp_path, max_steps=2, checkpointing="none")
    plain.train()
    checkpointed = trainer(tmp_path, max_steps=2, checkpointing="nested")
    checkpointed.train()
    assert checkpointed.pipe.transformer.is_gradient_checkpointing
    assert_equal_weights(lora_weights(checkpointed.pipe), lora_weights(plain.pipe))


def test_weights_mix_several_rewards_each_logged_by_name(tmp_path):
    run = trainer(tmp_path, [redness, motion, motion], reward_weights=[2.0, -0.5, 0.0], max_steps=2)
    run.train()
    red, move, unweighted = (logged(run, f"rewards/{name}") for name in ("redness", "motion", "motion_2"))
    assert move == unweighted
    assert logged(run, "reward") == pytest.approx([2 * r - 0.5 * m for r, m in zip(red, move, strict=True)], abs=1e-6)
    assert {"eval_reward", "eval_rewards/redness", "eval_rewards/motion"} <= run.evaluate().keys()


def test_other_columns_and_the_chosen_frames_reach_the_reward(tmp_path):
    data = Dataset.from_dict({"prompt": DATA, "wish": [1.0, 2.0, 3.0], "source": ["x", "y", "z"]})
    seen = []

    def wished(frames, prompts, wish):
        seen.extend(zip(prompts, wish, strict=True))
        assert frames.shape[1:] == (3, 3, 16, 16)
        return redness(frames, prompts) * torch.tensor(wish)

    trainer(tmp_path, wished, data, reward_num_frames=3, num_train_epochs=1, max_steps=-1).train()
    assert sorted(seen) == sorted(zip(DATA, [1.0, 2.0, 3.0], strict=True))


def test_a_path_and_a_videorm_folder(tmp_path, videorm_folder):
    tiny_wan().save_pretrained(tmp_path / "pipe")
    run = trainer(tmp_path, str(videorm_folder), pipe=str(tmp_path / "pipe"), max_steps=2)
    assert isinstance(run.pipe, WanPipeline)
    run.train()
    assert len(logged(run, "rewards/videorm")) == 2
    assert all(-1.0 <= value <= 1.0 for value in logged(run, "reward"))
    assert any(grad > 0 for grad in logged(run, "grad_norm"))


def test_bfloat16_denoiser_trains_a_float32_lora(tmp_path):
    pipe = tiny_wan()
    pipe.transformer.to(torch.bfloat16)
    run = trainer(tmp_path, pipe=pipe)
    before = all_weights(run.pipe)
    run.train()
    moved = {name for name, weight in all_weights(run.pipe).items() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if ".lora_" in name}
    assert {weight.dtype for weight in lora_weights(pipe).values()} == {torch.float32}


def test_mixed_precision_gives_nearly_the_same_gradients(tmp_path):
    settings = {"max_steps": 1, "optim": "sgd", "learning_rate": 100.0, "max_grad_norm": 0.0}
    steps = []
    for bf16 in (False, True):
        run = trainer(tmp_path, bf16=bf16, **settings)
        start = lora_weights(run.pipe)
        run.train()
        end = lora_weights(run.pipe)
        assert {weight.dtype for weight in end.values()} == {torch.float32}
        steps.append(torch.cat([(end[name] - start[name]).flatten() for name in start]))
    assert not torch.equal(*steps)
    assert torch.nn.functional.cosine_similarity(*steps, dim=0) > 0.99


def test_gradients_turned_off_by_another_library_do_no_harm(tmp_path):
    expected = trainer(tmp_path, max_steps=2)
    expected.train()
    run = trainer(tmp_path, max_steps=2)
    with torch.set_grad_enabled(False):
        run.train()
        assert not torch.is_grad_enabled()
    assert_equal_weights(lora_weights(run.pipe), lora_weights(expected.pipe))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"reward_funcs": []}, ValueError, "at least one reward"),
        ({"reward_weights": [1.0, 1.0]}, ValueError, "got 2 for 1"),
        ({"train_dataset": []}, ValueError, "at least one string"),
        ({"train_dataset": ["a", 1]}, TypeError, "got int at index 1"),
        ({"train_dataset": "a dog"}, TypeError, "train_dataset must be a list of strings or a datasets.Dataset"),
        ({"train_dataset": Dataset.from_dict({"text": ["a"]})}, ValueError, r"column `prompt`: got \['text'\]"),
        ({"train_dataset": Dataset.from_dict({"prompt": [1]})}, TypeError, "must hold strings"),
        ({"pipeline_kwargs": {"fps": 8}}, ValueError, r"WanPipeline does not take \['fps'\]"),
        ({"pipeline_kwargs": {"num_videos_per_prompt": 2}}, ValueError, "num_videos_per_prompt must be 1"),
        ({"model_init_kwargs": {"revision": "main"}}, ValueError, "model_init_kwargs must be None"),
        ({"peft": LoraConfig(target_modules=["query"])}, ValueError, "does not fit WanTransformer3DModel"),
        ({"num_frames": 6}, ValueError, r"num_frames must be 4k\+1 for Wan, got 6"),
        ({"width": 24}, ValueError, "width must be a multiple of 16 for Wan, got 24"),
        ({"reward_num_frames": 6}, ValueError, "reward_num_frames must be at most the number of frames: got 6 of 5"),
        (
            {"num_backprop_steps": 4},
            ValueError,
            "at most the number of sampling steps: got 4, but the scheduler takes",
        ),
    ],
)
def test_errors_before_training(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        trainer(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reward_funcs": lambda frames, prompts: frames.mean()}, "one value per video"),
        ({"reward_funcs": lambda frames, prompts: frames.detach().mean((1, 2, 3, 4))}, "cannot be differentiated"),
        ({"reward_funcs": lambda frames, prompts: redness(frames, prompts) / 0}, "must return finite values"),
    ],
)
def test_errors_at_the_first_step(tmp_path, arguments, message):
    run = trainer(tmp_path, **arguments)
    before = lora_weights(run.pipe)
    with pytest.raises(ValueError, match=message):
        run.train()
    assert run.state.global_step == 0
    assert torch.is_grad_enabled()
    assert_equal_weights(lora_weights(run.pipe), before)


def test_inference_mode_is_an_error_at_the_first_step(tmp_path):
    run = trainer(tmp_path)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="inference_mode"):
        run.train()
    assert run.state.global_step == 0


def test_a_checkpoint_of_another_pipeline_is_an_error(tmp_path):
    settings = {"max_steps": 1, "save_steps": 1, "save_strategy": "steps"}
    trainer(tmp_path, **settings).train()
    other = tiny_wan()
    del other.transformer.blocks[1]
    with pytest.raises(ValueError, match="belongs to another pipeline.*blocks.1.*expected None"):
        trainer(tmp_path, pipe=other, **settings).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_the_progress_bar_shows_the_reward(tmp_path, capsys):
    run = trainer(tmp_path, max_steps=2, disable_tqdm=False)
    run.train()
    assert f"reward={logged(run, 'reward')[-1]:.4g}" in capsys.readouterr().err


def test_model_of_another_kind_is_an_error(tmp_path):
    with pytest.raises(TypeError, match="model must be a diffusers pipeline or a path to one: got Linear"):
        trainer(tmp_path, pipe=torch.nn.Linear(2, 2))


TWO_PROCESSES = """
import json, sys
from pathlib import Path
from draftv_trainer import DRaFTVTrainer
from tests.draftv.factories import lora_weights, redness, tiny_args, tiny_wan
args = tiny_args(sys.argv[1], max_steps=2, per_device_train_batch_size=1, optim="sgd", learning_rate=100.0,
                 max_grad_norm=0.0)
data = ["a red dog runs", "a blue cat", "a green bird jumps", "a circle falls"]
run = DRaFTVTrainer(model=tiny_wan(), reward_funcs=redness, args=args, train_dataset=data)
run.train()
weights = {name: weight.flatten().tolist() for name, weight in lora_weights(run.pipe).items()}
rewards = [entry["reward"] for entry in run.state.log_history if "reward" in entry]
facts = {"world_size": args.world_size, "weights": weights, "rewards": rewards}
Path(sys.argv[1], f"rank{args.process_index}.json").write_text(json.dumps(facts))
"""


@pytest.mark.slow
def test_two_processes_end_alike_and_equal_one_with_the_same_global_batch(tmp_path):
    first, second = run_in_two_processes(TWO_PROCESSES, tmp_path)
    assert first["world_size"] == 2
    assert first["weights"] == second["weights"]
    one = trainer(
        tmp_path,
        train_dataset=[*DATA, "a circle falls"],
        max_steps=2,
        optim="sgd",
        learning_rate=100.0,
        max_grad_norm=0.0,
    )
    start = lora_weights(one.pipe)
    one.train()
    for name, weight in lora_weights(one.pipe).items():
        difference = (weight.flatten() - torch.tensor(first["weights"][name])).abs().max()
        assert difference < 1e-6 * 100.0, name
        assert not torch.equal(weight, start[name])
    assert first["rewards"] == pytest.approx(logged(one, "reward"), abs=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_frames": 6},
        {"num_backprop_steps": 4},
        {"reward_num_frames": 6},
        {"reward_weights": [1.0, 2.0]},
        {"train_dataset": ["a cat", None]},
        {"pipeline_kwargs": {"sharpness": 1}},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_what_is_refused_leaves_the_pipeline_as_it_was(tmp_path, arguments):
    pipe = tiny_wan()
    before = set(all_weights(pipe))
    with pytest.raises((ValueError, TypeError)):
        trainer(tmp_path, pipe=pipe, **arguments)
    assert set(all_weights(pipe)) == before
    trainer(tmp_path, pipe=pipe)  # the corrected call


def test_an_optimizer_of_ones_own(tmp_path):
    run = DRaFTVTrainer(
        *(tiny_wan(), redness, tiny_args(tmp_path, max_steps=1)),
        train_dataset=DATA,
        optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 0.5}),
    )
    before = lora_weights(run.pipe)
    run.train()
    assert isinstance(run.optimizer.optimizer, torch.optim.SGD)
    assert any(not torch.equal(weight, before[name]) for name, weight in lora_weights(run.pipe).items())


def test_other_prompts_are_evaluated_in_the_constructors_forms(tmp_path):
    run = trainer(tmp_path)
    alone = run.evaluate(["a blue cat"])["eval_reward"]
    assert run.predict(Dataset.from_dict({"prompt": ["a blue cat"]})).metrics["test_reward"] == alone
    with pytest.raises(TypeError, match="must be a list of strings"):
        run.evaluate([3])


def test_a_videorm_that_reads_more_frames_than_eight_gets_them(tmp_path, videorm_folder):
    reward = VideoRMReward.from_pretrained(videorm_folder, num_frames=12)
    assert trainer(tmp_path, reward, num_frames=13).model.settings.reward_num_frames == 12
    assert trainer(tmp_path, reward, num_frames=9).model.settings.reward_num_frames == 9
    assert trainer(tmp_path, reward, num_frames=13, reward_num_frames=5).model.settings.reward_num_frames == 5
    assert trainer(tmp_path, str(videorm_folder), num_frames=13).model.settings.reward_num_frames is None
