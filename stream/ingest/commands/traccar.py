"""`pathcast ingest traccar`: what Traccar forwards into Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stream.config.options import with_common
from stream.ingest.running import DEFAULTS, IngestOptions, run, run_together

if TYPE_CHECKING:
    from stream.ingest.publishing.sink import Sink
    from stream.ingest.source import Source

BACK = "Forecasts back to Traccar"  # panel of --help


@with_common
def traccar(
    from_topic: Annotated[
        str, typer.Option("--from-topic", metavar="TOPIC", help="Traccar's forward.topic")
    ] = "positions",
    from_bootstrap: Annotated[
        str | None,
        typer.Option("--from-bootstrap", help="Kafka of that topic, where it is another one than --bootstrap"),
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", help="consumer group at that Kafka; default: PREFIX-ingest-traccar")
    ] = None,
    forecasts_to: Annotated[
        str | None,
        typer.Option(
            "--forecasts-to", metavar="URL", help="Traccar's OsmAnd port, http://HOST:5055", rich_help_panel=BACK
        ),
    ] = None,
    forecast_horizon: Annotated[
        float, typer.Option("--forecast-horizon", min=1, metavar="SECONDS", help="how far ahead", rich_help_panel=BACK)
    ] = 300.0,
    forecast_device: Annotated[
        str,
        typer.Option("--forecast-device", help="the device that shows it; {id} is the vehicle's", rich_help_panel=BACK),
    ] = "{id}-forecast",
    options: IngestOptions = DEFAULTS,
) -> None:
    """Take the positions that Traccar forwards into Kafka, until it is stopped.

    Traccar keys them by the id of its database; here they get the device's own id (uniqueId). Offsets of Traccar's
    topic are committed once Kafka has the pings. With --forecasts-to, each vehicle gets a second device in Traccar,
    which stands where the vehicle will be.

    [bold]Examples[/]

      pathcast ingest traccar --from-topic positions --bootstrap kafka:9092
      pathcast ingest traccar --from-topic positions --forecasts-to http://traccar:5055 --forecast-horizon 300
    """
    from stream.adapters.live.formats import traccar as adapter
    from stream.ingest import kafka_forward, traccar_back

    common = options.common
    if forecasts_to is not None and "{id}" not in forecast_device:
        raise typer.BadParameter("it must have {id} in it", param_hint="--forecast-device")
    if forecast_device == "{id}":
        raise typer.BadParameter("a forecast must not become a position of the vehicle", param_hint="--forecast-device")
    settings = kafka_forward.ForwardSettings(
        bootstrap=from_bootstrap or common.bootstrap,
        topic=from_topic,
        group=group or f"{common.prefix}-ingest-traccar",
        read=adapter.read,
        security=common.security,
    )
    back = (
        None
        if forecasts_to is None
        else traccar_back.BackSettings(
            bootstrap=common.bootstrap,
            topics=common.topics,
            group=f"{common.prefix}-to-traccar",
            url=forecasts_to,
            horizon_s=forecast_horizon,
            device=forecast_device,
            security=common.security,
        )
    )

    async def transport(sink: Sink, source: Source) -> None:
        if back is None:
            await kafka_forward.run(settings, sink, source)
            return
        await run_together(kafka_forward.run(settings, sink, source), traccar_back.run(back))

    run(adapter.NAME, options, transport)
