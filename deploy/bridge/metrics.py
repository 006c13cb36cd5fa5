"""Prometheus: /metrics, for all stations and for the bridge itself.

What a station is and has counted is read from what it said last; the distributions of scores and times are
counted here, from live verdicts. A gauge that a station that is away cannot stand for is left out, so that no
alert and no board takes it for the present one; `edgevision_station_up` says why. Labels are the station, a
verdict, a role, and the version of the model that decides: a version that does so no more is forgotten.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, Histogram, PlatformCollector, ProcessCollector, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from deploy.bridge.config import MetricsConfig
from deploy.bridge.plant import News, Plant, Station
from deploy.bridge.web import Site

STATS_S = 120.0  # a station says its figures every 30 s: older ones are not the present ones
_SCORES = tuple(step / 10 for step in range(1, 11))
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_VERDICTS = ("ok", "ng", "marginal", "error")
_STATES = ("init", "ready", "degraded", "alert")
_GAUGES = {  # of stats: the metric's name and its help
    "temperature_c": ("edgevision_temperature_celsius", "Temperature of the board's processor."),
    "disk_free_bytes": ("edgevision_disk_free_bytes", "Free space of the station's disk."),
    "disk_free_ratio": ("edgevision_disk_free_ratio", "Free share of the station's disk."),
    "resident_bytes": ("edgevision_resident_memory_bytes", "Memory of the station's service."),
    "available_bytes": ("edgevision_available_memory_bytes", "Memory that is available on the board."),
    "events_waiting": ("edgevision_events_waiting", "Verdicts that wait at the station for the broker."),
    "frames_waiting": ("edgevision_frames_waiting", "Frames that wait for their verdict."),
    "rate_hz": ("edgevision_verdict_rate_hertz", "Verdicts a second, in the last period of stats."),
    "slowed": ("edgevision_slowed", "Whether the firmware slows the processor at this moment."),
    "under_voltage": ("edgevision_under_voltage", "Whether the supply is too low at this moment."),
}
_TOTALS = {
    "dropped_events_total": ("edgevision_dropped_events_total", "Verdicts that the station could not keep."),
    "dropped_triggers_total": ("edgevision_dropped_triggers_total", "Triggers without a verdict."),
}


class Metrics:
    """The language; its server answers /metrics."""

    def __init__(self, config: MetricsConfig, plant: Plant, *others: Collector) -> None:
        """`others`: what further languages count."""
        self._registry = CollectorRegistry()
        labels = ("station", "model_version")
        self._score = Histogram(
            "edgevision_score_ratio",
            "Scores of live verdicts.",
            labels,
            buckets=_SCORES,
            registry=self._registry,
        )
        self._duration = Histogram(
            "edgevision_inspection_duration_seconds",
            "From the frame to its verdict, of live verdicts.",
            labels,
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._versions: dict[str, str] = {}
        for collector in (_Stations(plant), *others):
            self._registry.register(collector)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        self._site = Site(app, "metrics", config.host, config.port)

    async def open(self) -> None:
        """Raises PortError."""
        await self._site.open()

    def hear(self, news: News) -> None:
        verdict = news.verdict
        if verdict is None or not news.live:
            return
        station, version = verdict.station, verdict.model_version
        if (before := self._versions.get(station, version)) != version:
            self._score.remove(station, before)
            self._duration.remove(station, before)
        self._versions[station] = version
        if verdict.score is not None:
            self._score.labels(station, version).observe(verdict.score)
        if verdict.total_ms is not None:
            self._duration.labels(station, version).observe(verdict.total_ms / 1000)

    async def close(self) -> None:
        await self._site.close()

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
        body = await asyncio.to_thread(encode, self._registry)  # of a hundred stations it takes a while
        return web.Response(body=body, headers={"Content-Type": content_type})


class _Stations(Collector):
    """What the stations said last, and the bridge's own counts."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant

    def collect(self) -> Iterator[Metric]:
        """In a thread of its own, while the plant goes on: each station is read once."""
        stations = list(self._plant)
        yield from self._bridge()
        yield self._up(stations)
        yield from _verdicts(stations)
        yield from self._health(stations)
        yield from _models(stations)
        yield from self._figures(stations)

    def _bridge(self) -> Iterator[Metric]:
        connected = GaugeMetricFamily(
            "edgevision_bridge_broker_connected", "Whether the bridge is connected to the broker."
        )
        connected.add_metric([], float(self._plant.connected))
        yield connected
        for name, text, value in (
            ("messages", "Messages that came from the broker.", self._plant.messages),
            ("refused_messages", "Messages that were not as their schema says.", self._plant.refused),
        ):
            family = CounterMetricFamily(f"edgevision_bridge_{name}", text)
            family.add_metric([], value)
            yield family

    def _up(self, stations: list[Station]) -> Metric:
        family = GaugeMetricFamily(
            "edgevision_station_up", "Whether the station is online and heard.", labels=("station",)
        )
        for station in stations:
            family.add_metric([station.name], float(self._plant.is_fresh(station)))
        return family

    def _health(self, stations: list[Station]) -> Iterator[Metric]:
        state = GaugeMetricFamily(
            "edgevision_health_state", "1 for the state that the station is in.", labels=("station", "state")
        )
        role = GaugeMetricFamily(
            "edgevision_health_role",
            "0: ok, 1: somebody should look at it today, 2: now.",
            labels=("station", "role"),
        )
        for station in stations:
            if station.health is None or not self._plant.is_fresh(station):
                continue
            for name in _STATES:
                state.add_metric([station.name, name], float(station.health["state"] == name))
            for name, found in station.health["roles"].items():
                role.add_metric([station.name, name], ("ok", "warn", "alert").index(found["state"]))
        yield state
        yield role

    def _figures(self, stations: list[Station]) -> Iterator[Metric]:
        now_s = time.monotonic()
        present = [
            (station.name, station.stats)
            for station in stations
            if station.stats is not None
            and self._plant.is_fresh(station)
            and now_s - station.stats_s < STATS_S
        ]
        for key, (name, text) in _GAUGES.items():
            gauge = GaugeMetricFamily(name, text, labels=("station",))
            for station, stats in present:
                if stats[key] is not None:
                    gauge.add_metric([station], float(stats[key]))
            yield gauge
        for key, (name, text) in _TOTALS.items():
            total = CounterMetricFamily(name, text, labels=("station",))
            for known in stations:
                if known.stats is not None:
                    total.add_metric([known.name], known.stats[key])
            yield total


def _verdicts(stations: list[Station]) -> Iterator[Metric]:
    total = CounterMetricFamily(
        "edgevision_verdicts", "Verdicts that the station has counted.", labels=("station", "verdict")
    )
    last = GaugeMetricFamily(
        "edgevision_last_verdict_timestamp_seconds",
        "When the frame of the last verdict was taken, by the station's clock.",
        labels=("station",),
    )
    for station in stations:
        if station.counters is not None:
            for kind in _VERDICTS:
                total.add_metric([station.name, kind.upper()], station.counters[kind])
        if station.last is not None:
            last.add_metric([station.name], station.last.captured_s)
    yield total
    yield last


def _models(stations: list[Station]) -> Iterator[Metric]:
    info = InfoMetricFamily("edgevision_model", "The model that decides.", labels=("station",))
    threshold = GaugeMetricFamily(
        "edgevision_threshold_ratio", "The scores that decide.", labels=("station", "threshold")
    )
    for station in stations:
        if station.model is not None:
            version = station.model["version"]
            info.add_metric([station.name], {"model": station.model["id"], "model_version": version})
            for name in ("ng", "marginal"):
                threshold.add_metric([station.name, name], station.model["thresholds"][name])
    yield info
    yield threshold
