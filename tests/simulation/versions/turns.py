"""Runs code that waits, such as `asyncio.run`, in a host of a world, whose loop runs already.

The code has a thread of its own. Either that one runs or the loop, and never both: the loop stands still until the
thread asks for something that takes time, and the thread until it is there. So the same seed gives the same run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, TypeVar

T = TypeVar("T")
CURRENT: Final[ContextVar[Turns]] = ContextVar("turns")


class Released(BaseException):
    """Ends the thread of a host that is dead."""


class Turns:
    """The thread of one host."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[tuple[Coroutine[Any, Any, Any] | None, Any, BaseException | None]] = SimpleQueue()
        self._answered: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._thread: Thread | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """Returns what the work returns. Raises what it raises."""
        CURRENT.set(self)
        self._thread = Thread(target=copy_context().run, args=(self._work, work), daemon=True)
        self._thread.start()
        while True:
            wanted, result, error = self._asked.get()
            if wanted is None:
                self._thread = None
                if error is not None:
                    raise error
                return result  # type: ignore[no-any-return]
            try:
                answer = await wanted, None
            except BaseException as raised:
                if self._thread is None:
                    raise  # the world is over, and the thread was released
                answer = None, raised
            self._answered.put(answer)

    def _work(self, work: Callable[[], Any]) -> None:
        try:
            self._asked.put((None, work(), None))
        except BaseException as error:
            self._asked.put((None, None, error))

    def wait(self, wanted: Coroutine[Any, Any, T]) -> T:
        """Returns what comes of this, which runs in the host's loop meanwhile. Raises what it raises."""
        self._asked.put((wanted, None, None))
        result, error = self._answered.get()
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def release(self) -> None:
        """Ends the thread, if its host has died while it waited; what it holds is let go."""
        while self._thread is not None:
            self._answered.put((None, Released()))
            if self._asked.get()[0] is None:
                self._thread.join()
                self._thread = None


def run(wanted: Coroutine[Any, Any, T]) -> T:
    """Stands for `asyncio.run`."""
    return CURRENT.get().wait(wanted)


class Stop:
    """Stands for the event that tells a process to stop."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, for_s: float) -> bool:
        run(asyncio.sleep(for_s))
        return self._is_set
