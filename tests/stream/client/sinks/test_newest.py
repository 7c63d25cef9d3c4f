"""Which forecast of an entity counts, and what a store is told of it."""

from __future__ import annotations

import random

from client_rig import T0, forecast

from stream.client.reader import Received
from stream.client.sinks.redis_geo import NewestForecast, newest_of, places_of
from stream.wire import Forecast


def received(one: Forecast, offset: int, published_ms: int = T0) -> Received[Forecast]:
    return Received(one, 0, offset, published_ms)


def test_the_later_anchor_counts_whatever_the_order() -> None:
    late, newest = forecast(step=1), forecast(step=2)
    for order in ([late, newest], [newest, late]):
        found = newest_of(received(one, n) for n, one in enumerate(order))
        assert found["bus-1"].forecast == newest


def test_an_entity_was_heard_when_any_of_its_forecasts_was_published() -> None:
    """A late ping of an entity shows that it is not silent, though it moves nothing."""
    found = newest_of([received(forecast(step=2), 0, T0), received(forecast(step=1), 1, T0 + 5_000)])
    assert found["bus-1"] == NewestForecast(forecast(step=2), T0 + 5_000)


def test_batches_in_pieces_give_what_one_batch_gives() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    all_of_it = [received(forecast(f"bus-{rng.randrange(5)}", rng.randrange(9)), n, T0 + n) for n in range(200)]
    at = rng.randrange(200)
    first, second = newest_of(all_of_it[:at]), newest_of(all_of_it[at:])
    for entity, one in newest_of(all_of_it).items():
        parts = [part[entity] for part in (first, second) if entity in part]
        assert one.forecast.anchor.ts == max(part.forecast.anchor.ts for part in parts)
        assert one.heard_ms == max(part.heard_ms for part in parts)


def test_places_are_named_by_their_horizons() -> None:
    places = places_of(forecast(lon=179.9997))
    assert list(places) == ["now", "next", "60s", "300s", "900s"]
    assert places["now"] == (30.0, 179.9997)
    assert places["next"][1] < -179.99, "the next step lies across the 180th meridian"
