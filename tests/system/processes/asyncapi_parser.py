"""AsyncAPI's own parser (@asyncapi/parser), which npm gets once into the user's cache. Tests import this; it tests
nothing itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1] / "contracts" / "asyncapi"
NPM_S = 600.0  # a bound on waiting: 169 packages have to come
PARSE_S = 240.0


class Unavailable(Exception):
    """The parser cannot be had here; the message gives the reason."""


def parsed(document: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """What the parser says of a document: `valid`, its `channels` and `messages`, and `diagnostics`."""
    node = shutil.which("node")
    if node is None:
        raise Unavailable("no node on PATH")
    modules = _modules(say)
    command = [node, str(HERE / "validate.cjs"), str(document), str(modules / "package.json")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PARSE_S, check=True, stdin=subprocess.DEVNULL
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _modules(say: Callable[[str], None]) -> Path:
    version = json.loads((HERE / "package.json").read_text())["dependencies"]["@asyncapi/parser"]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pathcast"
    home = cache / f"asyncapi-parser-{version}"
    if home.is_dir():
        return home
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("no npm on PATH to get @asyncapi/parser")
    say(f"asyncapi: getting @asyncapi/parser {version} with npm (55 MB, once per machine)")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        arrived = Path(scratch) / "parser"
        arrived.mkdir()
        shutil.copy(HERE / "package.json", arrived)
        command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
        done = subprocess.run(
            command, cwd=arrived, capture_output=True, text=True, timeout=NPM_S, check=False, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            raise Unavailable(f"npm failed: {' '.join(done.stderr.split())[-300:]}")
        try:
            arrived.rename(home)  # the folder appears whole or not at all
        except OSError:
            if not home.is_dir():  # if it exists, another run was faster
                raise
    return home
