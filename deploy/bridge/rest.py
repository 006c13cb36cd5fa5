"""HTTP for an MES: the stations, their verdicts and pictures, and a trigger whose answer is the verdict.

openapi.json describes it, and is served as it is, with the stations' own schemas put in. What is wrong is
said as application/problem+json (RFC 9457). A POST must be application/json, which a web page of elsewhere
cannot send without being asked (CORS), and a request that names this server by a name that it does not listen
on is refused where no token protects it (DNS rebinding).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from deploy.bridge.config import HttpConfig, is_loopback
from deploy.bridge.openapi import document
from deploy.bridge.payloads import VerdictPayload
from deploy.bridge.plant import News, Plant, Station
from deploy.bridge.trigger import NoVerdict, StationAway, TooLate, TriggerRefused, Triggers
from deploy.bridge.web import REQUEST_LIMIT_BYTES, Site
from device.schemas import strict_json
from device.system.token_bucket import TokenBucket

DEFAULT_WAIT_S = 5.0
TRIGGER_BURST = 3
_TOO_OFTEN = (
    "a PLC triggers this station: more than {:g} a second are not taken here ([http] trigger_rate_hz)"
)
_OPEN_PATHS = ("/v1/openapi.json", "/healthz")
_STATUS_OF: dict[type[NoVerdict], int] = {StationAway: 503, TriggerRefused: 409, TooLate: 504}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Rest:
    """The language."""

    def __init__(
        self, config: HttpConfig, plant: Plant, triggers: Triggers, with_plc: Iterable[str] = ()
    ) -> None:
        """`with_plc`: the stations that a PLC triggers, and HTTP now and then alone."""
        self._config = config
        self._shares = {name: TokenBucket(config.trigger_rate_hz, TRIGGER_BURST) for name in with_plc}
        self._plant = plant
        self._triggers = triggers
        self.app = app = web.Application(
            client_max_size=REQUEST_LIMIT_BYTES, middlewares=[_problems, self._guard]
        )
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/v1/openapi.json", self._openapi)
        app.router.add_get("/v1/stations", self._stations)
        app.router.add_get("/v1/stations/{station}", self._station)
        app.router.add_get("/v1/stations/{station}/health", self._health)
        app.router.add_get("/v1/stations/{station}/events", self._events)
        app.router.add_get("/v1/stations/{station}/events/last", self._last)
        app.router.add_get("/v1/stations/{station}/events/{event_id}", self._event)
        app.router.add_get("/v1/stations/{station}/events/{event_id}/picture", self._picture)
        app.router.add_post("/v1/stations/{station}/trigger", self._trigger)
        self._site = Site(app, "http", config.host, config.port)

    async def open(self) -> None:
        """Raises PortError."""
        await self._site.open()

    def hear(self, news: News) -> None:
        """All is read from the plant."""

    async def close(self) -> None:
        await self._site.close()

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Who may ask."""
        if self._config.token is None:
            if not is_loopback(_host_of(request)):
                raise Problem(421, f"this server is not {request.host}")
        elif request.path not in _OPEN_PATHS:
            given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(given, f"Bearer {self._config.token}".encode()):
                raise Problem(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})
        return await handler(request)

    # -- what can be asked

    async def _healthz(self, request: web.Request) -> web.Response:
        """Whether the bridge does its work: for a load balancer or a watchdog."""
        connected = self._plant.connected
        return web.json_response({"broker_connected": connected}, status=200 if connected else 503)

    async def _openapi(self, request: web.Request) -> web.Response:
        return web.json_response(document())

    async def _stations(self, request: web.Request) -> web.Response:
        return web.json_response({"stations": [self._summary(station) for station in self._plant]})

    async def _station(self, request: web.Request) -> web.Response:
        return web.json_response(self._summary(self._named(request)))

    async def _health(self, request: web.Request) -> web.Response:
        station = self._named(request)
        if station.health is None:
            raise Problem(404, f"station {station.name} has not told its health")
        return web.json_response({"fresh": self._plant.is_fresh(station), "health": station.health})

    async def _events(self, request: web.Request) -> web.Response:
        station = self._named(request)
        limit = _whole(request, "limit", 20, 1, self._config.recent_events)
        verdict = request.query.get("verdict")
        if verdict not in (None, "OK", "NG", "MARGINAL", "ERROR"):
            raise Problem(
                400, f"verdict: must be OK, NG, MARGINAL or ERROR, got {strict_json.shown(verdict)}"
            )
        found = [event for event in reversed(station.events) if verdict in (None, event.verdict)]
        return _json(b'{"events":[' + b",".join(event.raw for event in found[:limit]) + b"]}")

    async def _last(self, request: web.Request) -> web.Response:
        station = self._named(request)
        if station.last is None:
            raise Problem(404, f"station {station.name} has told no verdict yet")
        return _json(station.last.raw)

    async def _event(self, request: web.Request) -> web.Response:
        return _json(self._event_of(request).raw)

    async def _picture(self, request: web.Request) -> web.Response:
        station, event_id = request.match_info["station"], request.match_info["event_id"]
        picture = self._plant.pictures.find(station, event_id)
        if picture is None:
            raise Problem(404, f"no picture of event {event_id} is kept")
        return web.Response(
            body=picture, content_type="image/jpeg", headers={"X-Content-Type-Options": "nosniff"}
        )

    async def _trigger(self, request: web.Request) -> web.Response:
        station = self._named(request)
        part_id, wait_s = await _wanted(request)
        if (share := self._shares.get(station.name)) is not None and not share.take():
            raise Problem(429, _TOO_OFTEN.format(self._config.trigger_rate_hz), {"Retry-After": "1"})
        try:
            verdict = await self._triggers.ask(station.name, part_id, wait_s)
        except NoVerdict as problem:
            raise Problem(_STATUS_OF[type(problem)], str(problem), event_id=problem.event_id) from None
        return _json(verdict.raw)

    # -- inside

    def _named(self, request: web.Request) -> Station:
        name = request.match_info["station"]
        try:
            return self._plant[name]
        except KeyError:
            raise Problem(404, f"no station {strict_json.shown(name)} has been heard") from None

    def _event_of(self, request: web.Request) -> VerdictPayload:
        event_id = request.match_info["event_id"]
        event = self._named(request).find(event_id)
        if event is None:
            raise Problem(404, f"event {strict_json.shown(event_id)} is not kept")
        return event

    def _summary(self, station: Station) -> dict[str, Any]:
        last = station.last
        return {
            "station": station.name,
            "fresh": self._plant.is_fresh(station),
            "status": station.status,
            "health": station.health["state"] if station.health else None,
            "model": None if station.model is None else station.model["id"],
            "model_version": None if station.model is None else station.model["version"],
            "counters": station.counters,
            "last_event_id": None if last is None else last.event_id,
            "last_verdict": None if last is None else last.verdict,
        }


