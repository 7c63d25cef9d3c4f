"""Runs the parts of a server side by side until it is to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


async def run_parts(parts: Iterable[Coroutine[Any, Any, None]], stopping: asyncio.Event) -> None:
    """Runs all parts until `stopping` is set, and cancels them then. Raises what ends a part: none should end."""
    tasks = [asyncio.create_task(part) for part in parts]
    waiting = asyncio.create_task(stopping.wait())
    try:
        done, _ = await asyncio.wait([*tasks, waiting], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (*tasks, waiting):
            task.cancel()
        await asyncio.gather(*tasks, waiting, return_exceptions=True)
