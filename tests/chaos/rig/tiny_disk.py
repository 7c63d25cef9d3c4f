"""A disk that is full. Knows mounts; knows nothing of what is to be written there."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path


def mount(folder: Path, size_bytes: int) -> str:
    """Make `folder` a tmpfs of that size, which takes root; why it could not be done, or nothing."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return " ".join(done.stderr.split()) or f"mount ended with {done.returncode}" if done.returncode else ""


def unmount(folder: Path) -> None:
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Until not a byte more goes in."""
    with suppress(OSError), (folder / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
