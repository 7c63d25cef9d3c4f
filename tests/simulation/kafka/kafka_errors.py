"""Names the error codes of Apache Kafka that aiokafka 0.14 does not know. aiokafka turns each into `UnknownError`."""

from __future__ import annotations

from aiokafka.errors import BrokerResponseError, UnknownError, for_code, kafka_errors


class FencedLeaderEpoch(BrokerResponseError):
    errno = 74
    message = "FENCED_LEADER_EPOCH"
    description = "The client knows an older leader epoch than the partition has."


class UnknownLeaderEpoch(BrokerResponseError):
    errno = 75
    message = "UNKNOWN_LEADER_EPOCH"
    description = "The client knows a newer leader epoch than the partition has."


class FencedInstanceId(BrokerResponseError):
    errno = 82
    message = "FENCED_INSTANCE_ID"
    description = "Another process has taken the place of this static member."


class InvalidRecord(BrokerResponseError):
    errno = 87
    message = "INVALID_RECORD"
    description = "A record of a compacted topic has no key."


class UnstableOffsetCommit(BrokerResponseError):
    errno = 88
    message = "UNSTABLE_OFFSET_COMMIT"
    description = "A transaction that has not ended would change the committed offset."
    retriable = True


BEYOND_AIOKAFKA: dict[int, type[BrokerResponseError]] = {
    one.errno: one
    for one in (FencedLeaderEpoch, UnknownLeaderEpoch, FencedInstanceId, InvalidRecord, UnstableOffsetCommit)
}


def error_of(code: int) -> type[BrokerResponseError]:
    """Returns the class of a broker's code, whether aiokafka knows it or not. Raises KeyError."""
    return kafka_errors[code] if code in kafka_errors else BEYOND_AIOKAFKA[code]


def as_client_sees(error: BrokerResponseError) -> BrokerResponseError:
    """Returns the error that aiokafka makes of the code of `error`."""
    known = for_code(error.errno)
    return error if known is not UnknownError else UnknownError(*error.args)
