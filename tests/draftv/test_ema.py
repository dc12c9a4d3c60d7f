"""The moving average of the LoRA: what it is, and that it is what is evaluated, saved and left in the pipeline."""

import pytest
import torch
from transformers import TrainerCallback

from draftv_trainer.draftv_trainer import DRaFTVTrainer
from draftv_trainer.ema import LoraAverage
from tests.draftv.factories import infer, lora_weights, redness, tiny_args, tiny_wan

DATA = ["a red dog runs", "a blue cat", "a green bird jumps"]


class Record(TrainerCallback):
    """Keep the raw weights after each step."""

    def __init__(self):
        self.weights = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.weights.append(lora_weights(model.pipe))


def trainer(tmp_path, **overrides):
    settings = {"max_steps": 4, "learning_rate": 0.05, "ema_decay": 0.9}
    args = tiny_args(tmp_path, **{**settings, **overrides})
    return DRaFTVTrainer(tiny_wan(), redness, args, train_dataset=DATA, eval_dataset=DATA)


def trained(tmp_path, **overrides):
    run, record = trainer(tmp_path, **overrides), Record()
    run.add_callback(record)
    run.train()
    return run, record.weights


def differ(got, expected):
    return [name for name in expected if not torch.equal(got[name], expected[name])]


def test_the_average_follows_its_formula_and_is_left_in_the_pipeline(tmp_path):
    run, raw = trained(tmp_path)
    for name, weight in lora_weights(run.pipe).items():
        # Step n keeps at most n / (9 + n) of the average: the first step takes the weights as they are.
        average = raw[0][name]
        for step, weights in enumerate(raw[1:], start=2):
            kept = min(0.9, step / (9 + step))
            average = kept * average + (1 - kept) * weights[name]
        torch.testing.assert_close(weight, average)
    assert differ(lora_weights(run.pipe), raw[-1])


def test_training_does_not_feel_the_average(tmp_path):
    _, raw = trained(tmp_path)
    _, plain = trained(tmp_path, ema_decay=None)
    assert [differ(got, expected) for got, expected in zip(raw, plain, strict=True)] == [[]] * 4


def test_the_average_is_what_is_saved_and_evaluated(tmp_path):
    run, _ = trained(tmp_path, save_strategy="steps", save_steps=4, eval_strategy="steps", eval_steps=4)
    during = [entry["eval_reward"] for entry in run.state.log_history if "eval_reward" in entry]
    assert during == [run.evaluate()["eval_reward"]]
    run.save_model(str(tmp_path / "final"))
    for folder in ("final", "checkpoint-4"):
        fresh = tiny_wan()
        fresh.load_lora_weights(str(tmp_path / folder))
        assert torch.equal(infer(fresh), infer(run.pipe))


def test_raw_weights_return_to_the_bit_even_after_an_error():
    weights = [torch.nn.Parameter(torch.rand(3)), torch.nn.Parameter(torch.rand(2, 2))]
    average = LoraAverage(weights, 0.5)
    with torch.no_grad():
        weights[0].add_(1.0)
    before = [weight.detach().clone() for weight in weights]
    with pytest.raises(KeyboardInterrupt), average.applied():
        assert not torch.equal(weights[0], before[0])
        raise KeyboardInterrupt
    assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))


@pytest.mark.parametrize("ema_decay", [0.0, 1.0, -0.5, float("nan")])
def test_wrong_decay(tmp_path, ema_decay):
    with pytest.raises(ValueError, match="ema_decay must be between 0 and 1"):
        trainer(tmp_path, ema_decay=ema_decay)


def test_the_best_checkpoint_is_kept_at_the_end(tmp_path):
    settings = {"save_strategy": "steps", "eval_strategy": "steps", "save_steps": 1, "eval_steps": 1}
    run, _ = trained(
        tmp_path, load_best_model_at_end=True, metric_for_best_model="loss", greater_is_better=True, **settings
    )
    assert run.state.best_model_checkpoint == str(tmp_path / "checkpoint-1")
    fresh = tiny_wan()
    fresh.load_lora_weights(run.state.best_model_checkpoint)
    assert torch.equal(infer(fresh), infer(run.pipe))
