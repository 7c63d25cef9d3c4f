"""What is changed in aiokafka's consumers beside their records."""

from __future__ import annotations

import asyncio

from aiokafka.consumer.fetcher import Fetcher

from stream.kafka.patches import patch_aiokafka


async def test_who_stops_a_consumer_is_not_cancelled_by_the_requests_that_end_with_it() -> None:
    """One of them had not begun when it was cancelled: the error came out of `stop`, and ended a takeover."""
    patch_aiokafka()
    fetcher, waiter = Fetcher.__new__(Fetcher), asyncio.get_running_loop().create_future()
    routine, begun, new = (asyncio.create_task(asyncio.sleep(3600)) for _ in range(3))
    await asyncio.sleep(0)
    fetcher._fetch_task, fetcher._fetch_waiters = routine, {waiter}
    fetcher._pending_tasks = {begun, new, asyncio.create_task(asyncio.sleep(3600))}
    await fetcher.close()
    assert all(one.cancelled() for one in (routine, *fetcher._pending_tasks))
    assert waiter.done()
    assert fetcher._closed
