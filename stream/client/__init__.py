"""Subscribes to forecasts and gap fills from Python, carries them into other stores, and exports them.

    from stream.client import Forecasts

    for forecast in Forecasts("localhost:9092", entity="bus-7", since="10m"):
        print(forecast.anchor.ts, forecast.horizons[0].lat, forecast.horizons[0].lon)

A subscriber needs neither the model nor its compiler: this room stands on the records, the settings and Kafka's client.

    forecasts      Forecasts, GapFills
    subscription   what they share: iterators and async iterators, and an event loop in a thread for plain loops
    reader         the topic: committed records, positions, outages
    connecting     what the reader asks of Kafka's client
    filter         which records: of which kind, since when, of whom, where, each once
    frames         tables of pandas and geopandas
    regions        90 % regions as polygons
    sinks          pathcast export redis, postgis: Redis GEO, PostGIS
    exporting      pathcast export: GeoJSON, MF-JSON, CSV
"""

from stream.client.forecasts import Forecasts, GapFills
from stream.client.subscription import Subscription
from stream.config.security import KafkaSecurity, Mechanism, Protocol
from stream.wire import Forecast, GapFill
from stream.wire.positions import covariance_at, position_at

__all__ = [
    "Forecast",
    "Forecasts",
    "GapFill",
    "GapFills",
    "KafkaSecurity",
    "Mechanism",
    "Protocol",
    "Subscription",
    "covariance_at",
    "position_at",
]
