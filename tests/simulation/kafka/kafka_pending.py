"""An answer that a broker gives later, as those to JoinGroup and SyncGroup."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Pending(Generic[T]):
    """One answer: a value or an error. `then` calls as soon as it is there, and at once if it is there already."""

    __slots__ = ("_callbacks", "done", "error", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: T | None = None
        self.error: Exception | None = None
        self._callbacks: list[Callable[[Pending[T]], None]] = []

    def then(self, callback: Callable[[Pending[T]], None]) -> None:
        if self.done:
            callback(self)
        else:
            self._callbacks.append(callback)

    def set_value(self, value: T) -> None:
        self._settle(value, None)

    def set_error(self, error: Exception) -> None:
        self._settle(None, error)

    def result(self) -> T:
        """Returns the value or raises the error of an answer that is there."""
        assert self.done
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # T itself may be None

    def _settle(self, value: T | None, error: Exception | None) -> None:
        if self.done:
            return
        self.done, self.value, self.error = True, value, error
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)
