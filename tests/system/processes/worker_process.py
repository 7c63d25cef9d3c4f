"""`pathcast worker` as a process of its own, for the tests: started, watched, stopped, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

PATHCAST = Path(sys.executable).with_name("pathcast")
READY_S = 300.0  # a bound on waiting; 3 s on an idle machine, and far longer where kernels have to be compiled first
STOP_S = 180.0  # a bound, too: `pathcast up` ends its parts in three groups, each of which may take 25 s


class Worker:
    """One worker process. Its log is in memory of the test, as a file, and is shown when something goes wrong."""

    def __init__(
        self,
        log: Path,
        *,
        program: Sequence[str | Path] = (PATHCAST,),
        command: Sequence[str] = ("worker",),
        environment: Mapping[str, str] = MappingProxyType({}),
        **options: object,
    ) -> None:
        self._log = log
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [*program, *command, *arguments],
                stdin=subprocess.PIPE,  # closes with this process, for commands that then end, too
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._process.poll() is None:
            self.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        if kind is not None:
            print(f"--- {self._log.name}\n{self.log()}")

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until_ready(self) -> None:
        """Every partition that the group gave this worker is taken over."""
        self.wait_for("ready: partitions", READY_S)

    def wait_for(self, text: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while text not in self.log():
            assert self._process.poll() is None, f"the worker ended with {self._process.returncode}:\n{self.log()}"
            assert time.monotonic() < deadline, f"no {text!r} in {timeout_s} s:\n{self.log()}"
            time.sleep(0.1)

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Of a process that has ended; None while it runs."""
        return self._process.poll()

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """As a crash does it: kill -9."""
        self.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self._process.terminate()
        return self.wait()

    def wait(self, timeout_s: float = STOP_S) -> int:
        return self._process.wait(timeout_s)


def assert_all_live(*workers: Worker) -> None:
    """Raises AssertionError with the log of one that has ended: no use to wait for it."""
    for worker in workers:
        assert worker.running(), worker.log()
