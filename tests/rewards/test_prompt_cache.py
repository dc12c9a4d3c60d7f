"""PromptCache: each prompt encoded once, the earliest forgotten first."""

import pytest
import torch

from videorm_hf.rewards import prompt_cache
from videorm_hf.rewards.prompt_cache import PromptCache


def test_only_new_prompts_are_encoded_and_rows_follow_the_prompts() -> None:
    asked: list[list[str]] = []

    def lengths(prompts: list[str]) -> torch.Tensor:
        asked.append(prompts)
        return torch.tensor([[float(len(prompt))] for prompt in prompts], requires_grad=True) * 2

    cache = PromptCache()
    rows = cache.look_up(["aa", "b", "aa"], lengths, "cpu")
    assert rows.tolist() == [[4.0], [2.0], [4.0]]
    assert cache.look_up(["ccc", "b"], lengths, "cpu").tolist() == [[6.0], [2.0]]
    assert asked == [["aa", "b"], ["ccc"]]
    assert not rows.requires_grad


def test_no_more_than_the_most_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_cache, "MAX_CACHED_PROMPTS", 2)
    asked: list[str] = []

    def lengths(prompts: list[str]) -> torch.Tensor:
        asked.extend(prompts)
        return torch.tensor([len(prompt) for prompt in prompts])

    cache = PromptCache()
    # A batch of more prompts than are kept comes out whole.
    assert cache.look_up(["a", "bb", "ccc"], lengths, "cpu").tolist() == [1, 2, 3]
    cache.look_up(["ccc", "bb"], lengths, "cpu")
    assert asked == ["a", "bb", "ccc"]
    cache.look_up(["a"], lengths, "cpu")
    assert asked == ["a", "bb", "ccc", "a"]


def test_rows_made_in_inference_mode_serve_autograd() -> None:
    cache = PromptCache()
    with torch.inference_mode():
        cache.look_up(["a"], lambda prompts: torch.ones(1, 3) * 2, "cpu")
    weight = torch.ones(3, requires_grad=True)
    (cache.look_up(["a"], lambda prompts: torch.zeros(1, 3), "cpu") * weight).sum().backward()
    assert weight.grad.tolist() == [2.0, 2.0, 2.0]
