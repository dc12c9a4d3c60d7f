"""PromptCache: what a text encoder or tokenizer makes of each prompt, computed once."""

from collections.abc import Callable

import torch

# Embeddings of this many prompts are kept: 40 MB for a ViT-H/14 text tower.
MAX_CACHED_PROMPTS = 10_000


class PromptCache:
    """Keep one tensor a prompt, the earliest dropped first where there are too many.

    Example:

    ```python
    >>> import torch
    >>> from videorm_hf.rewards.prompt_cache import PromptCache

    >>> cache = PromptCache()
    >>> lengths = lambda prompts: torch.tensor([len(prompt) for prompt in prompts])
    >>> cache.look_up(["a cat", "a corgi", "a cat"], lengths, "cpu")
    tensor([5, 7, 5])
    ```
    """

    def __init__(self) -> None:
        self._values: dict[str, torch.Tensor] = {}

    def look_up(
        self,
        prompts: list[str],
        encode: Callable[[list[str]], torch.Tensor],
        device: torch.device | str,
    ) -> torch.Tensor:
        """Return one row a prompt; `encode` sees those prompts only that were not seen before, each once.

        Args:
            prompts (`list[str]`):
                Prompts, which may repeat.
            encode (`Callable`):
                `(prompts) -> tensor`, a row for each; called without gradients.
            device (`torch.device` or `str`):
                Where the result goes.

        Returns:
            `torch.Tensor` of shape `(len(prompts), ...)`.
        """
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._values]
        if new:
            with torch.no_grad():
                self._values.update(zip(new, encode(new), strict=True))
        # A new tensor: those kept may come from a caller's inference mode, and autograd would refuse them.
        rows = torch.stack([self._values[prompt].to(device) for prompt in prompts])
        while len(self._values) > MAX_CACHED_PROMPTS:
            self._values.pop(next(iter(self._values)))
        return rows
