"""The promise, fault by fault: no ping lost, none forecast twice to a `read_committed` reader, every state as if
nothing had happened. The verifier judges (`pathcast verify`); it shares no line with delivery.

    pytest tests/chaos                                  each fault once
    pytest tests/chaos --chaos-all --chaos-seeds 1,2,3 \\
        --chaos-report reports/chaos.md            everything with both guarantees, and the report
    ... --chaos-delivery exactly_once                   with one guarantee, in half the time
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from chaos_report import Entry, Report
from chaos_rig import Rig
from faults import Fault


def test_nothing_is_lost_and_no_state_is_wrong_after(
    fault: Fault, delivery: str, seed: int, make_rig: Callable[..., Rig], chaos_report: Report
) -> None:
    print(f"{fault.name}, {delivery}, seed {seed}: {fault.what}")
    began = time.monotonic()
    rig = make_rig(seed=seed, delivery=delivery)
    wrong, total = ["it did not come to a verdict"], {}
    try:
        with rig:
            fault.inject(rig)
            if not fault.streams:
                wrong = []
                return
            verdict = rig.finish()
            total = dict(verdict.total)
            wrong = verdict.wrong(allowed=fault.allowed, suspects=rig.suspects, expected=rig.expected)
            assert not wrong, "\n".join([fault.what, *wrong])
    except (Exception, pytest.fail.Exception) as error:
        if not total:
            wrong = [f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"]
        raise
    finally:
        seconds = time.monotonic() - began
        chaos_report.add(Entry(fault, seed, rig.delivery, rig.sent, seconds, rig.restarts, rig.notes, total, wrong))
        rig.servers.heal()
        rig.delete_topics()
