"""Asks PyPI's advisories, by pip-audit, whether anything that is installed in an environment has a known vulnerability.

    python .ci/audit.py ENV      exit code 1 if it has; 0 if not, or if nobody could be asked

Who cannot reach the advisories gets a line that says so and no failure, because a build must not fail for want of a
network. A package of which the source knows nothing is not judged, so an answer that knows none of them counts as none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ASK_S = 240.0  # a bound: some seventy packages, each one request
# What pip-audit, requests and urllib3 say where a network or a server is missing; anything else is a failure of ours.
NO_ANSWER = ("connect", "timed out", "timeout", "max retries", "name resolution", "proxy", "unavailable", "forbidden")


def packages(environment: Path) -> Path:
    """Returns the folder that an environment's packages lie in."""
    (found,) = (environment / "lib").glob("python3*/site-packages")
    return found


def ask(folder: Path, command: Sequence[str] = (sys.executable, "-m", "pip_audit")) -> tuple[str, str]:
    """Returns what pip-audit printed to stdout, and to stderr."""
    arguments = ["--path", str(folder), "--format", "json", "--progress-spinner", "off", "--timeout", "15"]
    try:
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=ASK_S, check=False)
    except subprocess.TimeoutExpired:
        return "", f"timed out after {ASK_S:.0f} s"
    return done.stdout, done.stderr


def judge(said: str, errors: str) -> tuple[int, list[str]]:
    """Returns the exit code and what to print."""
    try:
        found: list[dict[str, Any]] = json.loads(said)["dependencies"]
    except (ValueError, KeyError):
        last = (errors.strip().splitlines() or ["no word"])[-1]
        if any(word in errors.lower() for word in NO_ANSWER):
            return 0, [f"not asked: the advisories cannot be reached ({last})"]
        return 1, [f"pip-audit failed: {last}"]
    known = [one for one in found if "vulns" in one]
    others = [one["name"] for one in found if "vulns" not in one]
    # pathcast itself may be unknown. A mirror without advisories says of each package that it does not know it.
    if len(others) > max(1, len(known)):
        return 0, [f"not asked: the source knows {len(known)} of {len(found)} packages"]
    lines = [
        f"{one['name']} {one['version']}: {vuln['id']}, fixed in {', '.join(vuln['fix_versions']) or 'no version'}"
        for one in known
        for vuln in one["vulns"]
    ]
    told = f"{len(known)} packages were judged, {len(lines)} known vulnerabilities"
    return int(bool(lines)), [*lines, told, *(f"not judged: {name}" for name in others)]


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__)
        return 2
    status, lines = judge(*ask(packages(Path(arguments[0]))))
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
