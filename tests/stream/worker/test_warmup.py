"""The first pings wait for no compiler."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from model.api import Predictor
from stream.config.settings import Settings
from stream.worker.warmup import warm

# A kernel is compiled, or loaded from the cache of an earlier start, once for each kind of its arguments. In a process
# of its own, because everything is compiled already in this one.
SCRIPT = """
import asyncio, gc
from numba.core.dispatcher import Dispatcher
from engine_rig import Rig, forecasts, gap_fills, ping, steady
from model.api import Predictor
from stream.config.settings import Settings
from stream.worker.warmup import warm

def ready():
    return {one.py_func.__qualname__: len(one.signatures) for one in gc.get_objects() if isinstance(one, Dispatcher)}

async def main():
    predictor = Predictor.load("small", capacity=8)
    if WARM:
        await warm(predictor, Settings())
    before = ready()
    rig = Rig(lambda: predictor)
    rig.engine.placement.partitions = 1
    await rig.batch(*steady("bus-1", 12), *steady("bus-2", 12))
    await rig.batch(ping("bus-1", 500), ping("bus-2", 505), ping("bus-2", 510), ping("bus-2", 507))
    await rig.checkpoint()
    assert len(forecasts(rig.out)) == 28 and gap_fills(rig.out)
    print({name: (before.get(name), count) for name, count in ready().items() if before.get(name) != count})

asyncio.run(main())
"""


def compiled_after(rootpath: str, *, warmed: bool) -> str:
    """The kernels that pings had to wait for."""
    script = SCRIPT.replace("WARM", str(warmed))
    path = f"import sys; sys.path[:0] = [{rootpath!r}, {rootpath + '/tests/stream/rigs/core'!r}]\n"
    run = subprocess.run([sys.executable, "-c", path + script], capture_output=True, text=True, check=True, timeout=300)
    return run.stdout.strip()


@pytest.mark.slow
def test_no_kernel_is_compiled_after_the_warm_up(pytestconfig: pytest.Config) -> None:
    assert compiled_after(str(pytestconfig.rootpath), warmed=True) == "{}"
    assert "_observe_plain" in compiled_after(str(pytestconfig.rootpath), warmed=False), "what the warm-up is for"


async def test_nothing_of_the_warm_up_stays(make_predictor: Callable[[], Predictor]) -> None:
    predictor = make_predictor()
    everything = predictor.capacity
    await warm(predictor, Settings())
    assert len(predictor.acquire(everything)) == predictor.capacity == everything, "all slots are free"
