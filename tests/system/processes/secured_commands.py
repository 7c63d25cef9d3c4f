"""Commands of one user against servers that ask who that is. Tests import this; it tests nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import bus_feed
import secured_servers
from missing_servers import skip_unless_required
from pathcast_process import environment, pathcast
from secured_servers import KAFKA_PASSWORD, REDIS_PASSWORD, Secured

from stream.bench.harness.servers import Unavailable
from stream.config.security import KafkaSecurity, Mechanism, Protocol
from stream.wire import Topics

PREFIX = "secured"
TOPICS = Topics.of(PREFIX)
PROMPT_S = 120.0  # a bound on waiting: a worker that tries again and again would pass it


@contextmanager
def running(say: Callable[[str], None], folder: Path) -> Iterator[Secured]:
    """Servers with the topics of PREFIX, and the users of SECURITY.md. Skips the tests where there are none."""
    try:
        with secured_servers.running(say, folder) as servers:
            bus_feed.create_topics(servers.plain, TOPICS, partitions=2)
            secured_servers.admit(servers, PREFIX)
            yield servers
    except Unavailable as reason:
        skip_unless_required(f"needs Apache Kafka and redis-server, as the embedded ones have no users: {reason}")


def settings(secured: Secured, user: str, password_file: Path, **other: str) -> dict[str, str]:
    """The environment of one user's commands; `other` instead of some of it."""
    password_file.write_text(f"{KAFKA_PASSWORD}\n")
    ours = {
        "BOOTSTRAP": secured.bootstrap,
        "PREFIX": PREFIX,
        "GROUP": PREFIX,
        "KAFKA_SECURITY": "SASL_SSL",
        "KAFKA_USER": user,
        "KAFKA_PASSWORD_FILE": str(password_file),
        "KAFKA_CA": str(secured.ca),
        "REDIS": f"rediss://pathcast@127.0.0.1:{secured.redis_port}/0",
        "REDIS_PASSWORD": REDIS_PASSWORD,
        "REDIS_CA": str(secured.ca),
        **other,
    }
    return {f"PATHCAST_{name}": value for name, value in ours.items() if value}


def assert_secret(*outputs: str | bytes) -> None:
    for output in outputs:
        text = output if isinstance(output, str) else output.decode(errors="replace")
        for password in (KAFKA_PASSWORD, REDIS_PASSWORD, "secret"):
            assert password not in text, f"a secret in {text}"


def told(*arguments: object, env: dict[str, str], stdin: bytes | None = None) -> bytes:
    """The output of a command that must go well."""
    run = pathcast(*arguments, env=environment(**env), stdin=stdin)
    assert run.returncode == 0, run.stderr.decode()
    assert_secret(run.stdout, run.stderr)
    return run.stdout


def refused(*arguments: object, env: dict[str, str]) -> str:
    """What a command says that must be refused: one line, which leads to the page of rights."""
    run = pathcast(*arguments, env=environment(**env))
    said = run.stderr.decode()
    assert run.returncode == 1, said
    assert "Traceback" not in said
    assert "SECURITY.md" in said
    assert_secret(said)
    return said


def kafka(secured: Secured, **other: object) -> KafkaSecurity:
    given = {"user": "operator", "password": KAFKA_PASSWORD, "ca": secured.ca, **other}
    return KafkaSecurity(Protocol.SASL_SSL, Mechanism.SCRAM_SHA_512, **given)  # type: ignore[arg-type]
