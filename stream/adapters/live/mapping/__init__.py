"""Reads JSON messages of other systems by a map: a file that says where each field of a ping is, and in which unit.

definition   the file: its form, and what is wrong with it
paths        where a value lies in a message
units        what a value becomes
reading      messages to pings
"""

from stream.adapters.live.mapping.definition import MapError, MessageMap, Signed, load, parse
from stream.adapters.live.mapping.reading import MapReader

__all__ = ["MapError", "MapReader", "MessageMap", "Signed", "load", "parse"]
