"""What goes together and what does not, where secrets come from, and that none is ever shown."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
import typer
from aiokafka.errors import KafkaError
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, ReadOnlyError, ResponseError
from typer.testing import CliRunner

from stream.config.options import SERVERS, Common, Servers, with_common
from stream.config.security import (
    PLAIN_KAFKA,
    PLAIN_REDIS,
    KafkaSecurity,
    Mechanism,
    Protocol,
    RedisSecurity,
    kafka_refusal,
    redis_refusal,
    secret,
    shown,
)
from stream.config.settings import Settings
from stream.store.redis_store import RedisStore

PASSWORD = "s3cret"


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


def test_both_kafka_clients_get_what_they_ask_for(ca: Path) -> None:
    security = KafkaSecurity(Protocol.SASL_SSL, Mechanism.SCRAM_SHA_256, "me", PASSWORD, ca)
    given = security.arguments()
    context = given.pop("ssl_context")
    assert given == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "me",
        "sasl_plain_password": PASSWORD,
    }
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert PLAIN_KAFKA.arguments() == {"security_protocol": "PLAINTEXT"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"password": PASSWORD}, "should it be SASL_SSL?"),
        ({"user": "me"}, "should it be SASL_SSL?"),
        ({"protocol": Protocol.SSL, "user": "me"}, "should it be SASL_SSL?"),
        ({"protocol": Protocol.SASL_SSL}, "--kafka-user"),
        ({"protocol": Protocol.SASL_SSL, "user": "me"}, "PATHCAST_KAFKA_PASSWORD_FILE"),
        ({"ca": Path("ca.pem")}, "should it be SSL?"),
        ({"protocol": Protocol.SASL_PLAINTEXT, "user": "me", "password": PASSWORD, "ca": Path("x")}, "be SASL_SSL?"),
        ({"protocol": Protocol.SSL, "key": Path("key.pem")}, "--kafka-cert"),
        ({"protocol": Protocol.SSL, "ca": Path("/nowhere/ca.pem")}, "--kafka-ca /nowhere/ca.pem cannot be used"),
        ({"protocol": Protocol.SSL, "certificate": Path("/nowhere/me.pem")}, "--kafka-cert /nowhere/me.pem cannot"),
    ],
)
def test_what_does_not_go_together_is_said_at_once(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="kafka") as raised:
        KafkaSecurity(**given)
    assert said in str(raised.value)
    assert PASSWORD not in str(raised.value)


def test_a_redis_url_and_what_is_said_beside_it_must_agree(ca: Path) -> None:
    assert RedisSecurity(PASSWORD, ca).arguments("rediss://me@host/0") == {
        "password": PASSWORD,
        "ssl_ca_certs": str(ca),
    }
    assert PLAIN_REDIS.arguments(f"redis://me:{PASSWORD}@host:1/0") == {}
    for security, url, said in (
        (RedisSecurity(PASSWORD), f"redis://me:{PASSWORD}@host", "which one?"),
        (RedisSecurity(None, ca), f"redis://me:{PASSWORD}@host", "rediss://"),
        (RedisSecurity(None, Path("/nowhere")), "rediss://host", "--redis-ca /nowhere cannot be used"),
        (PLAIN_REDIS, f"redis://me:{PASSWORD}/more@host:1", "is no Redis URL"),
        (PLAIN_REDIS, f"http://me:{PASSWORD}@host:1", "is no Redis URL"),
    ):
        with pytest.raises(ValueError, match=r"Redis|redis") as raised:
            security.arguments(url)
        assert said in str(raised.value)
        assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("rediss://me@host:6379/0", "rediss://me@host:6379/0"),
        ("redis://me:s3cret@host:6379/0", "redis://me:***@host:6379/0"),
        ("redis://:s3cret@host", "redis://:***@host"),
        ("redis://me:s3c@ret/s3cret#s3cret@host:1", "redis://me:***@host:1"),
        ("redis://me:a://s3cret@host", "redis://me:***@host"),
        ("me:s3cret@host", "me:***@host"),
        ("redis://host/0?password=s3cret&db=1", "redis://host/0?password=***&db=1"),
        ("rediss://host/0?ssl_password=s3c@ret", "rediss://host/0?ssl_password=***"),
    ],
)
def test_a_url_is_shown_without_what_may_be_a_password(url: str, text: str) -> None:
    assert shown(url) == text


def test_no_repr_and_no_log_line_holds_a_secret(ca: Path, caplog: pytest.LogCaptureFixture) -> None:
    kafka = KafkaSecurity(Protocol.SASL_SSL, user="me", password=PASSWORD, ca=ca)
    settings = Settings(redis_url=f"redis://me:{PASSWORD}@host", kafka=kafka, redis=RedisSecurity(PASSWORD))
    logging.getLogger("test").error("%r", settings)
    assert "user='me'" in caplog.text
    assert PASSWORD not in caplog.text


def test_a_secret_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file, empty = tmp_path / "password", tmp_path / "empty"
    file.write_text(f" {PASSWORD} \n")
    empty.write_text("\n")
    assert secret("X", {}) is None
    assert secret("X", {"PATHCAST_X": PASSWORD}) == PASSWORD
    assert secret("X", {"PATHCAST_X_FILE": str(file)}) == f" {PASSWORD} ", "only the line's end is not part of it"
    for environment, said in (
        ({"PATHCAST_X": PASSWORD, "PATHCAST_X_FILE": str(file)}, "which one?"),
        ({"PATHCAST_X_FILE": str(empty)}, "which is empty"),
        ({"PATHCAST_X_FILE": str(tmp_path / "none")}, "cannot be read"),
    ):
        with pytest.raises(ValueError, match="PATHCAST_X") as raised:
            secret("X", environment)
        assert said in str(raised.value)
        assert PASSWORD not in str(raised.value)


def test_options_have_variables_and_help_shows_no_secret(ca: Path) -> None:
    seen: list[tuple[Servers, int]] = []
    app = typer.Typer()

    @app.command()
    @with_common
    def look(servers: Servers = SERVERS, number: int = 1) -> None:
        seen.append((servers, number))

    variables = {
        "PATHCAST_KAFKA_SECURITY": "sasl_ssl",
        "PATHCAST_KAFKA_USER": "me",
        "PATHCAST_KAFKA_PASSWORD": PASSWORD,
        "PATHCAST_KAFKA_CA": str(ca),
        "PATHCAST_REDIS_PASSWORD": PASSWORD,
    }
    run = CliRunner(env=variables).invoke(
        app, ["--number=2", "--prefix=our", "--redis-ca", str(ca), "--kafka-mechanism=SCRAM-SHA-256"]
    )
    assert run.exit_code == 0, run.output
    kafka = KafkaSecurity(Protocol.SASL_SSL, Mechanism.SCRAM_SHA_256, "me", PASSWORD, ca)
    assert seen == [(Servers(Common(prefix="our", security=kafka), redis_security=RedisSecurity(PASSWORD, ca)), 2)]
    told = CliRunner(env=variables).invoke(app, ["--help"])
    assert "--kafka-security" in told.output
    assert "--redis-ca" in told.output
    assert PASSWORD not in told.output


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (AuthenticationError("invalid username-password pair or user is disabled."), True),
        (NoPermissionError("this user has no permissions to run the 'hset' command"), True),
        (ResponseError("The user executing the script can't run this command or subcommand script: 56f3"), True),
        (ResponseError("ACL failure in script: User u has no permissions to run the 'hset' command"), True),
        (ReadOnlyError("You can't write against a read only replica."), False),
        (BusyLoadingError("Redis is loading the dataset in memory"), False),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots"), False),
        (ConnectionResetError("gone"), False),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), False),  # by a server that dies
    ],
)
def test_what_redis_refuses_is_told_from_what_passes(error: Exception, refused: bool) -> None:
    assert (redis_refusal("rediss://host", error) is not None) is refused


def test_a_store_with_a_bad_url_is_an_error_without_its_password() -> None:
    with pytest.raises(ValueError, match="is no Redis URL") as raised:
        RedisStore(Settings(redis_url=f"redis://me:{PASSWORD}/x@host:1"))
    assert PASSWORD not in str(raised.value)


def test_an_error_that_is_the_reason_of_its_own_reason_is_no_refusal() -> None:
    """A simulated member followed such two for ever."""
    first, second = KafkaError("first"), KafkaError("second")
    first.__cause__, second.__context__ = second, first
    assert kafka_refusal("broker:9092", PLAIN_KAFKA, first) is None
