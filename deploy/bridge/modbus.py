"""Modbus TCP for PLCs: each station is a unit with the registers of register_map.py.

One request is one moment: the registers are laid down when a request is served, in the thread that everything
lives in, so no answer holds half of an old and half of a new result. A PLC that needs several requests for a
result compares the sequence number before it with the one after it.

A register is the same whether it is read as a holding register (function 3) or as an input register (4), and
its bits are the coils (1) and discrete inputs (2) from 16 times its address on, the lowest bit first. The
control registers can be written (5, 6, 15, 16, 22, 23), and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.pdu import ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice

from deploy.bridge.config import ModbusConfig
from deploy.bridge.handshake import Handshake, PlcTrigger
from deploy.bridge.language import PortError
from deploy.bridge.plant import News, Plant, Station
from deploy.bridge.register_map import (
    FIELDS,
    HEALTHS,
    NO_SCORE,
    STATES,
    STATUS_BITS,
    STATUS_WORDS,
    VERDICTS,
    VERSION,
    WORDS,
)
from deploy.bridge.trigger import NoVerdict, StationAway, TooLate, Triggers

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 64  # then the one that has been silent for longest gives way
MOST_REQUESTS = 64  # of one connection, that wait for their answers: more would keep all others waiting
_UNSENT_LIMIT_BYTES = 65536  # a client that does not read its answers is left
_BUFFER_BYTES = 2**19  # more than what asyncio reads at once: what is beyond it, pymodbus throws away
_HEADER_BYTES = 8
_HEARTBEAT_S = 0.1
_BIT_FUNCTIONS = (5, 15)

# What a hostile frame is answered with is pymodbus's affair; a line in the log for each would fill the disk.
logging.getLogger("pymodbus_internal").setLevel(logging.CRITICAL)


class Modbus:
    """The server and its units."""

    def __init__(self, config: ModbusConfig, plant: Plant, triggers: Triggers) -> None:
        self._config = config
        session = 1 + secrets.randbelow(0xFFFF)
        self._units = {
            unit: Unit(plant.station(name), plant, triggers, config.trigger_timeout_s, session)
            for unit, name in config.units.items()
        }
        self._by_station = {unit.name: unit for unit in self._units.values()}
        self._server: _Server | None = None

    async def open(self) -> None:
        """Raises PortError."""
        devices = [_device(number, unit) for number, unit in self._units.items()]
        nobody = SimDevice(0, SimData(0, count=WORDS, datatype=DataType.REGISTERS), True, action=_no_unit)
        address = (self._config.host, self._config.port)
        self._server = _Server([*devices, nobody], address=address)
        try:
            await self._server.serve_forever(background=True)
        except (RuntimeError, OSError):
            raise PortError(f"[modbus] cannot listen on {address[0]}:{address[1]}") from None
        log.info("Modbus on %s:%d, units %s", *address, ", ".join(map(str, sorted(self._units))))

    def hear(self, news: News) -> None:
        if (unit := self._by_station.get(news.station.name)) is not None:
            unit.hear(news)

    async def close(self) -> None:
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]
        for unit in self._units.values():
            unit.close()


class Unit:
    """One station's registers and handshake."""

    def __init__(
        self, station: Station, plant: Plant, triggers: Triggers, timeout_s: float, session: int
    ) -> None:
        self.name = station.name
        self._plant = plant
        self._triggers = triggers
        self._timeout_s = timeout_s
        self._handshake = Handshake()
        self._image = [0] * WORDS
        self._heartbeat = 0
        self._beat_s = time.monotonic()
        self._asking: set[asyncio.Task[None]] = set()
        FIELDS["map_version"].put(self._image, VERSION)
        FIELDS["bridge_session"].put(self._image, session)

    @property
    def _station(self) -> Station:
        return self._plant.station(self.name)

    def hear(self, news: News) -> None:
        if news.kind == "status" and not self._plant.is_fresh(news.station):
            self._handshake.forget()
        elif news.verdict is not None and news.live and self._plant.is_fresh(news.station):
            self._handshake.show(news.verdict)

    def close(self) -> None:
        for task in self._asking:
            task.cancel()

    async def serve(
        self,
        function: int,
        first: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """What pymodbus calls for every request; it does not wait, so nothing comes in between."""
        if values is not None:
            self._write(function, address, values)
        self._lay_down()
        registers[:WORDS] = self._image
        return None

    def _write(self, function: int, address: int, values: list[int] | list[bool]) -> None:
        if function in _BIT_FUNCTIONS:
            for bit, value in enumerate(values, address):
                mask = 1 << bit % 16
                word = self._image[bit // 16]
                self._image[bit // 16] = word | mask if value else word & ~mask
        else:
            self._image[address : address + len(values)] = values
        number = FIELDS["trigger_number"].number(self._image)
        asked = self._handshake.write(
            FIELDS["control"].number(self._image),
            number,
            FIELDS["part_id"].text(self._image),
            fresh=self._plant.is_fresh(self._station),
        )
        if asked is not None:
            task = asyncio.get_running_loop().create_task(self._ask(asked))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _ask(self, asked: PlcTrigger) -> None:
        """One trigger, from the PLC to its verdict."""
        try:
            part_id = asked.part_id or None
            verdict = await self._triggers.ask(self.name, part_id, self._timeout_s, of_plc=True)
        except NoVerdict as problem:
            log.warning("%s: trigger %d: %s", self.name, asked.number, problem)
            self._handshake.fail(asked.number, _error_of(problem))
        else:
            self._handshake.show(verdict, asked.number)

    # -- the registers

    def _lay_down(self) -> None:
        station, fresh = self._station, self._plant.is_fresh(self._station)
        self._beat(fresh=fresh)
        health = station.health["state"] if station.health else None
        values = {
            "heartbeat": self._heartbeat,
            "status": self._status(health, fresh=fresh),
            "error_code": self._handshake.error_code,
            "error_trigger": self._handshake.error_trigger,
            "station_state": STATES[station.status],
            "health": HEALTHS[health if fresh else None],
            "missed_triggers": (station.stats or {}).get("dropped_triggers_total", 0),
            "result_sequence": self._handshake.sequence,
            "result_sequence_after": self._handshake.sequence,
        }
        values |= {f"count_{kind}": (station.counters or {}).get(kind, 0) for kind in _COUNTS}
        for name, value in (values | self._result()).items():
            FIELDS[name].put(self._image, value)

    def _beat(self, *, fresh: bool) -> None:
        """Ten a second while the station is there; it stands still while the station is away."""
        now_s = time.monotonic()
        beats = int((now_s - self._beat_s) / _HEARTBEAT_S)
        self._beat_s += beats * _HEARTBEAT_S
        self._heartbeat += beats if fresh else 0

    def _status(self, health: str | None, *, fresh: bool) -> int:
        handshake = self._handshake
        verdict = handshake.result.verdict if handshake.result else None
        bits = {
            "ready": fresh and not handshake.busy,
            "trigger_ack": handshake.trigger_ack,
            "busy": handshake.busy,
            "result_valid": handshake.result_valid,
            "stale": not fresh,
            "trigger_error": handshake.error_code != 0,
            "degraded": fresh and health == "degraded",
            "alert": fresh and health == "alert",
            "ok": verdict == "OK",
            "ng": verdict == "NG",
            "marginal": verdict == "MARGINAL",
            "error": verdict == "ERROR",
        }
        return sum(STATUS_BITS[name] for name, value in bits.items() if value)

    def _result(self) -> dict[str, int | str]:
        verdict = self._handshake.result
        if verdict is None:
            nothing: dict[str, int | str] = dict.fromkeys(_RESULT_NUMBERS, 0)
            return nothing | {
                "score": NO_SCORE,
                "result_part_id": "",
                "event_id": "",
            }
        captured_ms = round(verdict.captured_s * 1000)
        return {
            "verdict": VERDICTS[verdict.verdict],
            "score": NO_SCORE if verdict.score is None else round(verdict.score * 1000),
            "threshold": round(verdict.threshold * 1000),
            "result_trigger": self._handshake.result_trigger,
            "processing_us": min(round((verdict.total_ms or 0) * 1000), 0xFFFFFFFF),
            "event_number": verdict.seq,
            "regions": min(verdict.regions, 0xFFFF),
            "captured_s": captured_ms // 1000,
            "captured_ms": captured_ms % 1000,
            "result_part_id": verdict.part_id or "",
            "event_id": verdict.event_id,
        }


_COUNTS = ("ok", "ng", "marginal", "error")
_RESULT_NUMBERS = (
    *("verdict", "threshold", "result_trigger", "processing_us", "event_number", "regions"),
    *("captured_s", "captured_ms"),
)


def _error_of(problem: NoVerdict) -> str:
    match problem:
        case StationAway():
            return "station_away"
        case TooLate():
            return "no_verdict_in_time"
        case _:
            return "refused"


def _device(number: int, unit: Unit) -> SimDevice:
    """A unit for pymodbus: what is read only, what can be written, and whom to ask."""
    status = SimData(0, count=STATUS_WORDS, datatype=DataType.REGISTERS, readonly=True)
    control = SimData(STATUS_WORDS, count=WORDS - STATUS_WORDS, datatype=DataType.REGISTERS)
    return SimDevice(number, [status, control], use_bit_addressing=True, action=unit.serve)


async def _no_unit(*request: Any) -> ExcCodes:
    """A unit that no station has."""
    return ExcCodes.GATEWAY_PATH_UNAVIABLE


class _Server(ModbusTcpServer):
    """pymodbus's server, with a bound on its connections."""

    def __init__(self, devices: list[SimDevice], address: tuple[str, int]) -> None:
        super().__init__(devices, address=address)
        self.requests_of: dict[_Connection, float] = {}

    def callback_new_connection(self) -> _Connection:
        return _Connection(self, None, None, None)

    def make_room(self) -> None:
        """Where there are too many connections, the one that has been silent for longest ends."""
        if len(self.requests_of) > MOST_CONNECTIONS:
            min(self.requests_of, key=lambda connection: self.requests_of[connection]).abort()


class _Connection(ServerRequestHandler):
    """pymodbus's connection, for clients that send further requests before the first was answered.

    As it is, it keeps only the last of them. Here each frame is cut out first and has its own turn. What is
    no Modbus ends the connection, as the Modbus messaging guide asks for: behind a wrong header nothing can
    be found again.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)  # type: ignore[no-untyped-call]
        self.max_buffer_size = _BUFFER_BYTES
        self._requests: deque[ModbusPDU] = deque()

    def callback_connected(self) -> None:
        super().callback_connected()
        self.server.requests_of[self] = time.monotonic()
        self.server.make_room()

    def callback_disconnected(self, exc: Exception | None) -> None:
        super().callback_disconnected(exc)
        self.server.requests_of.pop(self, None)

    def callback_data(self, data: bytes, addr: tuple[Any, ...] | None = None) -> int:
        used = 0
        while len(data) - used >= _HEADER_BYTES:
            length = int.from_bytes(data[used + 4 : used + 6], "big")
            if data[used + 2 : used + 4] != b"\0\0" or not 2 <= length <= 254:
                self.abort()
                return len(data)
            frame = data[used : used + 6 + length]
            if len(frame) < 6 + length:
                break
            super().callback_data(frame, addr)
            if self.last_pdu is not None:
                self._requests.append(self.last_pdu)
            used += len(frame)
            if len(self._requests) > MOST_REQUESTS:
                self.abort()
                return len(data)
        if used:
            self.server.requests_of[self] = time.monotonic()
        return used

    async def handle_request(self) -> None:
        if not self._requests:
            return  # of a connection that was ended
        self.last_pdu = self._requests.popleft()
        await super().handle_request()  # type: ignore[no-untyped-call]

    def send(self, data: bytes, addr: tuple[Any, ...] | None = None) -> None:
        begun = self.recv_buffer  # of the next request; as it is, it would be thrown away
        super().send(data, addr)
        self.recv_buffer = begun
        channel: Any = self.transport
        if channel is not None and channel.get_write_buffer_size() > _UNSENT_LIMIT_BYTES:
            self.abort()

    def abort(self) -> None:
        self._requests.clear()
        channel: Any = self.transport
        if channel is not None:
            channel.abort()
