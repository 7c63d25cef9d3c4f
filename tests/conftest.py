"""Options, the selection of tests (`suite`), and real servers for them, which pytest's summary names."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import kafka_server
import pytest
import redis
import redis_server
import seconds
import selection
import shared_broker
from missing_servers import skip_unless_required
from run_report import REPORT, RunReport
from shared_broker import SharedBroker

# Python may keep the code that it compiles: with PYTHONDONTWRITEBYTECODE, each of the many processes that tests start
# compiles some 300 modules of ours anew, and each process of pytest rewrites all assertions again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell lets what it starts in the background ignore SIGINT, and tests of Ctrl-C would wait for nothing.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_CHOICES = pytest.StashKey[list[str]]()
_BROKER_FOLDER = pytest.StashKey[str]()
_STOPWATCH = pytest.StashKey[seconds.Stopwatch]()
# Of processes that run the tests side by side. Each starts a Redis and more of its own, so that more would want much
# memory.
MOST_PROCESSES = 4


def pytest_addoption(parser: pytest.Parser) -> None:
    """Here, as pytest reads no options from the conftest of a folder further down."""
    parser.addoption("--all", action="store_true", help="every test, and a report (tests/suite/REPORT.md)")
    parser.addoption("--record-seconds", action="store_true", help="write the seconds of each file (tests/suite)")
    parser.addoption("--shuffle", type=int, metavar="SEED", help="the files in a random order")
    group = parser.getgroup("chaos", "the chaos suite (tests/chaos)")
    group.addoption("--chaos-all", action="store_true", help="every fault with both guarantees, at full size")
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
    """Gives each process a file after the other, as `--dist loadfile` does, and files that belong together as one."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return selection.scope_of(nodeid)

    return Together(config, log)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return (collection_path.is_file() and selection.has_none(collection_path, config)) or None


@pytest.hookimpl(trylast=True)  # after the marks that folders give their tests
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    selection.choose(items, config)
    recorded = {file: entry.seconds for file, entry in seconds.read().items()}
    selection.order(items, recorded, config.option.shuffle)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_CHOICES] = []
    option = config.option
    hears_of_all = not hasattr(config, "workerinput") and not option.collectonly
    if hears_of_all and (option.all or option.record_seconds) and not selection.names_a_part(config):
        config.stash[_STOPWATCH] = RunReport() if option.all else seconds.Stopwatch()
        config.pluginmanager.register(config.stash[_STOPWATCH])


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Sends the lines about servers along with the results, where this process runs tests for another. The process
    that hears of all tests writes what was asked for."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["said"] = config.stash[_CHOICES]
    elif exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        pass  # it was ended before its end: what an earlier run wrote stays
    elif isinstance(stopwatch := config.stash.get(_STOPWATCH, None), RunReport):
        command = " ".join(["pytest", *config.invocation_params.args])
        REPORT.write_text(stopwatch.render(command, config.stash[_CHOICES]))
    elif stopwatch is not None and exitstatus == 0:
        seconds.write(stopwatch.seconds, date.today())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells a process that runs tests for this one where to ask for the broker that all of them share."""
    stash = node.config.stash
    if _BROKER_FOLDER not in stash:
        with ExitStack() as stack:
            stash[_BROKER_FOLDER] = stack.enter_context(tempfile.TemporaryDirectory(prefix="broker"))
            stack.enter_context(SharedBroker(Path(stash[_BROKER_FOLDER]), stash[_CHOICES].append))
            node.config.add_cleanup(stack.pop_all().close)
    node.workerinput["broker_folder"] = stash[_BROKER_FOLDER]


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
def levels_of_the_clients_loggers() -> None:
    """Sets the levels before each test, because a command that runs in this process silences these loggers: within the
    test before, or for a fixture of a whole file or session, or on a thread that a test left behind."""
    for name in ("kafka", "aiokafka"):
        logging.getLogger(name).setLevel(logging.NOTSET)


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
    """Skips what installs into fresh environments or takes minutes, where only its folder was named."""
    if not pytestconfig.option.all:
        pytest.skip("takes minutes: --all")


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
def broker(pytestconfig: pytest.Config, say: Callable[[str], None]) -> Iterator[kafka_server.Broker]:
    """A real broker, shared by all tests."""
    folder = getattr(pytestconfig, "workerinput", {}).get("broker_folder")
    try:
        if folder is not None:
            yield shared_broker.ask(Path(folder))
        else:
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
