"""An exponential moving average of the LoRA while it trains, kept by diffusers' own `EMAModel`.

Source: as in diffusers' training scripts, the average is what is evaluated and published; the raw weights only train.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class LoraAverage(TrainerCallback):
    """Follow the LoRA by a moving average, and put it in the LoRA's place when training ends.

    Args:
        parameters (`list[torch.nn.Parameter]`):
            The LoRA's weights.
        decay (`float`):
            The average keeps this share of itself at each step, less in the first steps.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.average = EMAModel(self.parameters, decay=decay)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the average towards the new weights.

        Args:
            args (`TrainingArguments`):
                Not used, as all that follow.
            state (`TrainerState`):
                Not used.
            control (`TrainerControl`):
                Not used.
            kwargs:
                Not used.
        """
        self.average.step(self.parameters)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the average in the pipeline.

        Args:
            args (`TrainingArguments`):
                Not used, as all that follow.
            state (`TrainerState`):
                Not used.
            control (`TrainerControl`):
                Not used.
            kwargs:
                Not used.
        """
        self.average.copy_to(self.parameters)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average in the LoRA's place within the context; the raw weights return to the bit."""
        self.average.store(self.parameters)
        self.average.copy_to(self.parameters)
        try:
            yield
        finally:
            self.average.restore(self.parameters)

    def restart(self) -> None:
        """Forget the past: the average becomes the LoRA's present weights."""
        self.average = EMAModel(self.parameters, decay=self.decay)

    def state_dict(self) -> dict[str, Any]:
        """Return what an exact resumption needs.

        Returns:
            `dict[str, Any]`: the raw weights, which the saved LoRA file does not hold, and the average's state.
        """
        return {"weights": [parameter.detach() for parameter in self.parameters], "average": self.average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore raw weights and average.

        Args:
            state (`dict[str, Any]`):
                What [`~LoraAverage.state_dict`] returned.
        """
        with torch.no_grad():
            for parameter, weight in zip(self.parameters, state["weights"], strict=True):
                parameter.copy_(weight)
        self.average.load_state_dict(state["average"])
        self.average.to(self.parameters[0].device)
        self.average.decay = self.decay
