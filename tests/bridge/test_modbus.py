"""Modbus, asked by pymodbus's client, by mbpoll (libmodbus), and by whoever sends bytes."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator

import pytest
from fixtures_bridge import STATION, BridgeProcess, StandIn, beside_a_broker, wait_until
from fixtures_broker import Broker
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymodbus.client import ModbusTcpClient

from benchmarks.simulated import compact
from deploy.bridge.modbus import MOST_CONNECTIONS, MOST_REQUESTS
from deploy.bridge.register_map import (
    CONTROL_BITS,
    ERRORS,
    FIELDS,
    STATUS_BITS,
    STATUS_WORDS,
    VERDICTS,
    WORDS,
)

UNIT = 7
SECTIONS = {"modbus": f'units = ["{UNIT}={STATION}"]\ntrigger_timeout_s = 1.0'}
TRIGGER, RESULT_ACK = CONTROL_BITS["trigger"], CONTROL_BITS["result_ack"]


class Plc:
    """A client that reads and writes by the names of the registers."""

    def __init__(self, port: int) -> None:
        self.client = ModbusTcpClient("127.0.0.1", port=port, timeout=5)
        assert self.client.connect()

    def image(self) -> list[int]:
        answer = self.client.read_holding_registers(0, count=STATUS_WORDS, device_id=UNIT)
        assert not answer.isError(), answer
        return list(answer.registers)

    def number(self, name: str) -> int:
        return FIELDS[name].number(self.image())

    def bits(self) -> set[str]:
        status = self.number("status")
        return {name for name, mask in STATUS_BITS.items() if status & mask}

    def write(self, name: str, *values: int) -> None:
        answer = self.client.write_registers(FIELDS[name].address, list(values), device_id=UNIT)
        assert not answer.isError(), answer

    def trigger(self, number: int, part_id: str = "") -> None:
        """A rest and an edge, the latter with number and part id in one request."""
        self.write("control", 0)
        image = [0] * WORDS
        FIELDS["control"].put(image, TRIGGER)
        FIELDS["trigger_number"].put(image, number)
        FIELDS["part_id"].put(image, part_id)
        self.write("control", *image[STATUS_WORDS:])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    """A broker and a bridge that many tests share."""
    yield from beside_a_broker(tmp_path_factory.mktemp("modbus"), **SECTIONS)


@pytest.fixture
def station(running: BridgeProcess) -> Iterator[StandIn]:
    """A station of that broker, which stops after the test."""
    made = StandIn(running.broker_port)
    made.introduce()
    yield made
    made.close()


@pytest.fixture
def plc(running: BridgeProcess) -> Iterator[Plc]:
    """A PLC that has acknowledged whatever was there."""
    made = Plc(running.ports["modbus"])
    made.write("control", 0)
    made.write("control", RESULT_ACK)
    made.write("control", 0)
    yield made
    made.client.close()


@pytest.fixture
def bridge(broker: Broker, make_bridge: Callable[[int], BridgeProcess]) -> BridgeProcess:
    """A bridge of one's own, whose broker can be killed."""
    made = make_bridge(broker.port)
    made.configure(**SECTIONS)
    made.start()
    return made


def await_bits(plc: Plc, *wanted: str) -> None:
    wait_until(lambda: set(wanted) <= plc.bits(), f"the bits {wanted}")


def test_a_verdict_can_be_read_by_pymodbus_and_mbpoll(
    plc: Plc, station: StandIn, running: BridgeProcess
) -> None:
    await_bits(plc, "ready")
    told = station.judge("NG", part_id="A-0042", score=0.9375)
    await_bits(plc, "result_valid", "ng")
    image = plc.image()
    assert FIELDS["verdict"].number(image) == VERDICTS["NG"]
    assert FIELDS["score"].number(image) == 938
    assert FIELDS["threshold"].number(image) == 600
    assert FIELDS["result_part_id"].text(image) == "A-0042"
    assert FIELDS["event_id"].text(image) == told["event_id"]
    assert FIELDS["event_number"].number(image) == told["seq"]
    assert FIELDS["result_trigger"].number(image) == 0
    assert FIELDS["processing_us"].number(image) == round(told["timing_ms"]["total"] * 1000)
    assert FIELDS["result_sequence"].number(image) == FIELDS["result_sequence_after"].number(image) > 0
    assert not {"stale", "ok", "marginal", "error"} & plc.bits()
    if shutil.which("mbpoll") is None:
        pytest.skip("mbpoll is not installed")
    assert mbpoll(running, "4", 16, 6)[2:5] == [VERDICTS["NG"], 938, 600]
    assert mbpoll(running, "3", 16, 6)[2:5] == [VERDICTS["NG"], 938, 600], "as input registers"
    ng = 16 * FIELDS["status"].address + STATUS_BITS["ng"].bit_length() - 1
    assert mbpoll(running, "1", ng, 1) == [1], "as a discrete input"
    assert mbpoll(running, "0", ng - 1, 3) == [0, 1, 0], "as coils"


