"""The example of model/README.md runs as it is written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import model

PAGE = Path(model.__file__).with_name("README.md")


def test_the_example_of_the_page_prints_forecasts() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"-?\d+\.\d+", done.stdout)) >= 6
