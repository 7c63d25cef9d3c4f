"""Bounds the requests of each client by a token bucket. Time is an argument."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MAX_CLIENTS: Final = 10_000  # whose buckets are kept; of 100 bytes each


class Buckets:
    """A bucket for each client, with `burst` tokens at first and `rate_per_s` more every second, up to `burst`."""

    def __init__(self, rate_per_s: float, burst: float, most: int = MAX_CLIENTS) -> None:
        if rate_per_s <= 0 or burst < 1:
            raise ValueError(f"a rate above 0 and a burst of at least 1 are expected, got {rate_per_s} and {burst}")
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._most = most
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when that was

    def take(self, client: str, now_s: float) -> float:
        """Takes a token of this client, and returns 0. If there is none, takes nothing, and returns in how many seconds
        there will be one."""
        tokens, then_s = self._clients.pop(client, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - then_s) * self._rate_per_s)
        wait_s = 0.0
        if tokens >= 1:
            tokens -= 1
        else:
            wait_s = (1 - tokens) / self._rate_per_s
        self._clients[client] = tokens, now_s  # the last in order: who asks seldom is forgotten first
        if len(self._clients) > self._most:
            self._clients.popitem(last=False)
        return wait_s

    def __len__(self) -> int:
        return len(self._clients)
