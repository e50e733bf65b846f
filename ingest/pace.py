"""How often somebody may ask: token buckets (contract 2.5), and what they tell a client that wants to pace itself."""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

# Keys whose last request is remembered. The oldest is forgotten first, and then asks one time more than it might.
KEYS_MAX: Final = 200_000
# What floating point may take from a token that is whole.
EPSILON: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Pace:
    """Where somebody stands.

    Attributes:
        allowed: this request passes.
        limit: requests at once, after a silence.
        remaining: requests at once, now.
        reset_s: whole seconds of silence until ``remaining`` is ``limit``.
        retry_s: whole seconds until the next one passes; 0 is now.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_s: int
    retry_s: int


class RateLimiter:
    """One token bucket per key, as many tokens as the rate, at least one. Bounded memory.

    Args:
        per_s: requests a second for who has no rate of its own; 0 lets everything pass.
    """

    def __init__(self, per_s: float, keys_max: int = KEYS_MAX) -> None:
        self.per_s = per_s
        self._keys_max = keys_max
        self._buckets: OrderedDict[object, tuple[float, float]] = OrderedDict()  # tokens, as of

    def allow(self, key: object, now: float, per_s: float | None = None) -> bool:
        """Take one token if there is one.

        Args:
            key: whose bucket.
            now: monotonic seconds.
            per_s: this key's own rate; None for everybody's.
        """
        if per_s is None:
            per_s = self.per_s
        if per_s == 0:
            return True
        burst = max(1.0, per_s)
        tokens, as_of = self._buckets.get(key, (burst, now))
        tokens = min(burst, tokens + (now - as_of) * per_s)
        allowed = tokens >= 1
        self._buckets[key] = (tokens - 1 if allowed else tokens, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._keys_max:
            self._buckets.popitem(last=False)
        return allowed

    def take(self, key: object, now: float, per_s: float | None = None) -> Pace | None:
        """As ``allow``, and where that leaves the key; None where there is no limit."""
        if per_s is None:
            per_s = self.per_s
        if per_s == 0:
            return None
        allowed = self.allow(key, now, per_s)
        burst, (tokens, _) = max(1.0, per_s), self._buckets[key]
        return Pace(
            allowed,
            limit=math.floor(burst),
            remaining=math.floor(tokens),
            reset_s=math.ceil((burst - tokens) / per_s),
            retry_s=0 if tokens >= 1 else _retry_s(tokens, per_s),
        )

    def retry_s(self, key: object, per_s: float | None = None) -> int:
        """Whole seconds until the next one passes, of a key that was refused a moment ago."""
        return _retry_s(self._buckets[key][0], self.per_s if per_s is None else per_s)

    def give_back(self, key: object, per_s: float | None = None) -> None:
        """The last token was not used."""
        if key in self._buckets:
            tokens, as_of = self._buckets[key]
            burst = max(1.0, self.per_s if per_s is None else per_s)
            self._buckets[key] = (min(burst, tokens + 1), as_of)


def _retry_s(tokens: float, per_s: float) -> int:
    return max(1, math.ceil((1 - tokens) / per_s + EPSILON))
