"""Runs our Lua scripts as they are, in the Lua 5.1 that Redis has, too (lupa).

fakeredis would run them as well, in a Lua state of its own for each call, which costs more than all else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha1
from typing import Any, Final

from lupa import lua51
from redis_commands import NOT_AN_INTEGER, Arguments, Reply, Status, integer, plain
from redis_values import RedisFault

Call = Callable[[Arguments], Reply]

_PRELUDE: Final = rb"""
function(call, try, unpack_struct, sha1hex)
    redis = {
        call = call, pcall = try, sha1hex = sha1hex,
        error_reply = function(text) return {err = text} end,
        status_reply = function(text) return {ok = text} end,
    }
    struct = {unpack = unpack_struct}
    os, io, require, module, dofile, loadfile, package, python = nil
    setmetatable(_G, {
        __newindex = function(_, name) error('Attempt to modify a readonly table') end,
        __index = function(_, name)
            error("Script attempted to access nonexistent global variable '" .. name .. "'")
        end,
    })
end
"""


class Scripts:
    """Compiles scripts once, and runs them. One Lua state serves all servers: a script leaves nothing in it."""

    def __init__(self) -> None:
        self._lua = lua51.LuaRuntime(
            encoding=None, unpack_returned_tuples=True, register_eval=False, register_builtins=False
        )
        self._table = self._lua.table_from
        self._compiled: dict[bytes, Any] = {}  # by the text
        self._call: Call = _nobody
        self._lua.eval(_PRELUDE)(self._do, self._try, _unpack, _sha1hex)

    def run(self, text: bytes, keys: Arguments, values: Arguments, call: Call) -> Reply:
        """Runs a script, whose commands go to `call`. Raises RedisFault."""
        compiled = self.compile(text)
        outer, self._call = self._call, call
        try:
            return self._reply(compiled(self._table(keys), self._table(values)))
        except RedisFault as fault:
            raise RedisFault(f"{fault} script: {script_hash(text).decode()}, on @user_script:0.") from None
        except lua51.LuaError as error:
            raise RedisFault(f"ERR {error} script: {script_hash(text).decode()}, on @user_script:0.") from None
        finally:
            self._call = outer

    def compile(self, text: bytes) -> Any:
        """Raises RedisFault if that is no Lua."""
        found = self._compiled.get(text)
        if found is None:
            try:
                found = self._compiled[text] = self._lua.eval(b"function(KEYS, ARGV) " + text + b"\nend")
            except lua51.LuaError as error:
                raise RedisFault(f"ERR Error compiling script (new function): {error}") from None
        return found

    def _do(self, *arguments: bytes | int | float) -> Any:
        reply = self._call([one if type(one) is bytes else _argument(one) for one in arguments])
        kind = type(reply)
        if kind is bytes or kind is int:
            return reply
        return self._value(reply)

    def _try(self, *arguments: bytes | int | float) -> Any:
        try:
            return self._do(*arguments)
        except RedisFault as fault:
            return self._lua.table_from({b"err": str(fault).encode()})

    def _value(self, reply: Reply) -> Any:
        """Returns a reply as Lua has it."""
        if reply is None:
            return False
        if isinstance(reply, Status):
            return self._lua.table_from({b"ok": bytes(reply)})
        reply = plain(reply)
        if isinstance(reply, list):
            return self._table([self._value(one) for one in reply])
        return reply

    def _reply(self, value: Any) -> Reply:
        """Returns what a script returned as a reply. A list ends before its first nil."""
        if value is None or value is False:
            return None
        if value is True:
            return 1
        if isinstance(value, float):
            return int(value)
        if isinstance(value, bytes | int):
            return value
        if value[b"err"] is not None:
            raise RedisFault(value[b"err"].decode())
        if value[b"ok"] is not None:
            return Status(value[b"ok"])
        found: list[Reply] = []
        while (one := value[len(found) + 1]) is not None:
            found.append(self._reply(one))
        return found


def _nobody(arguments: Arguments) -> Reply:
    raise AssertionError("no script runs")


def _argument(value: Any) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RedisFault("ERR Lua redis lib command arguments must be strings or integers")
    return b"%.17g" % value


@lru_cache(100)
def script_hash(text: bytes) -> bytes:
    return sha1(text).hexdigest().encode()


def _sha1hex(text: bytes) -> bytes:
    return sha1(text).hexdigest().encode()


@lru_cache(100)
def _layout(format_: bytes) -> struct.Struct:
    """Returns a format of Lua's library `struct` as Python's. Of its formats there are those that our scripts use."""
    letters = {b"I4": "I", b"I2": "H", b"I1": "B", b"B": "B"}
    order, rest, made = format_[:1].decode(), format_[1:], ""
    assert order in "<>", f"the model knows no {format_!r}"
    while rest:
        name = next((one for one in letters if rest.startswith(one)), None)
        assert name is not None, f"the model knows no {format_!r}"
        made += letters[name]
        rest = rest[len(name) :]
    return struct.Struct(order + made)


def _unpack(format_: bytes, raw: bytes, at: int = 1) -> tuple[int, ...]:
    """Returns the numbers, and where to read on."""
    layout = _layout(format_)
    if at < 1 or at - 1 + layout.size > len(raw):
        raise RedisFault("ERR data string too short")
    return (*layout.unpack_from(raw, at - 1), at + layout.size)


def split(arguments: Arguments) -> tuple[Arguments, Arguments]:
    """Returns KEYS and ARGV of what follows a script's text or hash. Raises RedisFault."""
    many = integer(arguments[0], NOT_AN_INTEGER)
    if many < 0:
        raise RedisFault("ERR Number of keys can't be negative")
    if many > len(arguments) - 1:
        raise RedisFault("ERR Number of keys can't be greater than number of args")
    return arguments[1 : 1 + many], arguments[1 + many :]