def mbpoll(bridge: BridgeProcess, kind: str, first: int, count: int) -> list[int]:
    done = subprocess.run(
        (
            *("mbpoll", "-m", "tcp", "-0", "-1", "-a", str(UNIT), "-t", kind),
            *("-r", str(first), "-c", str(count), "-p", str(bridge.ports["modbus"]), "127.0.0.1"),
        ),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return [int(value) for value in re.findall(r"^\[\d+\]:\s+(\d+)", done.stdout, re.MULTILINE)]


def test_a_trigger_gets_its_own_verdict(plc: Plc, station: StandIn) -> None:
    await_bits(plc, "ready")

    def judge(command: dict[str, object]) -> dict[str, object]:
        station.voice.verdict("NG")  # somebody else's part in between
        verdict = station.voice.verdict("OK", part_id=command["part_id"], trigger="mqtt")
        return {"event_id": verdict["event_id"], "verdict": verdict}

    station.on_trigger = judge
    plc.trigger(1234567, "A-7")
    await_bits(plc, "trigger_ack")
    await_bits(plc, "result_valid", "ok")
    image = plc.image()
    assert FIELDS["result_trigger"].number(image) == 1234567
    assert FIELDS["result_part_id"].text(image) == "A-7"
    assert station.commands == [{"by": "bridge", "part_id": "A-7"}]
    plc.write("control", RESULT_ACK)
    assert not {"trigger_ack", "busy", "result_valid"} & plc.bits()


def test_a_coil_triggers_as_well(plc: Plc, station: StandIn) -> None:
    await_bits(plc, "ready")
    station.on_trigger = lambda command: {"event_id": "e", "verdict": station.voice.verdict("MARGINAL")}
    plc.write("trigger_number", 0, 5)
    coil = 16 * FIELDS["control"].address
    for level in (False, True):
        assert not plc.client.write_coil(coil, level, device_id=UNIT).isError()
    await_bits(plc, "result_valid", "marginal")
    assert plc.number("result_trigger") == 5


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, "no_verdict_in_time"),
        ({"ok": False, "reason": "not accepted"}, "refused"),
        ({}, "refused"),  # a station that does not say which event it made
        ({"event_id": "e1", "verdict": None}, "no_verdict_in_time"),
    ],
)
def test_a_part_without_a_verdict_is_told_as_one(
    plc: Plc, station: StandIn, answer: dict[str, object] | None, error: str
) -> None:
    await_bits(plc, "ready")
    station.on_trigger = lambda command: answer
    plc.trigger(3)
    await_bits(plc, "trigger_error")
    image = plc.image()
    assert FIELDS["error_code"].number(image) == ERRORS[error]
    assert FIELDS["error_trigger"].number(image) == 3
    assert FIELDS["verdict"].number(image) == VERDICTS[None]
    assert not {"busy", "result_valid", "ok"} & plc.bits()


def test_no_verdict_outlives_its_station(plc: Plc, station: StandIn) -> None:
    await_bits(plc, "ready")
    station.judge("OK")
    await_bits(plc, "ok")
    station.cut()
    await_bits(plc, "stale")
    assert not {"ok", "result_valid", "ready"} & plc.bits()
    assert plc.number("verdict") == VERDICTS[None]
    plc.trigger(1)
    assert plc.number("error_code") == ERRORS["station_away"]


def test_no_verdict_outlives_the_broker_and_the_old_one_does_not_come_back(
    bridge: BridgeProcess, stand_in: StandIn, broker: Broker
) -> None:
    plc = Plc(bridge.ports["modbus"])
    await_bits(plc, "ready")
    stand_in.judge("OK")
    await_bits(plc, "ok")
    broker.stop(signal.SIGKILL)
    await_bits(plc, "stale")
    heartbeat = plc.number("heartbeat")
    assert plc.number("verdict") == VERDICTS[None]
    assert plc.number("heartbeat") == heartbeat, "it stands still"
    broker.start()
    await_bits(plc, "ready")
    assert plc.number("verdict") == VERDICTS[None], "retained verdicts are no news"
    wait_until(lambda: plc.number("heartbeat") != heartbeat, "the heart to beat again")
    stand_in.judge("NG")
    await_bits(plc, "ng")
    plc.client.close()


@pytest.mark.parametrize("changes", [{"historical": True}, {"station": "press-5"}, {"score": "0.1"}])
def test_what_is_late_foreign_or_broken_is_no_result(
    plc: Plc, station: StandIn, changes: dict[str, object]
) -> None:
    await_bits(plc, "ready")
    before = plc.number("result_sequence")
    station.judge("OK", **changes)
    station.judge("NG")
    await_bits(plc, "result_valid")
    assert "ng" in plc.bits()
    assert plc.number("result_sequence") == before + 1, "the one before was none"


