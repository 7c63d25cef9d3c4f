"""This machine: how many files may be open, and what its processor can do. Facts and what follows from them."""

from __future__ import annotations

from typing import Final, NamedTuple

from stream.commands.doctor.finding import Finding, ok, warning

LEAST_FILES: Final = 1_024  # sockets to each broker and Redis, atlases, files of an archive


class Machine(NamedTuple):
    files: int  # that a process may have open; -1: without a limit
    instructions: str  # the widest vectors that compiled code uses
    bfloat16: bool


def facts() -> Machine:
    import resource

    from model.api import processor

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return Machine(-1 if files == resource.RLIM_INFINITY else files, *processor())


def check_machine(found: Machine) -> list[Finding]:
    if 0 <= found.files < LEAST_FILES:
        files = warning("open files", f"at most {found.files:,}", f"ulimit -n {LEAST_FILES} or more for the workers")
    else:
        files = ok("open files", "no limit" if found.files < 0 else f"at most {found.files:,}")
    if found.instructions == "none":
        vectors = "no AVX2: layers are plain loops, several times slower"
        return [files, warning("processor", vectors, "run workers on a processor with AVX2")]
    numbers = "with bfloat16" if found.bfloat16 else "without bfloat16: layers are float32, and take longer"
    return [files, ok("processor", f"{found.instructions}, {numbers}")]
