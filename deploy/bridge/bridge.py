"""The bridge: one connection to the broker, what is known of the stations, and the languages that tell it.

Who is brittle and who is tolerant:

    configuration   Wrong: exit code 3 before anything listens, and systemd leaves it down.
    a port          Cannot be listened on: exit code 17.
    broker          May be away at any time and for days; every language says that its figures are stale.
    a client        Whatever it sends costs its own connection at most.
    a message       Not as its schema says: counted, logged once a minute, and not believed.
    a fault         In whatever task: the process ends with 1 and a traceback, and systemd starts a fresh one.

All in one thread, but for SQLite, what Prometheus is told, and the names of hosts.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
from collections.abc import Callable

from paho.mqtt.client import MQTTMessage

from deploy.bridge.broker import Broker
from deploy.bridge.config import BridgeConfig
from deploy.bridge.language import Language
from deploy.bridge.metrics import Metrics
from deploy.bridge.modbus import Modbus
from deploy.bridge.plant import Plant
from deploy.bridge.rest import Rest
from deploy.bridge.trigger import Triggers
from deploy.bridge.webhooks import Webhooks
from device.system import notify

log = logging.getLogger(__name__)


async def run(config: BridgeConfig) -> None:
    """Until SIGTERM or SIGINT. Raises the EdgeVisionError that ended it otherwise."""
    plant = Plant(
        config.mqtt.prefix,
        recent_events=config.http.recent_events,
        pictures_bytes=config.http.pictures_mib << 20 if config.http.enabled else 0,
    )
    triggers = Triggers(plant)
    broker = Broker(
        config.mqtt,
        config.mqtt.client_id or f"edgevision-bridge-{secrets.token_hex(4)}",
        (*plant.topics, triggers.topic),
        _ears(plant, triggers),
        lambda connected: plant.connection(connected=connected),
    )
    triggers.use(broker)
    languages = speak(config, plant, triggers)
    plant.listeners += [language.hear for language in languages]
    stopped = _stop_signal()
    talking = asyncio.create_task(broker.run())
    try:
        for language in languages:
            await language.open()
        notify.ready()
        await asyncio.wait((talking, stopped), return_when=asyncio.FIRST_COMPLETED)
        notify.stopping()
        if talking.done():
            talking.result()
    finally:
        talking.cancel()
        for language in languages:
            await language.close()


def speak(config: BridgeConfig, plant: Plant, triggers: Triggers) -> list[Language]:
    """The languages that are wanted."""
    languages: list[Language] = []
    webhooks = Webhooks(config) if config.webhooks.urls else None
    if config.modbus.enabled:
        languages.append(Modbus(config.modbus, plant, triggers))
    if config.http.enabled:
        with_plc = config.modbus.units.values() if config.modbus.enabled else ()
        languages.append(Rest(config.http, plant, triggers, with_plc))
    if webhooks is not None:
        languages.append(webhooks)
    if config.metrics.enabled:
        others = () if webhooks is None else (webhooks.counts,)
        languages.append(Metrics(config.metrics, plant, *others))
    return languages


def _ears(plant: Plant, triggers: Triggers) -> Callable[[MQTTMessage], None]:
    def hear(message: MQTTMessage) -> None:
        if "/response/" in message.topic:
            triggers.hear_answer(message)
        else:
            plant.hear(message.topic, bytes(message.payload), retained=message.retain)

    return hear


def _stop_signal() -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[None] = loop.create_future()

    def stop(name: str) -> None:
        log.info("%s: stopping", name)
        if not stopped.done():
            stopped.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    return stopped
