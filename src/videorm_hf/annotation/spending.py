"""What calls cost: foreseen before they are sent, counted once they are answered."""

from videorm_hf.annotation.journal import Record
from videorm_hf.annotation.options import AnnotationOptions

_CHARACTERS_PER_TOKEN = 4


class Spending:
    """Tokens and money of a journal, those of earlier runs among them.

    Args:
        options ([`AnnotationOptions`]): Prices, and what is assumed until the server has counted.
    """

    def __init__(self, options: AnnotationOptions) -> None:
        self.options = options
        self.input_tokens = 0
        self.output_tokens = 0
        self.num_counted = 0
        self.num_uncounted = 0
        self.num_in_flight = 0
        self._counted_input = 0

    def count(self, record: Record, expected_input: float) -> None:
        """Add an answered call; one whose server counts no tokens is taken at what was foreseen.

        Args:
            record (`dict`): Its record.
            expected_input (`float`): What [`Spending.expected_input`] said.
        """
        usage = record.get("usage") or {}
        if usage.get("input_tokens") is None:
            self.num_uncounted += 1
            self.input_tokens += round(expected_input)
            self.output_tokens += len(record.get("reply") or "") // _CHARACTERS_PER_TOKEN
            return
        self.num_counted += 1
        self._counted_input += usage["input_tokens"]
        self.input_tokens += usage["input_tokens"]
        self.output_tokens += usage.get("output_tokens") or 0

    def expected_input(self, num_characters: int, num_images: int) -> float:
        """Return a request's likely tokens: as those so far, or by rule of thumb for the first ones."""
        if self.num_counted:
            return self._counted_input / self.num_counted
        return num_characters / _CHARACTERS_PER_TOKEN + num_images * self.options.tokens_per_image

    @property
    def cost(self) -> float:
        """What all answered calls cost."""
        return self.options.cost(self.input_tokens, self.output_tokens)

    def allows(self, expected_input: float) -> bool:
        """Tell whether one more call, with the longest reply, and all that are under way stay within `max_cost`.

        Until one call is answered what they cost is a guess, and they are sent one by one.
        """
        if self.options.max_cost is None:
            return True
        if self.num_in_flight and not self.num_counted + self.num_uncounted:
            return False
        one = self.options.cost(expected_input, self.options.max_tokens)
        return self.cost + (self.num_in_flight + 1) * one <= self.options.max_cost
