"""RateLimit: calls or tokens a minute, spread evenly."""

import time


class RateLimit:
    """Hands out moments at which so much may be sent that no minute exceeds the limit by more than one call.

    Args:
        per_minute (`float`, *optional*): The limit; none by default.
    """

    def __init__(self, per_minute: float | None = None) -> None:
        self.seconds_each = 0.0 if per_minute is None else 60.0 / per_minute
        self.free_at = 0.0

    def reserve(self, amount: float = 1.0) -> float:
        """Take the next moment.

        Args:
            amount (`float`, defaults to 1.0): Calls or tokens that will be sent.

        Returns:
            `float`: seconds to wait until then.
        """
        now = time.monotonic()
        start = max(now, self.free_at)
        self.free_at = start + amount * self.seconds_each
        return start - now

    def correct(self, amount: float) -> None:
        """Add to what was reserved, or with a negative amount give back, once the true amount is known."""
        self.free_at += amount * self.seconds_each