@web.middleware
async def _problems(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Whatever is wrong, also what aiohttp itself finds (no such path, too large), in the same form."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.answer()
    except web.RequestPayloadError:
        return Problem(400, "the body cannot be read").answer()
    except web.HTTPError as error:
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return Problem(error.status, error.reason, headers).answer()


class Problem(Exception):
    """An answer that says what is wrong (RFC 9457)."""

    def __init__(
        self, status: int, detail: str, headers: dict[str, str] | None = None, event_id: str | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.event_id = event_id

    def answer(self) -> web.Response:
        content = {"title": HTTPStatus(self.status).phrase, "status": self.status, "detail": self.detail}
        if self.event_id is not None:
            content["event_id"] = self.event_id
        return web.json_response(
            content,
            status=self.status,
            headers=self.headers,
            content_type="application/problem+json",
        )


def _json(raw: bytes) -> web.Response:
    return web.Response(body=raw, content_type="application/json")


def _host_of(request: web.Request) -> str:
    """The host that the request names, without its port."""
    try:
        return urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        return ""


def _whole(request: web.Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number of the query. Raises Problem."""
    text = request.query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise Problem(400, f"{name}: must be {low}..{high}, got {strict_json.shown(text)}")
    return int(text)


async def _wanted(request: web.Request) -> tuple[str | None, float]:
    """The part id, and how long to wait, of a trigger. Raises Problem."""
    if request.content_type != "application/json":
        raise Problem(415, f"the body must be application/json, got {request.content_type}")
    try:
        content = strict_json.parse(await request.read() or b"{}")
        strict_json.check(content, _trigger_schema())
    except ValueError as problem:
        raise Problem(400, str(problem)) from None
    return content.get("part_id"), float(content.get("wait_s", DEFAULT_WAIT_S))


@cache
def _trigger_schema() -> strict_json.Schema:
    return strict_json.Schema(document()["components"]["schemas"]["Trigger"])
