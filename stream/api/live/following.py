"""Reads the forecasts topic into the table of newest forecasts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiokafka import AIOKafkaConsumer

from stream.api.live.newest import Newest, Published
from stream.api.live.topics import Source, TopicsFollowing, now_ms
from stream.kafka.records.record_columns import Records
from stream.wire import Topics


class Following(TopicsFollowing):
    """Follows all partitions of the forecasts topic."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        topics: Topics,
        newest: Newest,
        keep_ms: int,
        inputs: int,
        refusal: Callable[[BaseException], Exception | None] = lambda error: None,
    ) -> None:
        """Takes how many partitions the pings topic has, beside what `TopicsFollowing` takes."""
        super().__init__(consumer, [Source(topics.forecasts, self._update, keep_ms)], refusal, newest.expire)
        self._topics = topics
        self.inputs = inputs  # partitions of the pings topic
        self._newest = newest

    async def numbers(self) -> Mapping[str, set[int]]:
        client = self._consumer._client
        for topic in (self._topics.forecasts, self._topics.pings):
            await client.add_topic(topic)
        await client.force_metadata_update()
        self.inputs = len(client.cluster.partitions_for_topic(self._topics.pings) or ()) or self.inputs
        return {self._topics.forecasts: set(client.cluster.partitions_for_topic(self._topics.forecasts) or ())}

    def _update(self, records: Records) -> None:
        columns = zip(records.values.each(), records.timestamps_ms.tolist(), strict=True)
        self._newest.update([Published(value, time_ms) for value, time_ms in columns if value is not None], now_ms())
