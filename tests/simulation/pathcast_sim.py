"""pathcast-sim: plays simulated worlds, makes what fails smaller, and shows it step by step.

python tests/simulation/pathcast_sim.py --seeds 1000                  seeds 0 to 999
python tests/simulation/pathcast_sim.py --seeds 100000 --hours 8 --report FILE      a night, and what it has visited
python tests/simulation/pathcast_sim.py --first 52000 --seeds 48000 --report FILE   goes on, and adds to it
python tests/simulation/pathcast_sim.py --seed 4711                   one world, with every step
python tests/simulation/pathcast_sim.py --seed 4711 --shrink FILE     the fewest events that still fail
python tests/simulation/pathcast_sim.py --plan FILE                   a world that was written down
python tests/simulation/pathcast_sim.py --bugs [NAME ...]             bring bugs of bugs/bugs.json back, and look
python tests/simulation/pathcast_sim.py --bugs --record               and write down by which worlds they are found
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOMS = ("world", "kafka", "redis_model", "clients", "fleet", "beside", "versions", "seeds", "bugs")
sys.path[:0] = [str(HERE / room) for room in ROOMS]
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "stream/rigs/core")]
sys.dont_write_bytecode = False

import bug_trials  # noqa: E402
from plan_kinds import draw_plan  # noqa: E402
from plans import Plan, read_plan, write_plan  # noqa: E402
from play import play  # noqa: E402
from trials import Tally, fix_hashes, shrink, try_all  # noqa: E402
from visited import Visited, describe, read_visited, write_visited  # noqa: E402

COMMAND = "python tests/simulation/pathcast_sim.py"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="pathcast-sim", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="play so many worlds")
    parser.add_argument("--first", "--from", type=int, default=0, metavar="SEED", help="the first of them (0)")
    parser.add_argument("--hours", type=float, default=float("inf"), metavar="H", help="stop after so long")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="at a time (2)")
    parser.add_argument("--seed", type=int, metavar="SEED", help="play one world, and show its steps")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="play a world that is written down")
    parser.add_argument("--shrink", type=Path, metavar="FILE", help="write a smaller world that fails alike")
    parser.add_argument("--bugs", nargs="*", metavar="NAME", help="bring bugs back, and look for each")
    parser.add_argument("--area", metavar="AREA", help="only bugs of this area")
    parser.add_argument("--worlds", type=int, default=2_000, metavar="N", help="for each bug (2000)")
    parser.add_argument("--story", metavar="NAME", help="only worlds of this story, kind, member or event")
    parser.add_argument("--record", action="store_true", help="write into bugs/bugs.json what is found")
    parser.add_argument("--report", type=Path, metavar="FILE", help="add what the worlds have visited to this file")
    parser.add_argument("--first-found", action="store_true", help="stop at the first world that is wrong")
    asked = parser.parse_args()
    fix_hashes()
    if asked.bugs is not None:
        bugs = bug_trials.Asked(
            asked.bugs, asked.area, asked.story, asked.worlds, asked.processes, records=asked.record
        )
        return bug_trials.look_for(bugs)
    if asked.plan is not None:
        return _show(read_plan(asked.plan.read_bytes()), asked.shrink)
    if asked.seed is not None:
        return _show(draw_plan(asked.seed), asked.shrink)
    if asked.seeds is None:
        parser.error("one of --seeds, --seed, --plan and --bugs is needed")
    seeds: Sequence[int] = range(asked.first, asked.first + asked.seeds)
    if asked.story is not None:
        seeds = [seed for seed in seeds if bug_trials.is_of(draw_plan(seed), asked.story)]
    before = read_visited(asked.report)
    if asked.report is not None and (run := before.find_overlap(asked.first, asked.first + asked.seeds)) is not None:
        parser.error(f"{asked.report} has the worlds from {run[0]} up to {run[1]} already: --first {run[1]} goes on")
    return _play(seeds, asked, before)


def _show(plan: Plan, smaller: Path | None) -> int:
    if smaller is not None:
        plan = shrink(plan, lambda line: print(line, file=sys.stderr))
        smaller.write_text(write_plan(plan) + "\n")
    outcome = play(plan, story=True)
    print(*outcome.lines, sep="\n")
    print(*(outcome.findings or ["nothing is wrong"]), sep="\n")
    return int(not outcome.is_sound)


def _play(seeds: Sequence[int], asked: argparse.Namespace, before: Visited) -> int:
    """Plays worlds, and adds what they visited to what earlier runs did."""

    def show(tally: Tally) -> None:
        if tally.worlds % 100 == 0:
            line = f"{tally.worlds} of {len(seeds)} worlds, {len(tally.found)} wrong, {tally.seconds:.0f} s"
            print(line, file=sys.stderr, flush=True)
        if tally.worlds % 1000 == 0:
            add(tally)
        if tally.found and tally.found[-1][0] not in shown:
            seed, findings = tally.found[-1]
            shown.add(seed)
            print(f"seed {seed}: {findings[0]}\n  {COMMAND} --seed {seed}", flush=True)

    def add(tally: Tally) -> Visited:
        visited = before.with_run(asked.first, _after(tally), tally)
        if asked.report is not None:
            write_visited(asked.report, visited)
        return visited

    def _after(tally: Tally) -> int:
        """Returns the seed with which another run goes on."""
        ended = tally.worlds == len(seeds)
        return asked.first + asked.seeds if ended else seeds[tally.worlds - 1] + 1

    shown: set[int] = set()
    until_s = asked.hours * 3600
    tally = try_all(seeds, asked.processes, until_s=until_s, until_found=asked.first_found, show=show)
    print(
        f"{tally.worlds} worlds in {tally.seconds:.0f} s: {tally.virtual_s / 3600:.1f} virtual hours, "
        f"{tally.requests} requests"
    )
    for kind, times in sorted(tally.events.items()):
        print(f"  {kind:32} {times}")
    print(*describe(add(tally)), sep="\n")
    if tally.worlds < len(seeds):
        print(f"--first {_after(tally)} goes on")
    print(f"{len(tally.found)} worlds are wrong")
    return int(bool(tally.found))


if __name__ == "__main__":
    raise SystemExit(main())
