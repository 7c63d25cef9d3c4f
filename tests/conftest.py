"""Real servers for the tests, and which they were, in pytest's summary."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kafka_server
import pytest
import redis
import redis_server
from missing_servers import skip_unless_required

_CHOICES = pytest.StashKey[list[str]]()
TESTS = Path(__file__).parent
# Of processes that run the tests side by side. Each starts servers of its own, so that more would want much memory.
MOST_PROCESSES = 4
# What takes longest begins first, so that at the end no process waits long for another.
FIRST = (TESTS / "chaos", TESTS / "system", TESTS / "train")
# What shares the stack and the browser of a session runs in one process: else each would start them.
TOGETHER = ("tests/system/api/", "tests/system/map/test_page")
# `-m quick`: an answer within four minutes on two cores, without servers of other programs but Redis.
QUICK = (TESTS / "stream", TESTS / "model")
SLOW = ("test_jit.py", "test_exactness.py", "test_engine_sameness.py", "test_warmup.py")  # two thirds of their time


def pytest_addoption(parser: pytest.Parser) -> None:
    """Here, as pytest reads no options from the conftest of a folder further down."""
    parser.addoption("--long", action="store_true", help="fresh installs, and workers of the last release, too")
    group = parser.getgroup("chaos", "the chaos suite (tests/chaos)")
    group.addoption("--chaos-all", action="store_true", help="every fault; without it the selection for CI")
    group.addoption("--chaos-seeds", default="1", metavar="N,N,...", help="run every fault with each of these")
    group.addoption("--chaos-pings", type=int, default=45_000, metavar="N", help="of each fault and seed")
    group.addoption("--chaos-haste", type=float, default=1.0, metavar="N", help="feed so many times faster")
    group.addoption("--chaos-delivery", default="both", choices=["both", "exactly_once", "at_least_once"])
    group.addoption("--chaos-report", metavar="FILE", help="write what was found")
    group.addoption("--chaos-continue", action="store_true", help="keep what the report has of all that is not run now")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process a core for folders, and one more: tests of whole commands wait for half of their time, for sessions
    that pass, servers that come back and processes that start. A single file is through before a second process has
    begun; all faults of the chaos suite want three brokers and both cores, and a report names its command; what -s
    shows is not to be mixed."""
    asked = [Path(argument.partition("::")[0]) for argument in config.args]
    option = config.option
    if option.capture == "no" or option.chaos_all or option.chaos_report or (len(asked) == 1 and asked[0].is_file()):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_PROCESSES, cores + 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives each process a file after the other, as `--dist loadfile` does, and the files of TOGETHER as one."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return TOGETHER[0] if nodeid.startswith(TOGETHER) else super()._split_scope(nodeid)

    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return next((n for n, folder in enumerate(FIRST) if folder in item.path.parents), len(FIRST))

    items.sort(key=place)
    for item in items:
        quick = item.path.parent == TESTS or any(folder in item.path.parents for folder in QUICK)
        if quick and item.path.name not in SLOW:
            item.add_marker(pytest.mark.quick)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_CHOICES] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Sends the lines about servers along with the results, where this process runs tests for another."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["said"] = session.config.stash[_CHOICES]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes those lines when such a process has ended; one that died has none."""
    said = getattr(node, "workeroutput", {}).get("said", [])
    node.config.stash[_CHOICES] += [f"{node.gateway.id}: {line}" for line in said]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[_CHOICES]:
        terminalreporter.section("servers")
        for line in config.stash[_CHOICES]:
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def levels_of_the_clients_loggers() -> Iterator[None]:
    """Restores the levels after each test, because a command that runs in this process silences these loggers."""
    loggers = [logging.getLogger(name) for name in ("kafka", "aiokafka")]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def priority() -> Iterator[None]:
    """Keeps commands that run in this process from yielding to others: that is for good, so that all later tests of
    this process, and what they start, would be slow. Commands with a process of their own do yield."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "nice", lambda increment: 0)
        patch.setattr(os, "setpriority", lambda which, who, priority: None)
        yield


@pytest.fixture(scope="session")
def long(pytestconfig: pytest.Config) -> None:
    """Skips what takes minutes, unless it is asked for."""
    if not pytestconfig.getoption("--long"):
        pytest.skip("takes minutes: --long")


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Shows a line at once, captured output or not, and again in the summary."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    reporter = pytestconfig.pluginmanager.getplugin("terminalreporter")

    def show(line: str) -> None:
        pytestconfig.stash[_CHOICES].append(line)
        with capture.global_and_fixture_disabled():
            if "PYTEST_XDIST_WORKER" not in os.environ:
                reporter.write_line(line)
            else:  # one of several processes: it has no more of the terminal than its stderr
                print(f"\n{os.environ['PYTEST_XDIST_WORKER']}: {line}", file=sys.stderr, flush=True)

    return show


@pytest.fixture(scope="session")
def broker(say: Callable[[str], None]) -> Iterator[kafka_server.Broker]:
    """A real broker, shared by all tests."""
    try:
        with kafka_server.running(say) as found:
            yield found
    except kafka_server.Unavailable as reason:
        pytest.fail(str(reason), pytrace=False)


@pytest.fixture(scope="session")
def kafka(broker: kafka_server.Broker) -> str:
    """The bootstrap address of a real broker of any kind: use `topic_prefix` to keep apart from other tests."""
    return broker.bootstrap


@pytest.fixture(scope="session")
def apache_kafka(broker: kafka_server.Broker) -> str:
    """The same, for tests that kill members of a group. The embedded broker lets the next member join only when the
    rebalance timeout of the dead one has passed (minutes); Apache Kafka does so when its session has."""
    if not broker.apache:
        skip_unless_required("needs Apache Kafka: the embedded broker waits minutes for a member that was killed")
    return broker.bootstrap


@pytest.fixture(scope="session")
def redis_base_url(say: Callable[[str], None]) -> Iterator[str]:
    """The URL of a real Redis server that lives for the whole session; tests want `redis_url`."""
    with redis_server.running(say) as url:
        yield url


@pytest.fixture
def redis_url(redis_base_url: str) -> str:
    """The URL of a real Redis server, emptied before each test."""
    with redis.Redis.from_url(redis_base_url) as client:
        client.flushall()
    return redis_base_url


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topics, groups and keys that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}"
