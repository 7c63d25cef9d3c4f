"""The example of model/README.md runs as it is written, and the README names the version of the bundled weights."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import model
from model.parameters.reading import from_pretrained

PAGE = Path(model.__file__).with_name("README.md")


def test_the_example_of_the_page_prints_forecasts() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"-?\d+\.\d+", done.stdout)) >= 6


def test_the_bundled_weights_keep_their_version() -> None:
    """A tensor that is added to all weights, such as a new head's, must not rename those that exist: no state of theirs
    could be read any more."""
    shown = re.findall(
        r'"name": "small", "version": "(\w+)"', (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
    )
    assert shown == [from_pretrained("small").fingerprint().hex()]
