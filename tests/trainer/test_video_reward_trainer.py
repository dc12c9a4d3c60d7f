"""The trainer: what moves, equal gradients however rows are laid out, logs, evaluation, saving."""

import json
import math

import pytest
import torch
import transformers
from datasets import Dataset, DatasetDict
from packaging.version import Version
from peft import LoraConfig
from transformers import AutoModel, AutoProcessor

from tests.trainer.factories import (
    changed,
    coloured_clip,
    preference_rows,
    rated_items,
    small_args,
    small_folder,
    small_model,
    small_processor,
    small_trainer,
    weights,
)
from videorm_hf.rewards import VideoRMReward, load_reward
from videorm_hf.trainer import VideoRewardTrainer
from videorm_hf.videoprefer.items import Candidate, Item
from videorm_hf.videoprefer.pairs import make_preference_pairs


def trained_names(trainer):
    return {name for name, parameter in trainer.reward_model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("settings", "prefixes"),
    [
        ({}, ("temporal_head.",)),
        ({"train_logit_scale": True}, ("temporal_head.", "logit_scale")),
        (
            {"trainable": "temporal+last_n_blocks", "num_trainable_blocks": 1},
            ("temporal_head.", "vision_model.encoder.layers.1.", "vision_model.post_layernorm."),
        ),
        ({"trainable": "all"}, ("",)),
    ],
)
def test_all_that_trains_moves_and_nothing_else(tmp_path, settings, prefixes):
    trainer = small_trainer(tmp_path, rated_items(4), **settings)
    names = trained_names(trainer)
    expected = {n for n, _ in trainer.reward_model.named_parameters() if n.startswith(prefixes)}
    assert names == expected - (set() if "train_logit_scale" in settings else {"logit_scale"})
    before = weights(trainer)
    trainer.train()
    # Keys' biases have no effect on attention, and a class token's last patch tokens none on the reward.
    assert names - changed(before, weights(trainer)) == set()
    assert changed(before, weights(trainer)) <= names


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.23"), reason="older releases load an adapter without the head"
)
def test_lora_and_the_head_move_and_the_saved_adapter_loads(tmp_path):
    base = small_folder(tmp_path / "base")
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    trainer = small_trainer(tmp_path / "run", model=base, processing_class=None, peft_config=lora)
    names = trained_names(trainer)
    assert any("vision_model" in name and "lora_" in name for name in names)
    assert any("temporal_head" in name for name in names)
    before = weights(trainer)
    trainer.train()
    assert changed(before, weights(trainer)) == names
    trainer.save_model()
    inputs = small_processor()(text=["a red square"], videos=[coloured_clip("red", 0)])
    loaded = AutoModel.from_pretrained(tmp_path / "run").eval()
    trainer.reward_model.eval()
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).rewards, trainer.reward_model(**inputs).rewards)
    reward = load_reward(str(tmp_path / "run"))  # whose folder has no config.json
    assert isinstance(reward, VideoRMReward) and reward.model.config.num_frames == 4


