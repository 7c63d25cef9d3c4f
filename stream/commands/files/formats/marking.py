"""What marks a filled row."""

from __future__ import annotations

from typing import Final

FILLED: Final = "filled"  # true for a filled row, false for one that the file had
SIGMA: Final = "sigma_m"  # the spread of a filled row in metres; empty for one that the file had
GPX_NAMESPACE: Final = "urn:pathcast:gpx:1"
