"""Runs parts of `pathcast up` for a demo. They are not started again: a demo that fails says so."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from stream.processes.child import how
from stream.up.parts import Part, start

# Without a step: in a fresh clone kernels are compiled, 40 s of CPU, and every few seconds the log says how far.
READY_S: Final = 300.0
MAP_READY_S: Final = 120.0  # it compiles how records are read, in a fresh clone
LOOK_S: Final = 0.1


class PartFailed(RuntimeError):
    """A part ended, or did not answer; `lines` are the last of its log."""

    def __init__(self, message: str, lines: Sequence[str]) -> None:
        self.lines = "\n".join(lines)
        super().__init__(f"{message}; its last words: {lines[-1].strip() if lines else 'it wrote nothing'}")


class RunningPart:
    """A part that runs, and its last lines."""

    def __init__(self, part: Part, env: Mapping[str, str]) -> None:
        """Starts it."""
        self._name = part.kind
        self.lines: deque[str] = deque(maxlen=12)
        self._child = start(part, env, self.lines.append, ready=part.ready)

    def stop(self) -> int:
        return self._child.stop()

    def failed(self, message: str) -> PartFailed:
        return PartFailed(f"the {self._name} {message}", list(self.lines))

    def check(self) -> None:
        """Raises PartFailed if it has ended."""
        if self._child.wait(0) is not None:
            raise self.failed(f"ended with {how(self.stop())}")

    def wait_until_ready(self, show: Callable[[str], None], timeout_s: float) -> None:
        """Raises PartFailed if it ends, or goes no step on for so long."""
        doing, deadline = "", 0.0
        while not self._child.is_ready:
            self.check()
            if (now := starting(self._name, list(self.lines))) != doing:
                doing, deadline = now, time.monotonic() + timeout_s
            if time.monotonic() > deadline:
                raise self.failed(f"was not ready after {timeout_s:.0f} s: {doing}")
            show(doing)
            time.sleep(LOOK_S)


def starting(name: str, lines: Sequence[str]) -> str:
    """Returns the activity of a part that is not ready. In a fresh clone most of it is to compile kernels."""
    compiled = re.findall(r"compiling kernels: .*", "\n".join(lines))
    return f"starting the {name} ({compiled[-1]})" if compiled else f"starting the {name}"
