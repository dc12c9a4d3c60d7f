"""Facts about the preference losses and their metrics."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videorm_hf.trainer.losses import pair_metrics, pair_sums, preference_loss

REWARD = st.floats(-5, 5)


def loss_of(chosen, rejected, **settings):
    return preference_loss(torch.tensor([chosen]), torch.tensor([rejected]), **settings).item()


def test_equal_rewards_cost_log_two():
    assert loss_of(0.3, 0.3) == pytest.approx(math.log(2))
    assert loss_of(0.3, 0.3, scale=100.0) == pytest.approx(math.log(2))


def test_values_by_hand():
    assert loss_of(1.0, 0.0) == pytest.approx(-math.log(1 / (1 + math.exp(-1))))
    assert loss_of(0.02, 0.01, scale=100.0) == pytest.approx(-math.log(1 / (1 + math.exp(-1))), rel=1e-5)
    assert loss_of(1.0, 0.0, margin=torch.tensor([1.0])) == pytest.approx(math.log(2))
    assert loss_of(1.0, 0.0, margin=torch.tensor([3.0])) == pytest.approx(-math.log(1 / (1 + math.exp(2))))


@given(REWARD, REWARD)
def test_swapping_the_videos_turns_the_gradient_round(a, b):
    def gradient(chosen, rejected):
        difference = torch.tensor([chosen - rejected], requires_grad=True, dtype=torch.float64)
        preference_loss(difference, torch.zeros_like(difference)).sum().backward()
        return difference.grad.item()

    # The two orders' probabilities add up to one.
    assert gradient(a, b) + gradient(b, a) == pytest.approx(-1.0)
    chosen = torch.tensor([a], requires_grad=True)
    rejected = torch.tensor([b], requires_grad=True)
    preference_loss(chosen, rejected).sum().backward()
    assert chosen.grad.item() == pytest.approx(-rejected.grad.item())


def test_the_gradient_is_the_probability_of_being_wrong_times_the_scale():
    chosen = torch.tensor([0.2, -0.1], requires_grad=True)
    rejected = torch.tensor([0.1, 0.3])
    preference_loss(chosen, rejected, scale=10.0).sum().backward()
    wrong = 1 / (1 + torch.exp(10 * (chosen.detach() - rejected)))
    torch.testing.assert_close(chosen.grad, -10 * wrong)


@given(REWARD, REWARD, st.floats(1.01, 50))
def test_rao_and_kuppers_three_outcomes_are_all_there_are(a, b, theta):
    settings = {"ties": "rao_kupper", "tie_theta": theta}
    first, second = (torch.tensor([value], dtype=torch.float64) for value in (a, b))
    tie, decided = torch.tensor([True]), torch.tensor([False])
    outcomes = [
        preference_loss(first, second, is_tie=decided, **settings),
        preference_loss(second, first, is_tie=decided, **settings),
        preference_loss(first, second, is_tie=tie, **settings),
    ]
    assert sum(torch.exp(-outcome).item() for outcome in outcomes) == pytest.approx(1.0)


def test_equal_videos_tie_as_often_as_theta_says():
    loss = loss_of(0.4, 0.4, is_tie=torch.tensor([True]), ties="rao_kupper", tie_theta=2.0)
    assert math.exp(-loss) == pytest.approx(1 / 3)


@pytest.mark.parametrize("ties", ["soft", "rao_kupper"])
def test_a_tie_is_cheapest_at_equal_rewards_and_pulls_them_together(ties):
    def tied(difference):
        return loss_of(difference, 0.0, is_tie=torch.tensor([True]), ties=ties)

    assert tied(0.0) < tied(0.5) < tied(1.0)
    assert tied(1.0) == pytest.approx(tied(-1.0))
    if ties == "soft":
        assert tied(0.0) == pytest.approx(math.log(2))


def test_a_tie_has_no_margin():
    kwargs = {"is_tie": torch.tensor([True]), "ties": "soft"}
    assert loss_of(0.0, 0.0, margin=torch.tensor([5.0]), **kwargs) == pytest.approx(math.log(2))


@pytest.mark.parametrize("settings", [{"ties": "halve"}, {"ties": "rao_kupper", "tie_theta": 1.0}])
def test_impossible_settings_are_errors(settings):
    with pytest.raises(ValueError, match="must be"):
        loss_of(0.0, 0.0, **settings)


def test_metrics_by_hand():
    chosen, rejected = torch.tensor([1.0, 0.0, 0.5, 9.0]), torch.tensor([0.0, 1.0, 0.5, 0.0])
    is_tie = torch.tensor([False, False, False, True])
    sums = pair_sums(chosen, rejected, torch.tensor([1.0, 2.0, 3.0, 6.0]), is_tie)
    metrics = pair_metrics(sums)
    assert metrics["num_pairs"] == 4 and metrics["loss"] == 3.0
    assert metrics["accuracy"] == 0.5  # one right, one wrong, one half; the tie has no winner
    assert metrics["margin"] == 0.0
    assert metrics["reward_chosen"] == pytest.approx(chosen.mean().item())
    assert metrics["reward_chosen_std"] == pytest.approx(chosen.std(correction=0).item())
    assert metrics["reward_rejected_std"] == pytest.approx(rejected.std(correction=0).item())


def test_sums_of_batches_add_up():
    torch.manual_seed(0)
    chosen, rejected, losses = torch.randn(3, 7)
    is_tie = torch.rand(7) < 0.3
    whole = pair_sums(chosen, rejected, losses, is_tie)
    parts = [
        pair_sums(chosen[part], rejected[part], losses[part], is_tie[part]) for part in (slice(3), slice(3, None))
    ]
    torch.testing.assert_close(whole, sum(parts))


def test_no_pair_gives_no_number():
    none = torch.zeros(0)
    assert pair_metrics(pair_sums(none, none, none, none.bool())) == {"num_pairs": 0.0}
