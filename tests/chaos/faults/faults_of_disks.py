"""Disks that are full where weights are written. No pings: what is judged is a clear error, and that the old stays."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final

import tiny_disk
from chaos_rig import Rig
from faults import Fault, register
from pathcast_process import COMMAND, environment

from model.parameters import reading

TRAIN_S: Final = 300.0
ROOM: Final = 64 * 1024  # beside the old weights: less than new ones need
MOST: Final = 1024 * 1024  # of one file, where nothing can be mounted: more than the data has, less than weights
FULL: Final = ("no space left on device", "file too large")  # of a full tmpfs; of a limit, where nothing can be mounted


def weights_disk_full(rig: Rig) -> None:
    """`pathcast train` into a folder with weights, on a disk that has no room for others: it must say so in one line
    and leave the old weights as they were."""
    with tempfile.TemporaryDirectory(prefix="pathcast-chaos-") as scratch:
        data, out = Path(scratch) / "towns.parquet", Path(scratch) / "weights"
        _run([*COMMAND, "train", "synth", "--out", str(data), "--entities", "40", "--seed", str(rig.seed)], check=True)
        out.mkdir()
        with _old_weights_on_a_full_disk(out) as (how, limit):
            rig.notes.append(how)
            before = _digests(out)
            command = [
                *limit,
                *COMMAND,
                "train",
                "--data",
                str(data),
                "--out",
                str(out),
                "--steps",
                "2",
                "--threads",
                "1",
            ]
            run = _run([*command, "--no-resume", "--cache", str(Path(scratch) / "cache")], check=False)
            assert run.returncode == 1, f"it ended with {run.returncode}: {run.stderr[-500:]}"
            last = run.stderr.strip().splitlines()[-1]
            assert last.startswith("error:"), f"no clear error: {run.stderr[-500:]}"
            assert any(text in last.lower() for text in FULL), f"the error does not say why: {last}"
            rig.say(last)
            assert _digests(out) == before, "what was there before has changed"
            reading.from_pretrained(out)


register(
    Fault("weights_disk_full", " ".join((weights_disk_full.__doc__ or "").split()), weights_disk_full, streams=False)
)


@contextmanager
def _old_weights_on_a_full_disk(out: Path) -> Iterator[tuple[str, list[str]]]:
    """How it was done, and what to put before a command that is to feel it."""
    old = sorted(reading.resolve("small").iterdir())
    why_not = tiny_disk.mount(out, sum(path.stat().st_size + 4096 for path in old) + ROOM)
    try:
        for path in old:
            shutil.copy(path, out)
        if why_not:
            limit = ["sh", "-c", f'ulimit -f {MOST // 512}; exec "$@"', "sh"]
            yield f"a limit on the size of files, as no tmpfs could be mounted ({why_not})", limit
        else:
            tiny_disk.fill(out)
            yield "a full tmpfs", []
    finally:
        tiny_disk.unmount(out)


def _digests(folder: Path) -> dict[str, bytes]:
    return {path.name: blake2b(path.read_bytes()).digest() for path in folder.iterdir()}


def _run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=TRAIN_S, env=environment(), check=check)