def test_a_repetition_is_no_new_result(plc: Plc, station: StandIn) -> None:
    await_bits(plc, "ready")
    before = plc.number("result_sequence")
    told = station.judge("OK")
    station.say("inspection", compact(told))
    station.judge("NG")
    await_bits(plc, "ng")
    assert plc.number("result_sequence") == before + 2


def test_results_cannot_be_written_and_other_units_do_not_answer(plc: Plc) -> None:
    for address in (0, FIELDS["verdict"].address, STATUS_WORDS - 1):
        assert plc.client.write_register(address, 1, device_id=UNIT).isError()
    assert plc.client.write_coil(16 * FIELDS["status"].address, True, device_id=UNIT).isError()
    for unit in (0, UNIT + 1, 255):
        answer = plc.client.read_holding_registers(0, count=1, device_id=unit)
        assert answer.isError()
        assert answer.exception_code == 10, "gateway path unavailable"


def request(transaction: int, function: int, *words: int) -> bytes:
    body = struct.pack(f">BB{len(words)}H", UNIT, function, *words)
    return struct.pack(">HHH", transaction, 0, len(body)) + body


def receive(channel: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        more = channel.recv(count - len(content))
        assert more, f"closed after {content!r}"
        content += more
    return content


def connect(bridge: BridgeProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", bridge.ports["modbus"]), 10)


@pytest.mark.parametrize("cut", [0, 1, 7, 12, 13, 20, 30])
def test_requests_that_do_not_wait_for_each_other_are_all_served_in_order(
    running: BridgeProcess, cut: int
) -> None:
    """Three at once, in one piece or in two: each has its answer, and the write in the middle is done."""
    sent = request(1, 3, 0, 1) + request(2, 6, FIELDS["trigger_number"].address, 77)
    sent += request(3, 3, FIELDS["trigger_number"].address, 1)
    with connect(running) as channel:
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        channel.sendall(sent[:cut])
        if cut:
            with connect(running) as other:  # an answer elsewhere: the first piece has been read
                other.sendall(request(9, 3, 0, 1))
                receive(other, 11)
        channel.sendall(sent[cut:])
        answers = receive(channel, 11 + 12 + 11)
    assert [answers[0:2], answers[11:13], answers[23:25]] == [b"\0\1", b"\0\2", b"\0\3"]
    assert answers[-2:] == (77).to_bytes(2, "big")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda body, unit: struct.pack(">HHHB", 1, 0, len(body) + 1, unit) + body,
            st.binary(min_size=1, max_size=253),
            st.sampled_from([0, UNIT, 255]),
        ),
        st.builds(
            lambda function, words: request(1, function, *words),
            st.integers(0, 255),
            st.lists(st.integers(0, 0xFFFF), max_size=20),
        ),
    )
)
def test_hostile_frames_cost_their_own_connection_at_most(running: BridgeProcess, frame: bytes) -> None:
    with connect(running) as channel:
        channel.sendall(frame)
        channel.shutdown(socket.SHUT_WR)
        while channel.recv(4096):
            pass
    with connect(running) as channel:
        channel.sendall(request(5, 3, 0, 1))
        assert receive(channel, 11)[7:] == b"\x03\x02\x00\x01"
    assert running.process is not None
    assert running.process.poll() is None


def test_a_client_that_never_reads_is_left(running: BridgeProcess) -> None:
    """Each time as many requests as are legal, and time for their answers: they pile up."""

    def ask(channel: socket.socket, other: socket.socket) -> None:
        for _ in range(2000):
            channel.sendall(request(1, 3, 0, STATUS_WORDS) * MOST_REQUESTS)
            other.sendall(request(1, 3, 0, 1))
            receive(other, 11)

    with connect(running) as channel, connect(running) as other, pytest.raises(ConnectionError):
        ask(channel, other)


def test_a_client_that_asks_for_too_much_at_once_is_left(running: BridgeProcess) -> None:
    with connect(running) as channel:
        channel.sendall(request(1, 3, 0, 1) * MOST_REQUESTS)
        receive(channel, 11 * MOST_REQUESTS)
        channel.sendall(request(1, 3, 0, 1) * (MOST_REQUESTS + 1))
        with pytest.raises((ConnectionError, AssertionError)):
            receive(channel, 11 * (MOST_REQUESTS + 1))


def test_many_connections_leave_room_for_the_plc(plc: Plc, running: BridgeProcess) -> None:
    """The one that has been silent for longest gives way, and the PLC is never that."""
    channels = []
    for _ in range(MOST_CONNECTIONS + 20):
        channels.append(connect(running))
        assert plc.number("map_version") == 1
    for channel in channels:
        channel.close()
