"""Describes a partition as a log: what a consumer group commits of it, its bounds, and whether it was cut since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

Partition = tuple[str, int]  # topic, number
EPOCH: Final = "epoch="


class History(NamedTuple):
    """Holds what a committed offset records about its log, so that a later owner can notice that the log is another
    one.
    """

    topic_id: str = ""  # a topic that is created again gets another id. Empty: unknown
    leader_epoch: int = -1  # of the last record that was answered, or of a later one; -1: unknown
    lost: int = 0  # how many records retention deleted before they were answered, in total
    cut: int = -1  # the lowest offset to which the log was ever truncated while it was answered; -1: it never was

    @property
    def pairs(self) -> list[str]:
        """Returns each value that is known, as `name=value`."""
        fields = zip(self._fields, self, strict=True)
        return [f"{name}={value}" for name, value in fields if value != self._field_defaults[name]]

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> History:
        """Returns the history of such pairs. What is missing or has an unknown form is unknown."""
        return cls(fields.get("topic_id", ""), *(_number(fields, name) for name in cls._fields[1:]))


UNKNOWN: Final = History()


class CommittedOffset(NamedTuple):
    """Holds what a consumer group commits for a partition: the next offset to read, and as its metadata the owner's
    epoch and the history of the log: `epoch=3;topic_id=5f0e;leader_epoch=2`.

    The epoch is in it so that it survives a Redis that lost its own copy (`stream.store.base`).
    """

    offset: int
    epoch: int = 0
    history: History = UNKNOWN

    @property
    def metadata(self) -> str:
        return ";".join([f"{EPOCH}{self.epoch}", *self.history.pairs])

    @classmethod
    def of(cls, offset: int, metadata: str) -> CommittedOffset:
        """Parses the metadata. The epoch is 0 if the metadata is not ours: an operator has moved the group, or an
        earlier version committed. Every other value that is missing or has an unknown form is unknown."""
        fields = _fields(metadata)
        return cls(offset, max(0, _number(fields, EPOCH.removesuffix("="), 0)), History.of(fields))


def _fields(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in text.split(";") if "=" in pair)


def _number(fields: Mapping[str, str], name: str, default: int | None = None) -> int:
    value = fields.get(name, "")
    return int(value) if value.isdecimal() else History._field_defaults[name] if default is None else default


class Bounds(NamedTuple):
    """The offsets that a partition's log still contains: begin <= offset < end."""

    begin: int
    end: int


class Log(NamedTuple):
    """Holds what the brokers report of a partition's log to a reader that has read it up to some leader epoch.

    Kafka counts the leaders of a partition by epochs, and each record has the epoch of its leader. The offset at which
    the records of an epoch end shows which records a later leader did not have (KIP-101, KIP-320).
    """

    begin: int
    end: int
    topic_id: str = ""  # empty: these brokers have no topic ids
    kept: int | None = None  # below this offset, the log has the records that readers of that epoch got; None: unknown
    kept_epoch: int = -1  # the leader epoch of the record before `kept`
    leader_epoch: int = -1  # of the present leader; -1: unknown


def find_cut(offset: int, history: History, log: Log) -> int | None:
    """Returns the offset at which the log was cut; None if it was not.

    `history` is what the log's reader knows of it below `offset`.
    """
    if history.topic_id and log.topic_id and history.topic_id != log.topic_id:
        return log.begin
    if log.kept is not None:
        return max(log.kept, log.begin) if log.kept < offset else None
    return log.begin if offset > log.end else None


class Seen(NamedTuple):
    """Holds what a member of a group knows of a log. It is stored beside the offset at which the log goes on, so that
    whoever goes on there can notice that the log is another one: `read=41;topic_id=5f0e;leader_epoch=2`.
    """

    read: int = -1  # the offset after the last record that was read; -1: unknown. That of a marker may be between
    history: History = UNKNOWN

    @property
    def text(self) -> str:
        return ";".join([f"read={self.read}", *self.history.pairs])

    @classmethod
    def of(cls, text: str) -> Seen:
        """Parses the text. What is missing, as earlier releases leave it, is unknown."""
        fields = _fields(text)
        return cls(_number(fields, "read", -1), History.of(fields))

    def after(self, next_offset: int, leader_epoch: int) -> Seen:
        """Returns what is known after more records; those that were read before change nothing."""
        if next_offset <= self.read:
            return self
        known = self.history.leader_epoch if leader_epoch == -1 else leader_epoch
        return Seen(next_offset, self.history._replace(leader_epoch=known))


class Start(NamedTuple):
    """Says where a member goes on in a log, and what has become of the log since."""

    offset: int
    seen: Seen
    log: Log
    kept: int  # no record from here on is one that was read
    is_cut: bool = False  # the log lacks records that were read
    is_guess: bool = False  # it does, and nobody can tell from where on: `kept` is its beginning
    lost: int = 0  # offsets that retention deleted unread; the records may be fewer
    why: str = ""  # for the log; empty in the ordinary case


def start_of(stored: int | None, seen: Seen, log: Log) -> Start:
    """Returns where to go on in a log of which all below `stored` was read, and `seen` is known. Without a stored
    offset it begins with the first record.

    Records up to `seen.read` decide whether the log was cut, because the epochs of markers are not known. It goes on
    where the records end that were kept all the same: of a marker that is read again nothing comes.
    """
    known = seen.history
    epoch = known.leader_epoch if log.leader_epoch == -1 else log.leader_epoch
    now = known._replace(topic_id=log.topic_id or known.topic_id, leader_epoch=epoch)
    if stored is None:
        return Start(log.begin, Seen(log.begin, now), log, log.begin)
    read = stored if seen.read == -1 else seen.read
    cut = find_cut(read if log.kept is not None else max(read, stored), known, log)
    if cut is None:
        kept = log.end if log.kept is None else log.kept
        offset, lost = max(log.begin, min(stored, kept)), max(0, log.begin - stored)
        why = f"retention deleted the offsets from {stored} to {log.begin} unread" if lost else ""
        return Start(offset, Seen(read, now), log, kept, lost=lost, why=why)
    if log.leader_epoch == -1:
        now = now._replace(leader_epoch=log.kept_epoch if log.kept == cut else -1)
    is_another = bool(known.topic_id and log.topic_id and known.topic_id != log.topic_id)
    is_guess = log.kept is None and not is_another
    what = f"the topic was made anew, and all below {read} of the one before was read: records from {cut} on are new"
    if not is_another:
        what = f"the log was shortened to {cut}, and all below {read} was read: records from {cut} on are new"
    if is_guess:
        what = f"the log ends at {log.end}, and all below {max(read, stored)} was read: it is read anew from {cut} on"
    offset = cut if is_another else max(log.begin, min(stored, cut))
    return Start(offset, Seen(min(read, cut), now), log, cut, is_cut=True, is_guess=is_guess, why=what)


class Rebalanced(Exception):
    """The group has a newer generation: another member may commit these offsets, we may not."""
