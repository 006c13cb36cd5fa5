"""What a station hears from its broker, where enabled: commands, and that Home Assistant has come on."""

from __future__ import annotations

import logging
from pathlib import Path

from device.config import Config
from device.errors import StorageError
from device.mqtt import home_assistant
from device.mqtt.audit import AuditLog
from device.mqtt.commands import Actions, Commands, Request
from device.mqtt.connection import IncomingMessage
from device.mqtt.publisher import Publisher
from device.system import durable

log = logging.getLogger(__name__)

INTRODUCED_FILE = "home-assistant"  # in the state folder: the topic of the introduction


def take_commands(config: Config, publisher: Publisher, actions: Actions, session_id: str) -> None:
    """Subscribe to the commands, where [commands] enables them. Raises StorageError: the audit log."""
    if not config.commands.taken:
        return

    def answer(topic: str, payload: str, correlation: bytes | None) -> None:
        publisher.send(topic, payload, 0, {"CorrelationData": correlation} if correlation else None)

    commands = Commands(
        actions,
        answer,
        AuditLog(config.state),
        session_id,
        allow=config.commands.taken,
        rate_hz=config.commands.rate_hz,
    )
    root = config.root
    publisher.subscribe(
        "cmd/+", lambda incoming: commands.handle(Request.of(incoming, root)), as_published=True
    )
    log.info("commands are taken: %s", ", ".join(config.commands.taken))


def introduce(config: Config, publisher: Publisher, model_id: str) -> None:
    """Tell Home Assistant what this station is, on every connect and whenever it comes on.

    All other state is retained, which it hears by itself. Where it is no longer enabled, what was said before
    is taken back.
    """
    topic = home_assistant.discovery_topic(config.home_assistant.prefix, config.station)
    mark = config.state / INTRODUCED_FILE
    if not config.home_assistant.enabled:
        if _read(mark) == topic:  # nothing is written on a topic that may be nobody's
            publisher.set_state(topic, b"", absolute=True)
        return

    def hear(incoming: IncomingMessage) -> None:
        if incoming.payload == b"online" and not incoming.retained:
            publisher.repeat(topic)

    _remember(mark, topic)
    describe(config, publisher, model_id)
    publisher.subscribe(f"{config.home_assistant.prefix}/status", hear, absolute=True)


def describe(config: Config, publisher: Publisher, model_id: str) -> None:
    """What Home Assistant is told of the station and its model, where it is enabled."""
    if not config.home_assistant.enabled:
        return
    message = home_assistant.discovery(
        config.root,
        config.station,
        model_id,
        picture=config.archive.publish_image_max_bytes > 0,
        trigger="trigger" in config.offered,
    )
    topic = home_assistant.discovery_topic(config.home_assistant.prefix, config.station)
    publisher.set_state(topic, message, absolute=True)


def _read(mark: Path) -> str | None:
    """The topic on which this station has introduced itself; None where it never has."""
    try:
        return mark.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _remember(mark: Path, topic: str) -> None:
    """So that it can be taken back; a disk that does not keep it is no fault."""
    if _read(mark) == topic:
        return
    try:
        durable.write(mark, topic.encode())
    except StorageError as error:
        log.warning("%s: what Home Assistant is told now must be taken back by hand one day", error)