def gradients(trainer, batches):
    """The gradient of one update over the batches, as the training loop makes it."""
    device = torch.device("cpu")
    loader = iter([trainer.data_collator(batch) for batch in batches])
    samples, num_pairs = trainer.get_batch_samples(loader, len(batches), device)
    for batch in samples:
        trainer.training_step(trainer.model, batch, num_pairs)
    found = {n: p.grad.clone() for n, p in trainer.reward_model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    return found


def prepared(tmp_path, data, **settings):
    trainer = small_trainer(tmp_path, data, **settings)
    trainer.create_optimizer()
    return trainer


def pairs_of(row):
    candidates = tuple(
        Candidate(of["candidate_id"], of["video"], model="m", ratings=of["ratings"]) for of in row["candidates"]
    )
    pairs = make_preference_pairs(Item(row["item_id"], row["prompt"], "test", candidates))
    return [vars(pair) for pair in pairs]


@pytest.mark.parametrize("settings", [{}, {"trainable": "all", "use_margin": True}])
def test_an_items_gradient_is_that_of_its_pairs_one_by_one(tmp_path, settings):
    items = rated_items(2) + rated_items(1, seed=5, num_candidates=3)  # six, six and three pairs
    grouped = prepared(tmp_path, items, **settings)
    rows = [pair for item in items for pair in pairs_of(item)]
    one_by_one = prepared(tmp_path, rows, **settings)
    assert len(rows) == 15
    together = gradients(grouped, [list(grouped.train_dataset)[:3]])
    single = gradients(one_by_one, [[one_by_one.train_dataset[i]] for i in range(15)])
    assert together.keys() == single.keys() and together
    for name in together:
        torch.testing.assert_close(together[name], single[name], atol=1e-6, rtol=1e-4)
    assert any(gradient.abs().max() > 1e-3 for gradient in together.values())


def test_an_item_encodes_each_video_and_each_prompt_once(tmp_path):
    trainer = prepared(tmp_path, rated_items(2))
    clips, prompts = [], []
    model = trainer.reward_model
    model.vision_model.register_forward_pre_hook(lambda module, inputs: clips.append(len(inputs[0])))
    model.text_model.register_forward_pre_hook(
        lambda module, inputs, kwargs: prompts.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    loss, outputs = trainer.compute_loss(
        trainer.model, trainer.data_collator([trainer.train_dataset[0], trainer.train_dataset[1]]), return_outputs=True
    )
    assert clips == [8] and prompts == [2] and outputs["rewards"].shape == (12, 2)


def test_a_model_that_scores_row_by_row_gets_the_same_gradient(tmp_path):
    data = rated_items(2)
    fast = prepared(tmp_path, data)
    slow = prepared(tmp_path, data)

    class Plain(type(slow.reward_model).__bases__[0]):
        """The same model behind nothing but its forward."""

        def __init__(self, model):
            super().__init__(model.config)
            self.model = model
            self.logit_scale = model.logit_scale

        def forward(self, pixel_values_videos, input_ids, attention_mask):
            assert len(pixel_values_videos) == len(input_ids) == len(attention_mask)
            return self.model(pixel_values_videos, input_ids, attention_mask)

    slow.model.reward_model = Plain(slow.reward_model)
    both = [gradients(trainer, [list(trainer.train_dataset)[:2]]) for trainer in (fast, slow)]
    assert both[0].keys() == both[1].keys()
    for name in both[0]:
        torch.testing.assert_close(both[0][name], both[1][name], atol=1e-6, rtol=1e-4)


def test_accumulated_batches_count_pairs_not_batches(tmp_path):
    items = rated_items(1) + rated_items(1, seed=3, num_candidates=2)  # six pairs and one
    trainer = prepared(tmp_path, items)
    rows = list(trainer.train_dataset)[:2]
    whole, parts = gradients(trainer, [rows]), gradients(trainer, [rows[:1], rows[1:]])
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], atol=1e-6, rtol=1e-4)


def test_the_loss_of_a_step_is_the_models_own(tmp_path):
    trainer = prepared(tmp_path, preference_rows(3))
    batch = trainer.data_collator(list(trainer.train_dataset)[:3])
    loss = trainer.compute_loss(trainer.model, batch)
    chosen, rejected = batch["pairs"].T
    order = torch.cat([chosen, rejected])
    expected = trainer.reward_model(
        batch["pixel_values_videos"][order],
        *(batch[name][batch["prompt_index"][order]] for name in ("input_ids", "attention_mask")),
        return_loss=True,
    ).loss
    torch.testing.assert_close(loss, expected)


def test_a_model_learns_colours_and_keeps_its_best_checkpoint(tmp_path):
    trainer = small_trainer(
        tmp_path,
        rated_items(6),
        model=small_model(open_gate=False),
        eval_dataset=rated_items(3, seed=50),
        trainable="all",
        max_steps=12,
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=4,
        save_steps=4,
        load_best_model_at_end=True,
        save_total_limit=1,
        learning_rate=2e-3,
    )
    trainer.train()
    log = trainer.state.log_history
    evaluations = {entry["step"]: entry["eval_accuracy"] for entry in log if "eval_accuracy" in entry}
    assert trainer.args.metric_for_best_model == "eval_accuracy"
    assert trainer.state.best_metric == max(evaluations.values()) > 0.7
    assert trainer.evaluate()["eval_accuracy"] == trainer.state.best_metric
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert losses[-1] < 0.7 * losses[0]


