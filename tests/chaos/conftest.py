"""Servers for the chaos suite, started once for all faults; and which faults run, with which seeds and guarantees."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import chaos_kafka
import chaos_redis
import pytest
from chaos_report import Earlier, Report
from chaos_rig import Rig, Servers
from fault_proxy import Proxies
from faults import Fault
from faults_all import FAULTS, SELECTION
from missing_servers import skip_unless_required

from stream.bench.harness.servers import Unavailable

SEED = 4
GUARANTEES = ("exactly_once", "at_least_once")
PINGS, HASTE = 4_000, 2.0  # in CI: each fault then takes some 20 s


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.chaos)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Gives the test its cases: each fault once and those of SELECTION with both guarantees, of which the default
    selection takes the marked ones; with `--chaos-all` each fault with each seed and each guarantee, which takes an
    hour a seed."""
    if "fault" not in metafunc.fixturenames:
        return
    option = metafunc.config.getoption
    seeds = [int(seed) for seed in option("chaos_seeds").split(",")] if option("chaos_all") else [SEED]
    cases = [
        pytest.param(fault, delivery, seed, id=f"{fault.name}-{delivery}-{seed}", marks=_marks(fault, delivery))
        for seed in seeds
        for fault in FAULTS.values()
        for delivery in _deliveries(fault, option("chaos_delivery"), each=option("chaos_all"))
    ]
    metafunc.parametrize(("fault", "delivery", "seed"), cases)


def _deliveries(fault: Fault, wanted: str, *, each: bool) -> list[str]:
    """Returns the guarantees that are `wanted`, or the first of them where a fault does not run with `each`."""
    deliveries = [delivery for delivery in GUARANTEES if wanted in ("both", delivery)]
    return deliveries if fault.streams and (each or fault.name in SELECTION) else deliveries[:1]


def _marks(fault: Fault, delivery: str) -> list[pytest.MarkDecorator]:
    text = SELECTION.get(fault.name, {}).get(delivery)
    return [] if text is None else [pytest.mark.promise(text)]


@pytest.fixture(autouse=True)
def silent_client(levels_of_the_clients_loggers: None) -> None:
    """Silences the client of brokers that die here, whose complaints would bury all else."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


@pytest.fixture(scope="module")
def servers(pytestconfig: pytest.Config, say: Callable[[str], None]) -> Iterator[Servers]:
    proxies = Proxies()
    try:
        with chaos_redis.running() as redis, chaos_kafka.running(say, proxies) as cluster:
            say(f"chaos: three Apache Kafka brokers at {cluster.direct}, Redis at {redis.url}")
            yield Servers(cluster, redis, proxies.to(redis.port))
    except Unavailable as reason:  # no embedded broker can be killed and come back with its log
        if pytestconfig.getoption("chaos_all"):
            pytest.fail(str(reason), pytrace=False)
        say(f"chaos: nothing was broken and nothing judged: {reason}")
        skip_unless_required(f"needs Apache Kafka and redis-server: {reason}")
    finally:
        proxies.close()


@pytest.fixture
def make_rig(servers: Servers, tmp_path: Path, pytestconfig: pytest.Config) -> Callable[..., Rig]:
    """A rig on healthy servers, of the size that the command line asks for."""
    option = pytestconfig.getoption
    servers.heal()

    def make(*, delivery: str, seed: int = SEED, pings: int | None = None) -> Rig:
        most, haste = (option("chaos_pings"), option("chaos_haste")) if option("chaos_all") else (PINGS, HASTE)
        folder = tmp_path / f"rig{seed}"
        folder.mkdir(exist_ok=True)
        return Rig(servers, folder, seed=seed, pings=pings or most, delivery=delivery, haste=haste)

    return make


@pytest.fixture(scope="session")
def chaos_report(pytestconfig: pytest.Config) -> Report:
    """What was run, written where --chaos-report says."""
    option = pytestconfig.getoption
    path = None if option("chaos_report") is None else Path(option("chaos_report"))
    return Report(path, Earlier.of(path) if path is not None and option("chaos_continue") else Earlier())
