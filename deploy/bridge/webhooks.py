"""Webhooks: chosen events, posted as JSON and signed, again and again until the receiver has taken them.

    POST <url>
    webhook-id: <event id>   webhook-timestamp: <seconds since 1970>   webhook-signature: v1,<base64>

The signature is HMAC-SHA256 with the secret's bytes over "<id>.<timestamp>.<body>", as standardwebhooks.com
has it, so that its ready-made libraries check it. An event is at least once with the receiver: the id tells
repetitions.

Nothing is lost on the way. The webhooks have a connection of their own, whose session the broker keeps for a
day; a message is acknowledged when its event is on the disk (waiting.py), and deleted there when the receiver
has answered with 2xx. An answer of 400, 406, 410, 413, 415 or 422 is about this event, which will not become
better by being sent again: it is dropped and counted. Everything else is tried again, with pauses that double
from 1 s to 5 min; the events behind it wait, so that each receiver gets them in order.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
from paho.mqtt.client import MQTTMessage
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from deploy.bridge import payloads
from deploy.bridge.broker import Broker
from deploy.bridge.config import BridgeConfig, WebhooksConfig
from deploy.bridge.plant import News
from deploy.bridge.waiting import Event, EventQueue
from device.system.drawn import drawn

log = logging.getLogger(__name__)

SESSION_S = 86_400
REFUSALS = (400, 406, 410, 413, 415, 422)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
_LOUD_EVERY_S = 60.0


def _client_id(config: BridgeConfig) -> str:
    """It outlives a restart, for the broker keeps by it what waits; who guessed it could end that."""
    own = config.mqtt.client_id or f"edgevision-bridge-{drawn(config.webhooks.state / 'client-id')}"
    return f"{own}-webhooks"


class Webhooks:
    """The language. It hears nothing of the plant's news: it has its own ears, which forget nothing."""

    def __init__(self, config: BridgeConfig) -> None:
        """Raises ConfigError: the TLS files."""
        self._config = config.webhooks
        prefix = config.mqtt.prefix
        self._broker = Broker(
            config.mqtt,
            _client_id(config),
            tuple(f"{prefix}/+/{name}" for name in _topics(self._config.events)),
            self._arrived,
            session_s=SESSION_S,
            acknowledge_later=True,
        )
        self._waiting: EventQueue | None = None
        self._disk = ThreadPoolExecutor(1, "webhooks")  # SQLite's one thread
        self._messages: list[tuple[int, MQTTMessage]] = []
        self._news = asyncio.Event()
        self._posts = [_Post(url, self._config, self._disk) for url in self._config.urls]
        self._tasks: list[asyncio.Task[None]] = []
        self.counts = WebhookMetrics(self._posts)

    async def open(self) -> None:
        """Raises StorageError."""
        loop = asyncio.get_running_loop()
        waiting = await loop.run_in_executor(
            self._disk, EventQueue, self._config.state, self._config.max_waiting
        )
        self._waiting = waiting
        self._tasks = [loop.create_task(self._store(waiting)), loop.create_task(self._broker.run())]
        self._tasks += [loop.create_task(post.run(waiting)) for post in self._posts]
        for task in self._tasks:
            task.add_done_callback(_end_process)

    def hear(self, news: News) -> None:
        """Nothing: the webhooks hear by a connection of their own."""

    async def close(self) -> None:
        for task in self._tasks:
            task.remove_done_callback(_end_process)
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._waiting is not None:
            await asyncio.get_running_loop().run_in_executor(self._disk, self._waiting.close)
        self._disk.shutdown()

    def _arrived(self, message: MQTTMessage) -> None:
        self._messages.append((self._broker.connections, message))
        self._news.set()

    async def _store(self, waiting: EventQueue) -> None:
        """All that has arrived onto the disk, in one step, and then tell the broker."""
        loop = asyncio.get_running_loop()
        urls = self._config.urls
        while True:
            await self._news.wait()
            self._news.clear()
            arrived, self._messages = self._messages, []
            events = [event for _, message in arrived if (event := self._event(message)) is not None]
            if events:
                self.counts.dropped += await loop.run_in_executor(self._disk, waiting.add, urls, events)
                for post in self._posts:
                    post.news.set()
            for connection in sorted({connection for connection, _ in arrived}):
                self._broker.acknowledge(connection, [m for number, m in arrived if number == connection])

    def _event(self, message: MQTTMessage) -> Event | None:
        """What is to be posted of a message; None where it is not wanted, or not as it should be."""
        *_, station, kind = message.topic.split("/")
        try:
            if kind == "status":
                return (
                    None
                    if message.retain
                    else _status_event(station, payloads.status_of(bytes(message.payload)))
                )
            verdict = payloads.verdict_of(bytes(message.payload))
        except ValueError as problem:
            log.warning("message on %r refused: %s", message.topic, problem)
            return None
        if verdict.verdict not in self._config.events:
            return None
        content = {"type": "inspection", "station": station, "data": json.loads(verdict.raw)}
        return Event(verdict.event_id, json.dumps(content, separators=(",", ":")).encode())


