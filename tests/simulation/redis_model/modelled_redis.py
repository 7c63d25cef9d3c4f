"""A model of Redis: a state machine that takes one command after the other. It knows the time by its clock alone.

    server = RedisServer(clock)
    server.execute("SET", "key", b"value", "PX", 1000)

It keeps the promises that Redis 7 keeps to our code, and no more: tests/simulation/models holds it to a real server.
What a server may suffer is a method each: `evict_some`, `lose_all`, `restore`, `refuse`, `restart`. One that is killed
and had written its last seconds to no disk is a `snapshot`, `away`, and a `restart` with the snapshot.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import redis_collections  # noqa: F401 - enters its commands
import redis_keys  # noqa: F401 - the same
import redis_strings  # noqa: F401 - the same
from redis_commands import ALWAYS, COMMANDS, NO_SCRIPT, OK, OWN, WRITE, Arguments, Command, Reply, Status, plain
from redis_refusals import REFUSALS, judge, judge_in_script
from redis_scripting import Scripts, script_hash, split
from redis_values import Database, RedisFault, Snapshot

_scripts: Final = Scripts()
NOSCRIPT: Final = "NOSCRIPT No matching script. Please use EVAL."


class RedisServer:
    """One server with one database."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Takes its wall clock, in seconds since 1970."""
        self.clock = clock
        self.data = Database()
        self.away = False  # its machine refuses connections, and resets those that there are
        self.refusals: set[str] = set()
        self.refused_prefix = b""  # of keys whose node is away, as in a cluster; empty: none is
        self.cached: dict[bytes, bytes] = {}  # scripts by their hashes
        self.calls: Counter[bytes] = Counter()  # of each command, those of scripts too
        self.life = 0  # rises when it starts: connections of an earlier life are broken

    # -- what clients ask

    def connect(self) -> Session:
        """Returns a new connection. Raises ConnectionRefusedError."""
        if self.away:
            raise ConnectionRefusedError("Connection refused")
        return Session(self)

    def execute(self, *arguments: bytes | str | int | float) -> Reply:
        """Does one command, as a new connection's that speaks RESP2. Raises RedisFault, ConnectionError."""
        made = [one if isinstance(one, bytes) else str(one).encode() for one in arguments]
        return plain(self.connect().execute(made))

    def do(self, arguments: Arguments) -> Reply:
        """Does one command. Raises RedisFault."""
        name = arguments[0].upper()
        now_s = self.clock()
        self.data.now_ms = int(now_s * 1000)
        found = _checked(name, arguments)
        if self.refusals:
            self.refuse_or_go_on(name, found, arguments)
        if self.refused_prefix and any(one.startswith(self.refused_prefix) for one in arguments[1:5]):
            raise RedisFault("CLUSTERDOWN Hash slot not served")
        self.calls[name] += 1
        return found.run(self if found.flags & OWN else self.data, arguments[1:])

    def refuse_or_go_on(self, name: bytes, found: Command, arguments: Arguments) -> None:
        """Raises RedisFault if this server refuses such a command at present."""
        is_known = name not in (b"EVALSHA", b"EVALSHA_RO") or arguments[1].lower() in self.cached
        words = judge(self.refusals, name, found, is_known=is_known)
        if words is not None:
            raise RedisFault(words)

    def run_script(self, text: bytes, arguments: Arguments, *, read_only: bool) -> Reply:
        """Runs a script in one step. What is refused is refused until it has written something."""
        keys, values = split(arguments)
        data, calls, wrote = self.data, self.calls, False

        def call(one: Arguments) -> Reply:
            nonlocal wrote
            if not one:
                raise RedisFault("ERR Please specify at least one argument for this redis.call() call")
            name = one[0].upper()
            found = COMMANDS.get(name)
            if found is None:
                raise RedisFault("ERR Unknown Redis command called from script")
            if (len(one) != found.arity) if found.arity > 0 else len(one) < -found.arity:
                raise RedisFault("ERR Wrong number of args calling Redis command from script")
            if found.flags & NO_SCRIPT:
                raise RedisFault("ERR This Redis command is not allowed from script")
            if found.flags & WRITE:
                if read_only:
                    raise RedisFault("ERR Write commands are not allowed from read-only scripts.")
                if self.refusals and not wrote and (words := judge_in_script(self.refusals, found)):
                    raise RedisFault(words)
                wrote = True
            calls[name] += 1
            return found.run(self if found.flags & OWN else data, one[1:])

        return _scripts.run(text, keys, values, call)

    # -- what it suffers

    def evict(self, keys: Iterable[bytes]) -> list[bytes]:
        """Removes these keys, as if memory had been short. Returns those that were there."""
        return [key for key in keys if self.data.delete(key)]

    def evict_some(self, chance: random.Random, share: float, *, volatile: bool = True) -> list[bytes]:
        """Removes about a share of all keys, or only of those that expire at some time (the policies `volatile-*`)."""
        keys = sorted(self.data.expires_ms if volatile else self.data.values)
        return self.evict([key for key in keys if chance.random() < share])

    def lose_all(self) -> None:
        """Loses all data, as by FLUSHALL. Scripts and connections stay."""
        self.data.clear()

    def snapshot(self) -> Snapshot:
        return Snapshot(self.data.values, self.data.expires_ms)

    def restore(self, snapshot: Snapshot) -> None:
        """Holds an older copy from now on, behind connections that stay, as a proxy's do when another server takes over
        that lagged. That one knows no script."""
        self.data.load(snapshot)
        self.cached.clear()

    def restart(self, snapshot: Snapshot | None = None) -> None:
        """Starts anew, with what a snapshot holds or with nothing, and knows no script. All connections break: clients
        hear of it when they use them."""
        self.data.clear()
        if snapshot is not None:
            self.data.load(snapshot)
        self.cached.clear()
        self.break_connections()

    def break_connections(self) -> None:
        self.life += 1

    def refuse(self, kind: str, *, on: bool = True) -> None:
        """Refuses from now on what REFUSALS has under this name, or does so no more."""
        if kind not in REFUSALS:
            raise ValueError(f"a kind of refusal is one of {', '.join(REFUSALS)}, not {kind!r}")
        (self.refusals.add if on else self.refusals.discard)(kind)

    def flush_scripts(self) -> None:
        self.cached.clear()


