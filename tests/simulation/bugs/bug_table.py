"""Writes the table of all bugs into the page of the simulation, from `bugs.json`.

python tests/simulation/bugs/bug_table.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from reverts import read_bugs

PAGE: Final = Path(__file__).parents[1] / "README.md"
BEGIN: Final = "<!-- the table of bugs begins: bugs/bug_table.py writes it -->"
END: Final = "<!-- the table of bugs ends -->"


def make_table(bugs: Sequence[Mapping[str, Any]]) -> str:
    """Returns how many of the bugs worlds have shown, in a sentence, and a table with a line for each."""
    found = sum("found" in one for one in bugs)
    today = sum(bool({"kind", "plan"} & one.get("found", {}).keys()) for one in bugs)
    lines = [
        f"Of {len(bugs)} bugs, worlds have shown {found}, {today} of them by the seeds of today or by a plan that is",
        "kept; of each other one, the line says which test is about it.",
        "",
        "| area | bug | shown by |",
        "|---|---|---|",
        *(f"| {one['area']} | {one['name']} | {_shown_by(one)} |" for one in bugs),
    ]
    return "\n".join(lines)


def _shown_by(bug: Mapping[str, Any]) -> str:
    found = bug.get("found")
    if found is not None and "plan" in found:
        return f"[a plan](found/{found['plan']}.json)"
    if found is not None:
        many = "1 world" if found["worlds"] == 1 else f"{found['worlds']} worlds"
        return f"{found.get('kind', 'an earlier plan')}, seed {found['seed']}, {many}"
    file, _, test = bug["test"].partition("::")
    return f"`{Path(file).name}`: {test.partition('[')[0].removeprefix('test_').replace('_', ' ')}"


def with_table(page: str, table: str) -> str:
    """Returns the page with this table between its two marks. Raises ValueError where they are not there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def main() -> None:
    PAGE.write_text(with_table(PAGE.read_text(), make_table(read_bugs())))


if __name__ == "__main__":
    main()
