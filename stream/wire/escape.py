"""Makes text that others wrote safe to print. A sender may put any characters into a key, a value, a header or an id:
escape sequences that control a terminal, line ends that forge a line, and marks that reverse the direction of text.

Everything that prints such text passes it through here. Log lines write it with %r, which escapes the same characters.
"""

from __future__ import annotations

from typing import Final

MAX_SHOWN_CHARS: Final = 60  # of a sender's value inside a message


def escaped(text: str) -> str:
    """Returns the text with every character that is not printable as its Python escape: \\n, \\x1b, \\u202e.

    Printable is as `str.isprintable` defines it. It excludes C0 and C1 controls, line and paragraph separators, all
    format characters (which include the overrides of direction), and lone surrogates. The result is one line.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def escaped_json(raw: bytes) -> bytes:
    """Returns JSON with the same strings, in which every character that is not printable is a \\u escape."""
    text = raw.decode(errors="backslashreplace")
    if text.isprintable():
        return raw
    return "".join(char if char.isprintable() else _json_escape(char) for char in text).encode()


def shown(value: object) -> str:
    """Returns a sender's value in ASCII, in quotes if it is a text, and at most some 60 characters long.

    It is for the messages of rejects. What is printable differs between releases of Python, and a replay on another one
    must give the same message; ASCII does not differ.
    """
    if isinstance(value, int) and abs(value) > 10**MAX_SHOWN_CHARS:
        return "an enormous integer"  # str() of it takes quadratic time, or is refused
    text = ascii(value[:MAX_SHOWN_CHARS] if isinstance(value, str) else value)
    return text[: MAX_SHOWN_CHARS + 2]  # cut again: an escaped character may have become ten


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