class Session:
    """One connection at the server's end: what it speaks, and the commands that wait for an EXEC."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.life = server.life
        self.queued: list[Arguments] | None = None
        self.is_aborted = False

    @property
    def is_broken(self) -> bool:
        return self.life != self.server.life or self.server.away

    def execute(self, arguments: Arguments) -> Reply:
        """Does one command. Raises RedisFault, or ConnectionError if the server has gone meanwhile."""
        if self.is_broken:
            raise ConnectionResetError("Connection reset by peer")
        name = arguments[0].upper()
        if name == b"MULTI":
            self.queued, self.is_aborted = [], False
            return OK
        if self.queued is None:
            if name in (b"EXEC", b"DISCARD"):
                raise RedisFault(f"ERR {name.decode()} without MULTI")
            return self.server.do(arguments)
        return self._in_transaction(name, arguments)

    def _in_transaction(self, name: bytes, arguments: Arguments) -> Reply:
        assert self.queued is not None
        if name not in (b"EXEC", b"DISCARD"):
            try:
                found = _checked(name, arguments)
                self.server.refuse_or_go_on(name, found, arguments)
            except RedisFault:
                self.is_aborted = True
                raise
            self.queued.append(arguments)
            return Status(b"QUEUED")
        queued, self.queued = self.queued, None
        if name == b"DISCARD":
            return OK
        if self.is_aborted:
            raise RedisFault("EXECABORT Transaction discarded because of previous errors.")
        return [self.attempt(one) for one in queued]

    def attempt(self, arguments: Arguments) -> Reply:
        """Does one command, and returns its reply, or its error as such."""
        try:
            return self.execute(arguments)
        except RedisFault as fault:
            return fault

    def attempt_all(self, batch: list[Arguments]) -> list[Reply]:
        return [self.attempt(arguments) for arguments in batch]


def _checked(name: bytes, arguments: Arguments) -> Command:
    found = COMMANDS.get(name)
    if found is None:
        raise RedisFault(f"ERR unknown command '{arguments[0].decode(errors='replace')}', with args beginning with: ")
    if (len(arguments) != found.arity) if found.arity > 0 else len(arguments) < -found.arity:
        raise RedisFault(f"ERR wrong number of arguments for '{name.decode().lower()}' command")
    return found


# -- commands of the server itself


def _eval(server: RedisServer, arguments: Arguments, read_only: bool = False) -> Reply:
    _scripts.compile(arguments[0])
    server.cached[script_hash(arguments[0])] = arguments[0]
    return server.run_script(arguments[0], arguments[1:], read_only=read_only)


def _evalsha(server: RedisServer, arguments: Arguments, read_only: bool = False) -> Reply:
    text = server.cached.get(arguments[0].lower())
    if text is None:
        raise RedisFault(NOSCRIPT)
    return server.run_script(text, arguments[1:], read_only=read_only)


def _script(server: RedisServer, arguments: Arguments) -> Reply:
    what = arguments[0].upper()
    if what == b"LOAD" and len(arguments) == 2:
        _scripts.compile(arguments[1])
        server.cached[script_hash(arguments[1])] = arguments[1]
        return script_hash(arguments[1])
    if what == b"EXISTS":
        return [int(one.lower() in server.cached) for one in arguments[1:]]
    if what == b"FLUSH":
        server.flush_scripts()
        return OK
    raise RedisFault(f"ERR unknown subcommand '{arguments[0].decode()}'. Try SCRIPT HELP.")


def _time(server: RedisServer, arguments: Arguments) -> Reply:
    at_us = int(server.clock() * 1_000_000)
    return [b"%d" % (at_us // 1_000_000), b"%d" % (at_us % 1_000_000)]


def _ping(server: RedisServer, arguments: Arguments) -> Reply:
    return arguments[0] if arguments else Status(b"PONG")


def _hello(server: RedisServer, arguments: Arguments) -> Reply:
    return {b"server": b"redis", b"version": b"7.0.15", b"proto": 3, b"id": 1, b"mode": b"standalone"}


def _client(server: RedisServer, arguments: Arguments) -> Reply:
    """What redis-py says of itself when it connects. Redis 7.0, to which the model is held, knows nothing of it."""
    if arguments[0].upper() == b"SETNAME":
        return OK
    raise RedisFault(f"ERR unknown subcommand '{arguments[0].decode()}'. Try CLIENT HELP.")


def _config(server: RedisServer, arguments: Arguments) -> Reply:
    if arguments[0].upper() == b"RESETSTAT":
        server.calls.clear()
        return OK
    raise RedisFault(f"ERR the model knows no CONFIG {arguments[0].decode()}")


def _info(server: RedisServer, arguments: Arguments) -> Reply:
    lines = ["# Memory", "maxmemory:0", "maxmemory_policy:noeviction", "# Commandstats"]
    lines += [f"cmdstat_{name.decode().lower()}:calls={calls}" for name, calls in server.calls.items()]
    return "\r\n".join(lines).encode()


def _select(server: RedisServer, arguments: Arguments) -> Reply:
    if arguments[0] != b"0":
        raise RedisFault("ERR DB index is out of range")
    return OK


_QUIET: Final = OWN | ALWAYS | NO_SCRIPT
COMMANDS.update(
    {
        b"EVAL": Command(_eval, -3, OWN | NO_SCRIPT),
        b"EVALSHA": Command(_evalsha, -3, OWN | NO_SCRIPT),
        b"EVAL_RO": Command(lambda server, rest: _eval(server, rest, True), -3, OWN | NO_SCRIPT),
        b"EVALSHA_RO": Command(lambda server, rest: _evalsha(server, rest, True), -3, OWN | NO_SCRIPT),
        b"SCRIPT": Command(_script, -2, OWN | NO_SCRIPT),
        b"PING": Command(_ping, -1, OWN),
        b"TIME": Command(_time, 1, OWN | ALWAYS),
        b"HELLO": Command(_hello, -1, _QUIET),
        b"CLIENT": Command(_client, -2, _QUIET),
        b"CONFIG": Command(_config, -2, _QUIET),
        b"INFO": Command(_info, -1, _QUIET),
        b"SELECT": Command(_select, 2, _QUIET),
    }
)
