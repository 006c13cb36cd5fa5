"""A message to people when a station needs them: from MQTT to a webhook (Slack, Mattermost, your own).

    WEBHOOK_URL=https://... MQTT_PASSWORD=... python3 notify.py --host BROKER [--user wall] [--streak 3]

Posts {"text": "press-4: ..."} for

    a station that is gone, or back             status
    a health that becomes degraded or alert     health, with its reasons; and when it is ready again
    so many NG one after the other              inspection

The same is not told twice within --quiet seconds, so that a lamp that flickers does not flood a channel; what
is retained when this starts is told only where something is wrong. Needs paho-mqtt alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import queue
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

log = logging.getLogger("notify")

TOPICS = ("status", "health", "inspection")
POST_S = 10.0
TRIES = 5
_KNOWN = 10_000  # stations


@dataclass
class Watch:
    """What is known of the stations; take() gives the sentences that a message is worth."""

    prefix: str
    streak: int
    status: dict[str, str] = field(default_factory=dict)
    health: dict[str, str] = field(default_factory=dict)
    row: Counter[str] = field(default_factory=Counter)
    last: dict[str, str] = field(default_factory=dict)  # event id: QoS 1 may deliver twice

    def take(self, topic: str, payload: bytes) -> Iterator[str]:
        """`topic` as it arrived. What is not understood is worth nothing."""
        station, _, kind = topic.removeprefix(f"{self.prefix}/").partition("/")
        if station not in self.status and len(self.status) >= _KNOWN:
            return
        self.status.setdefault(station, "")
        try:
            if kind == "status":
                yield from self._of_status(station, payload.decode())
            elif kind == "health":
                yield from self._of_health(station, json.loads(payload))
            elif kind == "inspection":
                yield from self._of_verdict(station, json.loads(payload))
        except (UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s: not understood: %r", topic, error)

    def _of_status(self, station: str, status: str) -> Iterator[str]:
        before, self.status[station] = self.status[station], status
        if status == "offline" != before:
            yield f"{station}: offline (fault, power or network)"
        elif status == "online" and before == "offline":
            yield f"{station}: online again"

    def _of_health(self, station: str, content: dict[str, Any]) -> Iterator[str]:
        state, roles = content["state"], content["roles"]
        wrong = [(name, role) for name, role in roles.items() if role["state"] in ("warn", "alert")]
        # what somebody has acknowledged on the dashboard is no news
        news = {f"{name} {role['reason']}" for name, role in wrong if not role.get("acknowledged")}
        told = (" ".join(sorted(news)) or "seen") if state in ("degraded", "alert") else state
        before, self.health[station] = self.health.get(station, "ready"), told
        if state in ("degraded", "alert") and news and told != before:
            reasons = "; ".join(f"{name}: {role['text']}. {role['mend']}" for name, role in wrong)
            yield f"{station}: {state}. {reasons}"
        elif state == "ready" and before not in ("ready", "init"):
            yield f"{station}: ready again"

    def _of_verdict(self, station: str, verdict: dict[str, Any]) -> Iterator[str]:
        if verdict["historical"] or verdict["event_id"] == self.last.get(station):
            return
        self.last[station] = verdict["event_id"]
        self.row[station] = self.row[station] + 1 if verdict["verdict"] == "NG" else 0
        if self.row[station] == self.streak:
            part = f", the last is part {verdict['part_id']}" if verdict["part_id"] else ""
            yield f"{station}: {self.streak} NG in a row{part}"


@dataclass
class Post:
    """Sends sentences from a thread of its own, in order; the same one not again within `quiet_s`."""

    url: str
    quiet_s: float
    told: dict[str, float] = field(default_factory=dict)
    waiting: queue.Queue[str] = field(default_factory=lambda: queue.Queue(1000))

    def say(self, sentence: str) -> None:
        now_s = time.monotonic()
        self.told = {one: at_s for one, at_s in self.told.items() if now_s - at_s < self.quiet_s}
        if sentence in self.told:
            return
        self.told[sentence] = now_s
        try:
            self.waiting.put_nowait(sentence)
        except queue.Full:
            log.warning("the webhook does not keep up; not told: %s", sentence)

    def run(self, wait: Callable[[float], object] = time.sleep) -> None:
        while True:
            self._send(self.waiting.get(), wait)

    def _send(self, sentence: str, wait: Callable[[float], object]) -> None:
        body = json.dumps({"text": sentence}).encode()
        for turn in range(TRIES):
            request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})  # noqa: S310
            try:
                with urllib.request.urlopen(request, timeout=POST_S):  # noqa: S310 - the address is one's own
                    log.info("told: %s", sentence)
                    return
            except OSError as error:
                log.warning("the webhook does not take it (%s): %s", error, sentence)
                wait(2.0**turn)
        log.error("given up: %s", sentence)


def main() -> None:
    """Runs until it is stopped."""
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    url = os.environ.get("WEBHOOK_URL", "")
    if not url.startswith(("http://", "https://")):
        sys.exit("error: WEBHOOK_URL: must be the address of the webhook, http:// or https://")
    watch, post = Watch(options.prefix, options.streak), Post(url, options.quiet)

    def on_connect(
        client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            log.error("broker: %s", reason)
            return
        client.subscribe([(f"{options.prefix}/+/{topic}", 1) for topic in TOPICS])

    def on_message(client: Client, userdata: Any, message: MQTTMessage) -> None:
        for sentence in watch.take(message.topic, bytes(message.payload)):
            post.say(sentence)

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect, client.on_message = on_connect, on_message
    client.on_subscribe = lambda *_: log.info("connected")
    client.reconnect_delay_set(1, 30)
    if options.user:
        client.username_pw_set(options.user, os.environ.get("MQTT_PASSWORD", ""))
    if options.tls:
        client.tls_set()
    threading.Thread(target=post.run, name="post", daemon=True).start()
    client.connect_async(options.host, options.port)
    client.loop_forever(retry_first_connection=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Tell people by a webhook when a station needs them.")
    parser.add_argument("--host", required=True, help="of the broker")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--user", default="", help="who may read; the password is in MQTT_PASSWORD")
    parser.add_argument("--tls", action="store_true", help="encrypt, and verify the broker")
    parser.add_argument("--prefix", default="edgevision", help="of the topics")
    parser.add_argument("--streak", type=int, default=3, metavar="N", help="NG in a row that are told")
    parser.add_argument("--quiet", type=float, default=600.0, metavar="S", help="the same is not told again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
