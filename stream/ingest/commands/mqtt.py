"""`pathcast ingest mqtt`: what phones and trackers publish to an MQTT broker."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from stream.config.options import option, with_common
from stream.config.security import secret
from stream.ingest.running import DEFAULTS, IngestOptions, run

BROKER = "MQTT broker"  # panel of --help


@with_common
def mqtt(
    broker: Annotated[str, typer.Option("--broker", envvar="PATHCAST_MQTT_BROKER", metavar="HOST:PORT")],
    topic: Annotated[
        list[str], typer.Option("--topic", metavar="FILTER", help="such as 'owntracks/+/+'; give it again for more")
    ],
    format_: Annotated[
        str,
        typer.Option(
            "--format", metavar="NAME|FILE", help="of the messages: a preset (`pathcast ingest presets`), or a map"
        ),
    ] = "owntracks",
    client_id: Annotated[
        str | None,
        option(
            "--client-id",
            "MQTT_CLIENT_ID",
            "names our session at the broker; each process needs its own. Default: PREFIX-ingest",
            rich_help_panel=BROKER,
        ),
    ] = None,
    mqtt_version: Annotated[
        Literal["5", "3.1.1"], typer.Option("--mqtt-version", help="of the protocol", rich_help_panel=BROKER)
    ] = "5",
    in_flight: Annotated[
        int,
        typer.Option(
            "--in-flight",
            min=1,
            max=65_535,  # MQTT numbers them with 16 bits
            help="messages that the broker may send before one is acknowledged (MQTT 5)",
            rich_help_panel=BROKER,
        ),
    ] = 500,
    mqtt_user: Annotated[
        str | None,
        typer.Option(
            "--mqtt-user",
            envvar="PATHCAST_MQTT_USER",
            help="password: PATHCAST_MQTT_PASSWORD or ..._FILE",
            rich_help_panel=BROKER,
        ),
    ] = None,
    mqtt_tls: Annotated[bool, option("--mqtt-tls", "MQTT_TLS", "speak TLS, port 8883", rich_help_panel=BROKER)] = False,
    mqtt_ca: Annotated[
        Path | None,
        option("--mqtt-ca", "MQTT_CA", "CA of the broker, PEM; default: this machine's CAs", rich_help_panel=BROKER),
    ] = None,
    mqtt_cert: Annotated[
        Path | None,
        option("--mqtt-cert", "MQTT_CERT", "our own certificate, PEM, if the broker wants one", rich_help_panel=BROKER),
    ] = None,
    mqtt_key: Annotated[
        Path | None,
        option("--mqtt-key", "MQTT_KEY", "its key, PEM, if that is in another file", rich_help_panel=BROKER),
    ] = None,
    options: IngestOptions = DEFAULTS,
) -> None:
    """Take pings from an MQTT broker, until it is stopped.

    A message is acknowledged to the broker once Kafka has it. While Kafka is away the broker keeps what comes: set
    max_queued_messages 0 and persistence true in mosquitto.conf, or Mosquitto keeps 1,000 messages.

    [bold]Examples[/]

      pathcast ingest mqtt --broker localhost --topic 'owntracks/+/+' --bootstrap kafka:9092
      pathcast ingest mqtt --broker mqtt.example:8883 --mqtt-tls --mqtt-user pathcast --topic 'fleet/#' --format traccar
    """
    from stream.ingest.mqtt import transport
    from stream.ingest.mqtt.settings import PASSWORD, MqttSettings, address, format_of

    try:
        host, port = address(broker, tls=mqtt_tls)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--broker") from None
    try:
        known = format_of(format_)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--format") from None
    settings = MqttSettings(
        host=host,
        port=port,
        filters=tuple(topic),
        read=known.read,
        client_id=client_id or f"{options.common.prefix}-ingest",
        version=mqtt_version,
        in_flight=in_flight,
        user=mqtt_user,
        password=secret(PASSWORD),
        tls=mqtt_tls,
        ca=mqtt_ca,
        certificate=mqtt_cert,
        key=mqtt_key,
    )
    run(known.name, options, partial(transport.run, settings))
