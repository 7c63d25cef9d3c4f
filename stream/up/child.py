"""One process of a part: a command of ours (`Child`), or a server of others (`Server`). Both end when we end.

A command of ours has the reading end of a pipe as its stdin, and ends when the other end closes, which the kernel does
however we end (`stream.worker.process_pool`). A server of others has a supervisor for that (`stream.demo.supervisor`).
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from stream.demo.supervisor import Supervised
from stream.up.logs import Lines, bound, is_shown
from stream.worker import process_pool

READ_BYTES: Final = 64 * 1024
CHECK_S: Final = 0.2  # between two looks at a server


class Running(Protocol):
    """A process that has been started."""

    pid: int

    async def wait(self) -> int:
        """Waits until it has ended, and returns its status: negative for a signal."""
        ...

    async def stop(self) -> int:
        """Asks it to end (SIGTERM), and later forces it (SIGKILL). Returns its status; it has ended then."""
        ...


class Child:
    """A process of a command of ours. What it writes goes to its log, and what warns to `on_line`, too."""

    def __init__(self, process: Process, output: int, log: Path, on_line: Callable[[str], None]) -> None:
        """`output` is the reading end of the pipe into which the process writes; it is closed at the end."""
        self.pid = process.pid
        self._process = process
        self._relay = asyncio.create_task(_relay(output, log, on_line))
        self._ended = asyncio.create_task(self._end())

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        stdin: int,
        lock: int,
        log: Path,
        on_line: Callable[[str], None],
    ) -> Child:
        """Starts it. Raises OSError if it cannot be started."""
        # Our own pipe: with asyncio's, a process has not ended before all that it left behind have closed it.
        output, written = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=stdin,
                stdout=written,
                stderr=written,
                env=dict(env),
                start_new_session=True,  # Ctrl-C in the terminal reaches only us, and we stop all in order
                pass_fds=(lock,),
            )
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(written)
        return cls(process, output, log, on_line)

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    async def stop(self) -> int:
        await process_pool.end(self.pid, self._ended)
        return await self._ended

    async def _end(self) -> int:
        status = await self._process.wait()
        # What it started itself has its process group. It would hold the pipe open, and outlive us.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        await self._relay
        return status


async def _relay(output: int, log: Path, on_line: Callable[[str], None]) -> None:
    """Writes what comes out of a pipe into the log, and tells what is to be shown, until the other side is closed."""
    reader, lines = asyncio.StreamReader(), Lines()
    file = os.fdopen(output, "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), file
    )
    while raw := await reader.read(READ_BYTES):
        _append(log, raw)
        for line in filter(is_shown, lines.feed(raw)):
            on_line(line)
    for line in lines.end():
        _append(log, b"\n")  # what the next process writes begins a line
        if is_shown(line):
            on_line(line)
    transport.close()


def _append(log: Path, raw: bytes) -> None:
    with suppress(OSError):  # a full disk must not stop the process, which waits for us to read
        bound(log)
        with log.open("ab") as file:
            file.write(raw)


class Server:
    """A server of others, which writes its log itself."""

    def __init__(self, command: Sequence[str], *, lock: int, log: Path) -> None:
        """Starts it. Raises RuntimeError if it cannot be started."""
        bound(log)
        self._supervised = Supervised(command, log=log, held=(lock,))
        self.pid = self._supervised.pid

    async def wait(self) -> int:
        while True:
            if not self._supervised.running:
                return await self.stop()
            await asyncio.sleep(CHECK_S)

    async def stop(self) -> int:
        status = await asyncio.to_thread(self._supervised.stop)
        return status if status < 128 else 128 - status  # a shell's form
