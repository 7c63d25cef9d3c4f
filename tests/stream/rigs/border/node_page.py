"""Runs the page's modules in Node. Tests import this; it tests nothing itself."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from missing_servers import skip_unless_required

import stream

PAGE: Final = Path(stream.__file__).parent / "api" / "map" / "page"


def run(script: str, *modules: str) -> Any:
    """Returns the value of a JavaScript expression, in which each module is a name."""
    node = shutil.which("node")
    if node is None:
        skip_unless_required("needs Node")
    lines = [f"import * as {Path(one).stem} from {json.dumps((PAGE / one).as_uri())};" for one in modules]
    code = "\n".join([*lines, f"console.log(JSON.stringify({script}));"])
    ran = subprocess.run(
        [node, "--experimental-default-type=module", "--input-type=module", "-e", code],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)