def test_logs_have_accuracy_margin_and_rewards(tmp_path):
    trainer = small_trainer(
        tmp_path, preference_rows(8), logging_steps=2, max_steps=4, eval_dataset=preference_rows(3)
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    names = {"accuracy", "margin", "num_pairs", "bad_clips", "reward_chosen", "reward_chosen_std"}
    assert len(logged) == 2 and all(entry.keys() >= names for entry in logged)
    assert logged[0]["num_pairs"] == 4  # two steps of two rows
    metrics = trainer.evaluate()
    assert metrics["eval_num_pairs"] == 3
    assert {f"eval_{name}" for name in (*names - {"bad_clips"}, "loss")} <= metrics.keys()


def test_a_step_without_a_usable_pair_gives_no_number(tmp_path):
    rows = preference_rows(2)
    rows[0]["rejected"] = rows[0]["chosen"].copy()
    trainer = small_trainer(tmp_path, rows, per_device_train_batch_size=1, max_steps=2)
    output = trainer.train()
    logged = [entry for entry in trainer.state.log_history if "num_pairs" in entry]
    assert sorted(entry["num_pairs"] for entry in logged) == [0, 1]
    (loss,) = [entry["loss"] for entry in logged if "loss" in entry]
    assert output.training_loss == loss > 0
    nothing = small_trainer(tmp_path, rows[:1], max_steps=1)
    with pytest.raises(ValueError, match="No pair could be used, so that nothing was trained"):
        nothing.train()


def test_evaluation_by_hand(tmp_path):
    items = rated_items(2) + rated_items(1, seed=9, num_candidates=2)
    trainer = small_trainer(tmp_path, eval_dataset=items, per_device_eval_batch_size=2)
    metrics = trainer.evaluate()
    reward = VideoRMReward(trainer.reward_model, small_processor())
    right, losses = [], []
    scale = trainer.reward_model.logit_scale.exp().item()
    for pair in [pair for item in items for pair in pairs_of(item)]:
        clips = [torch.from_numpy(pair[name]).permute(0, 3, 1, 2)[None] / 255 for name in ("chosen", "rejected")]
        chosen, rejected = (reward(clip, [pair["prompt"]]).item() for clip in clips)
        right.append(chosen > rejected)
        losses.append(math.log1p(math.exp(-scale * (chosen - rejected))))
    assert metrics["eval_num_pairs"] == len(right) == 13
    assert metrics["eval_accuracy"] == pytest.approx(sum(right) / 13)
    assert metrics["eval_loss"] == pytest.approx(sum(losses) / 13, rel=1e-2)  # files are resized as integers


def test_ties_are_kept_by_the_losses_that_know_them(tmp_path):
    rows = preference_rows(2)
    rows[0]["margin"] = 0.0
    assert len(small_trainer(tmp_path, rows).train_dataset) == 1
    kept = small_trainer(tmp_path, rows, ties="rao_kupper", eval_dataset=rows)
    assert len(kept.train_dataset) == 2
    kept.train()
    metrics = kept.evaluate()
    assert metrics["eval_num_pairs"] == 2 and metrics["eval_accuracy"] in (0.0, 1.0)  # of the one with a winner


def test_a_margin_makes_the_loss_larger(tmp_path):
    rows = preference_rows(2)
    plain, margin = (prepared(tmp_path, rows, use_margin=use) for use in (False, True))
    batch = list(plain.train_dataset)[:2]
    losses = [trainer.compute_loss(trainer.model, trainer.data_collator(batch)).item() for trainer in (plain, margin)]
    assert losses[0] < losses[1]


def test_several_evaluation_sets_are_evaluated_one_by_one(tmp_path):
    trainer = small_trainer(tmp_path, eval_dataset={"a": preference_rows(2), "b": rated_items(1)})
    metrics = trainer.evaluate()
    assert metrics["eval_a_num_pairs"] == 2 and metrics["eval_b_num_pairs"] == 6


def test_sets_of_both_views_are_mixed_in_proportion_and_the_card_says_so(tmp_path):
    sets = {"videoprefer": rated_items(3), "human": preference_rows(5)}
    trainer = small_trainer(
        tmp_path,
        sets,
        dataset_proportions={"videoprefer": 0.75, "human": 0.25},
        per_device_train_batch_size=1,
        max_steps=-1,
        num_train_epochs=1,
    )
    trainer.train()
    pairs = [entry["num_pairs"] for entry in trainer.state.log_history if "num_pairs" in entry]
    assert sorted(pairs) == [1.0] * 2 + [6.0] * 6
    trainer.save_model()
    facts = json.loads((tmp_path / "videorm_training.json").read_text())
    assert facts["sets"]["videoprefer"] == {"view": "ratings", "rows": 3, "pairs": 18, "ties": 0, "share": 0.75}
    assert "| human | preference | 5 | 5 | 0 | 0.25 |" in (tmp_path / "README.md").read_text()


def test_the_saved_folder_loads_and_scores_as_the_trained_model(tmp_path):
    trainer = small_trainer(tmp_path, model=small_folder(tmp_path / "base"), processing_class=None, num_frames=3)
    trainer.train()
    trainer.save_model()
    model, processor = AutoModel.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    assert changed(weights(trainer), model.state_dict()) == set()
    assert model.config.num_frames == 3 and processor.video_processor.num_frames == 3
    reward = VideoRMReward.from_pretrained(tmp_path)
    clip = torch.from_numpy(coloured_clip("red", 0)).permute(0, 3, 1, 2)[None] / 255
    trained = VideoRMReward(trainer.reward_model, processor)
    assert reward(clip, ["a red square"]).item() == trained(clip, ["a red square"]).item()


def test_the_card_has_the_runs_facts_and_no_path(tmp_path):
    trainer = small_trainer(tmp_path, eval_dataset=preference_rows(2))
    trainer.train()
    trainer.evaluate()
    trainer.create_model_card(model_name="videorm-tiny", license="apache-2.0", tags="test", dataset="org/prefs")
    card, facts = (tmp_path / "README.md").read_text(), json.loads((tmp_path / "videorm_training.json").read_text())
    assert card.startswith("---\n") and "# videorm-tiny" in card and "license: apache-2.0" in card
    assert "org/prefs" in card and "- videorm" in card and str(tmp_path) not in card + json.dumps(facts)
    assert facts["training"]["steps"] == 3 and facts["training"]["rows_per_step"] == 2
    assert facts["evaluation"]["eval_accuracy"] == trainer.state.log_history[-1]["eval_accuracy"]
    assert facts["trainable_parameters"] == sum(
        p.numel() for p in trainer.reward_model.parameters() if p.requires_grad
    )


def test_a_half_precision_models_head_trains_in_float32(tmp_path):
    model = small_model().bfloat16()
    trainer = small_trainer(tmp_path, model=model, learning_rate=1e-5)
    assert model.temporal_head.gate.dtype == torch.float32
    assert model.vision_model.post_layernorm.weight.dtype == torch.bfloat16
    before = weights(trainer)
    trainer.train()
    assert changed(before, weights(trainer)) == trained_names(trainer)
    with pytest.raises(ValueError, match="needs weights in float32: got torch.bfloat16"):
        small_trainer(tmp_path, model=small_model().bfloat16(), trainable="all")


def test_mixed_precision_trains(tmp_path):
    trainer = small_trainer(tmp_path, bf16=True)
    before = weights(trainer)
    trainer.train()
    assert changed(before, weights(trainer)) == trained_names(trainer)


def test_random_frames_train_and_evaluation_stays_uniform(tmp_path):
    trainer = small_trainer(tmp_path, frame_sampling="random", eval_dataset=preference_rows(2))
    uniform = small_trainer(tmp_path, eval_dataset=preference_rows(2))
    assert trainer.evaluate()["eval_margin"] == uniform.evaluate()["eval_margin"]
    trainer.train()
    uniform.train()
    assert changed(weights(trainer), weights(uniform))


def test_workers_decode_as_the_main_process_does(tmp_path):
    here = small_trainer(tmp_path, frame_sampling="random")
    there = small_trainer(tmp_path, frame_sampling="random", dataloader_num_workers=2)
    here.train()
    there.train()
    assert changed(weights(here), weights(there)) == set()


@pytest.mark.skipif(torch.accelerator.is_available(), reason="pins memory, as it should")
def test_a_cpu_is_not_warned_of_pinned_memory(tmp_path, recwarn):
    small_trainer(tmp_path, use_cpu=False, max_steps=1).train()
    assert [each for each in recwarn if "pin_memory" in str(each.message)] == []


def test_rewards_that_are_not_finite_end_the_run(tmp_path):
    trainer = small_trainer(tmp_path)
    trainer.reward_model.temporal_head.gate.data[0] = torch.nan
    with pytest.raises(ValueError, match="4 of 4 rewards are not finite at step 0"):
        trainer.train()


def test_arguments_that_do_not_fit_are_errors(tmp_path):
    with pytest.raises(ValueError, match="max_frames=8: got 9"):
        small_trainer(tmp_path, num_frames=9)
    with pytest.raises(ValueError, match=r"name the training sets \['a'\]: got \['b'\]"):
        small_trainer(tmp_path, {"a": preference_rows(2)}, dataset_proportions={"b": 1.0})
    with pytest.raises(ValueError, match="at most 2, the tower's depth: got 3"):
        small_trainer(tmp_path, trainable="temporal+last_n_blocks", num_trainable_blocks=3)
    with pytest.raises(ValueError, match="has no parameters to train"):
        small_trainer(tmp_path, model=small_model(open_gate=False, temporal_head="mean"))
    with pytest.raises(ValueError, match="processing_class must be given"):
        VideoRewardTrainer(small_model(), small_args(tmp_path), preference_rows())
    with pytest.raises(ValueError, match="needs a train_dataset"):
        VideoRewardTrainer(small_model(), small_args(tmp_path), processing_class=small_processor()).train()
    with pytest.raises(ValueError, match="read from a folder"):
        small_trainer(tmp_path, peft_config=LoraConfig(target_modules=["q_proj"]))


def test_all_splits_at_once_are_no_training_set(tmp_path):
    rows = Dataset.from_list([{"prompt": "a", "chosen": "a.mp4", "rejected": "b.mp4"}])
    with pytest.raises(ValueError, match=r"one split of a DatasetDict: got all of \['train', 'test'\]"):
        small_trainer(tmp_path, DatasetDict({"train": rows, "test": rows}))


def test_other_data_are_evaluated_in_the_constructors_forms(tmp_path):
    data = rated_items(2, seed=40)
    expected = small_trainer(tmp_path, eval_dataset=data).evaluate()
    trainer = small_trainer(tmp_path, frame_sampling="random")
    names = ("loss", "accuracy", "margin")
    found, predicted = trainer.evaluate(data), trainer.predict(data).metrics
    assert [found[f"eval_{name}"] for name in names] == [expected[f"eval_{name}"] for name in names]
    assert [predicted[f"test_{name}"] for name in names] == [expected[f"eval_{name}"] for name in names]
    with pytest.raises(ValueError, match="all data must be given to the constructor"):
        small_trainer(tmp_path, cache_features=True).evaluate(data)


def test_a_row_without_a_video_is_a_bad_clip(tmp_path):
    rows = preference_rows(3)
    rows[0]["chosen"] = {"bytes": None, "path": None}
    trainer = small_trainer(tmp_path, rows, max_bad_clips=1)
    trainer.train()
    assert list(trainer.bad_clips.values()) == ["missing"]


@pytest.mark.parametrize("settings", [{"label_smoothing_factor": 0.1}, {"batch_eval_metrics": True}])
def test_settings_that_mean_nothing_here_are_errors(tmp_path, settings):
    with pytest.raises(ValueError, match="is not for preferences"):
        small_args(tmp_path, **settings)