class WebhookMetrics(Collector):
    """For Prometheus."""

    def __init__(self, posts: list[_Post]) -> None:
        self._posts = posts
        self.dropped = 0

    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("edgevision_webhook_events_waiting", "Events that wait.", labels=("url",))
        posts = CounterMetricFamily(
            "edgevision_webhook_posts", "Posts, by what became of them.", labels=("url", "result")
        )
        for post in self._posts:
            waiting.add_metric([post.url], post.waiting)
            for result in ("taken", "refused", "failed"):
                posts.add_metric([post.url, result], post.results[result])
        dropped = CounterMetricFamily(
            "edgevision_webhook_events_dropped", "Events that were too many to wait."
        )
        dropped.add_metric([], self.dropped)
        yield from (waiting, posts, dropped)


class _Post:
    """What is posted to one address, in order."""

    def __init__(self, url: str, config: WebhooksConfig, disk: ThreadPoolExecutor) -> None:
        self.url = url
        self.results: Counter[str] = Counter()
        self.waiting = 0
        self.news = asyncio.Event()
        self._config = config
        self._disk = disk
        self._failures = 0
        self._random = random.Random()  # noqa: S311 not for secrets

    async def run(self, waiting: EventQueue) -> None:
        loop = asyncio.get_running_loop()
        timeout = aiohttp.ClientTimeout(total=self._config.timeout_s)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
            while True:
                self.news.clear()
                row, self.waiting = await loop.run_in_executor(self._disk, waiting.first, self.url)
                if row is None:
                    await self.news.wait()
                elif await self._post(session, row.event):
                    await loop.run_in_executor(self._disk, waiting.remove, row)
                else:
                    await asyncio.sleep(self._pause_s())

    async def _post(self, session: aiohttp.ClientSession, event: Event) -> bool:
        """Whether it is done with: taken, or refused for good."""
        headers = {"Content-Type": "application/json", **signature(self._config.secret, event, time.time())}
        try:
            async with session.post(
                self.url, data=event.body, headers=headers, allow_redirects=False
            ) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            self._failed(f"{type(problem).__name__}: {problem}")
            return False
        if 200 <= status < 300:
            self.results["taken"] += 1
            self._recovered()
            return True
        if status in REFUSALS:
            self.results["refused"] += 1
            log.warning("webhook %s refuses event %s with %d: dropped", self.url, event.id, status)
            return True
        self._failed(f"answers with {status}")
        return False

    def _failed(self, why: str) -> None:
        self.results["failed"] += 1
        self._failures += 1
        log.log(logging.WARNING if self._failures == 1 else logging.DEBUG, "webhook %s: %s", self.url, why)

    def _recovered(self) -> None:
        if self._failures:
            log.info("webhook %s: back after %d failures", self.url, self._failures)
        self._failures = 0

    def _pause_s(self) -> float:
        whole_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 20))
        return whole_s * self._random.uniform(0.5, 1.0)


def signature(secret: bytes, event: Event, now_s: float) -> dict[str, str]:
    """The headers that tell the receiver who has sent this, and when."""
    stamp = str(int(now_s))
    signed = b".".join((event.id.encode(), stamp.encode(), event.body))
    digest = base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
    return {"webhook-id": event.id, "webhook-timestamp": stamp, "webhook-signature": f"v1,{digest}"}


def _topics(events: tuple[str, ...]) -> Iterator[str]:
    if set(events) - {"status"}:
        yield "defect" if set(events) <= {"NG", "MARGINAL", "status"} else "inspection"
    if "status" in events:
        yield "status"


def _status_event(station: str, status: str) -> Event:
    """It has no id of its own: a change of the status is told with the time at which it was heard."""
    stamp_ns = time.time_ns()
    content: dict[str, Any] = {
        "type": "status",
        "station": station,
        "data": {"status": status, "heard": _rfc3339(stamp_ns)},
    }
    return Event(f"{station}-status-{stamp_ns}", json.dumps(content, separators=(",", ":")).encode())


def _rfc3339(stamp_ns: int) -> str:
    seconds, rest_ns = divmod(stamp_ns, 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest_ns // 10**6:03d}Z"


def _end_process(task: asyncio.Task[None]) -> None:
    """These tasks never end: one that does takes the bridge with it, and systemd starts it again."""
    if not task.cancelled():
        raise SystemExit(f"fault in the webhooks: {task.exception()!r}")
