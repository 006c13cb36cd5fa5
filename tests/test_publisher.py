"""The publisher, against a real broker that comes and goes."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from fixtures_broker import DEADLINE_S, Broker, Subscriber, free_port
from paho.mqtt.client import MQTTMessage

from device import publisher as publishers
from device.config import MqttConfig
from device.geometry import Size
from device.publisher import Publisher
from device.verdict import Model, Verdict

ROOT = "edgevision/press-4"
SESSION = "5e55104"


def verdict(seq: int, name: str = "OK") -> Verdict:
    return Verdict(
        event_id=f"{SESSION}-{seq:08d}",
        session_id=SESSION,
        seq=seq,
        historical=False,
        captured_ns=1_700_000_000_000_000_000 + seq,
        clock_synced=True,
        station="press-4",
        part_id=None,
        trigger="free",
        verdict=name,
        score=None if name == "ERROR" else 0.5,
        threshold=0.5,
        model=Model("demo", "1", "0" * 64),
        regions=(),
        image_size=Size(32, 24),
        image_sha256=None,
        image_path=f"{seq}.png",
        timing_ms={"total": 1.0},
        camera="replay",
        checks=None,
    )


def mqtt_config(port: int, **changes: object) -> MqttConfig:
    values = {
        "host": "127.0.0.1",
        "port": port,
        "prefix": "edgevision",
        "client_id": "edgevision-press-4",
        "keepalive_s": 5,
        "username": None,
        "password": None,
        "queue_limit": 10000,
    }
    return MqttConfig(**(values | changes))


@pytest.fixture
def make_publisher() -> Iterator[Callable[..., Publisher]]:
    """Publishers that have been started; those that a test leaves running are stopped."""
    made: list[Publisher] = []

    def make(port: int, **changes: object) -> Publisher:
        made.append(Publisher(mqtt_config(port, **changes), "press-4", SESSION, '{"schema":1}'))
        made[-1].start()
        return made[-1]

    yield make
    for publisher in made:
        publisher.stop("stopped")


def seqs(subscriber: Subscriber, topic: str) -> list[int]:
    return [json.loads(payload)["seq"] for payload in subscriber.payloads(f"{ROOT}/{topic}")]


def retained(port: int) -> dict[str, str]:
    """What a newcomer is told at once."""
    newcomer = Subscriber(port)
    newcomer.catch_up()
    newcomer.close()
    return {m.topic: m.payload.decode() for m in newcomer.messages if m.retain}


def test_every_topic_with_its_flags(
    broker: Broker, subscriber: Subscriber, make_publisher: Callable[..., Publisher]
) -> None:
    publisher = make_publisher(broker.port)
    subscriber.wait_payload(f"{ROOT}/status", "online")
    for seq, name in enumerate(("OK", "NG", "MARGINAL", "ERROR")):
        publisher.publish(verdict(seq, name))
    publisher.stop("stopped")
    subscriber.wait_payload(f"{ROOT}/status", "stopped")
    assert seqs(subscriber, "inspection") == [0, 1, 2, 3]
    assert seqs(subscriber, "defect") == [1, 2]
    assert seqs(subscriber, "inspection/last")[-1] == 3
    assert subscriber.payloads(f"{ROOT}/birth") == ['{"schema":1}']
    assert subscriber.payloads(f"{ROOT}/status") == ["online", "stopped"]
    assert {m.qos for m in subscriber.messages} == {1}
    assert retained(broker.port) == {
        f"{ROOT}/status": "stopped",
        f"{ROOT}/birth": '{"schema":1}',
        f"{ROOT}/inspection/last": verdict(3, "ERROR").to_json(),
    }
    assert publisher.delivery().waiting == 0
    assert publisher.delivery().dropped == 0


def test_the_payload_is_the_verdict_byte_for_byte(
    broker: Broker, subscriber: Subscriber, make_publisher: Callable[..., Publisher]
) -> None:
    make_publisher(broker.port).publish(verdict(7, "NG"))
    for topic in ("inspection", "defect", "inspection/last"):
        subscriber.wait_payload(f"{ROOT}/{topic}", verdict(7, "NG").to_json())


def user_properties(message: MQTTMessage) -> list[tuple[str, str]]:
    return getattr(message.properties, "UserProperty", [])


def test_status_names_the_session(
    broker: Broker, subscriber: Subscriber, make_publisher: Callable[..., Publisher]
) -> None:
    make_publisher(broker.port)
    assert user_properties(subscriber.wait_payload(f"{ROOT}/status", "online")) == [("session_id", SESSION)]


def test_the_broker_may_go_and_come_back(
    broker: Broker,
    subscriber: Subscriber,
    make_publisher: Callable[..., Publisher],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "device.publisher")
    publisher = make_publisher(broker.port)
    publisher.publish(verdict(0))
    subscriber.wait_payload(f"{ROOT}/inspection", verdict(0).to_json())
    broker.stop(signal.SIGKILL)
    for seq in range(1, 200):  # more than paho is given at a time
        publisher.publish(verdict(seq, "NG"))
    assert publisher.delivery().waiting > 2 * 190
    subscriber.forget()
    broker.start()
    subscriber.wait_payload(f"{ROOT}/status", "online")
    waited = list(range(1, 200))
    subscriber.wait(lambda _: {*waited} <= {*seqs(subscriber, "inspection")}, "everything that waited")
    subscriber.wait(lambda _: {*waited} <= {*seqs(subscriber, "defect")}, "every defect that waited")
    subscriber.wait(lambda _: seqs(subscriber, "inspection/last")[-1:] == [199], "the latest")
    publisher.stop("stopped")
    came = dict.fromkeys(seqs(subscriber, "inspection"))
    came.pop(0, None)  # the broker may repeat the one whose acknowledgement its kill cut off
    assert list(came) == waited  # in order
    assert publisher.delivery().dropped == 0
    levels = [(r.levelname, r.getMessage()) for r in caplog.records]
    assert sum(level == "WARNING" for level, _ in levels) == 1
    assert any(level == "WARNING" and "connection lost" in text for level, text in levels)
    assert any(
        level == "INFO" and "connected after" in text and "events waiting" in text for level, text in levels
    )


def test_a_broker_that_has_forgotten_everything_is_told_again(
    broker: Broker, subscriber: Subscriber, make_publisher: Callable[..., Publisher]
) -> None:
    publisher = make_publisher(broker.port)
    publisher.publish(verdict(0))
    subscriber.wait_payload(f"{ROOT}/inspection/last", verdict(0).to_json())
    broker.stop(signal.SIGKILL)
    for saved in broker.folder.glob("*.db*"):
        saved.unlink()
    subscriber.forget()
    broker.start()
    subscriber.wait_payload(f"{ROOT}/status", "online")
    subscriber.wait_payload(f"{ROOT}/birth", '{"schema":1}')
    subscriber.wait_payload(f"{ROOT}/inspection/last", verdict(0).to_json())
    assert seqs(subscriber, "inspection") == []


def test_a_broker_that_comes_late(
    make_broker: Callable[..., Broker],
    make_publisher: Callable[..., Publisher],
    caplog: pytest.LogCaptureFixture,
) -> None:
    late = make_broker()
    publisher = make_publisher(late.port)
    publisher.publish(verdict(0))
    wait_for(lambda: "cannot be reached: Connection refused" in caplog.text)
    late.start()
    subscriber = Subscriber(late.port)
    subscriber.wait_payload(f"{ROOT}/inspection/last", verdict(0).to_json())
    subscriber.close()


def test_the_oldest_is_dropped_when_the_queue_is_full(
    make_broker: Callable[..., Broker],
    make_publisher: Callable[..., Publisher],
    caplog: pytest.LogCaptureFixture,
) -> None:
    late = make_broker()
    publisher = make_publisher(late.port, queue_limit=5)
    for seq in range(8):
        publisher.publish(verdict(seq))
    assert publisher.delivery().waiting == 5
    assert publisher.delivery().dropped == 3
    assert "more than 5 events wait" in caplog.text
    late.start()
    subscriber = Subscriber(late.port)
    wait_for(lambda: publisher.delivery().waiting == 0)
    publisher.stop("stopped")
    assert json.loads(retained(late.port)[f"{ROOT}/inspection/last"])["seq"] == 7
    subscriber.close()


def test_a_large_backlog_with_a_window_of_the_brokers_choice(
    make_broker: Callable[..., Broker], make_publisher: Callable[..., Publisher]
) -> None:
    late = make_broker("allow_anonymous true", "max_inflight_messages 6")
    publisher = make_publisher(late.port)
    for seq in range(500):
        publisher.publish(verdict(seq))
    late.start()
    subscriber = Subscriber(late.port)
    wait_for(lambda: publisher.delivery().waiting == 0)
    publisher.stop("stopped")
    assert publisher.delivery().acknowledged >= 500
    subscriber.close()


def test_no_broker_at_all_costs_stop_a_bounded_time(
    make_publisher: Callable[..., Publisher],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publishers, "FLUSH_S", 0.2)
    publisher = make_publisher(free_port())
    publisher.publish(verdict(0))
    begin = time.monotonic()
    publisher.stop("stopped")
    assert time.monotonic() - begin < 5
    assert "1 messages were not delivered and are lost" in caplog.text


def test_a_broker_that_hangs_costs_stop_a_bounded_time(
    broker: Broker,
    subscriber: Subscriber,
    make_publisher: Callable[..., Publisher],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publishers, "FLUSH_S", 0.2)
    publisher = make_publisher(broker.port)
    subscriber.wait_payload(f"{ROOT}/status", "online")
    broker.process.send_signal(signal.SIGSTOP)
    publisher.publish(verdict(0))
    begin = time.monotonic()
    publisher.stop("stopped")
    assert time.monotonic() - begin < 5
    broker.process.send_signal(signal.SIGCONT)


def test_wrong_credentials_are_told_once(
    make_broker: Callable[..., Broker],
    make_publisher: Callable[..., Publisher],
    caplog: pytest.LogCaptureFixture,
) -> None:
    closed = make_broker("allow_anonymous false")
    closed.start()
    caplog.set_level(logging.DEBUG, "device.publisher")
    make_publisher(closed.port, username="u", password="wrong")
    wait_for(lambda: caplog.text.count("refuses the connection: Not authorized") == 2)
    refusals = [r.levelname for r in caplog.records if "refuses the connection" in r.getMessage()]
    assert refusals == ["WARNING", "DEBUG"]


def test_a_message_that_the_broker_refuses_is_counted(
    make_broker: Callable[..., Broker],
    make_publisher: Callable[..., Publisher],
    caplog: pytest.LogCaptureFixture,
) -> None:
    strict = make_broker()
    rules = strict.folder.with_name("acl")
    rules.write_text(f"topic write {ROOT}/status\ntopic write {ROOT}/birth\ntopic write {ROOT}/inspection\n")
    strict.settings = ("allow_anonymous true", f"acl_file {rules}")
    strict.start()
    publisher = make_publisher(strict.port)
    publisher.publish(verdict(0, "NG"))
    wait_for(lambda: publisher.delivery().refused == 2)  # defect and inspection/last
    assert caplog.text.count("refuses a message: Not authorized") == 1
    assert publisher.delivery().waiting == 0


def test_a_fault_in_a_callback_does_not_end_the_delivery(
    broker: Broker,
    subscriber: Subscriber,
    make_publisher: Callable[..., Publisher],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults = iter([ZeroDivisionError("planted")])

    def faulty(publisher: Publisher) -> None:
        for fault in faults:
            raise fault

    monkeypatch.setattr(Publisher, "_report_recovery", faulty)
    publisher = make_publisher(broker.port)
    subscriber.wait_payload(f"{ROOT}/status", "online")
    wait_for(lambda: "fault in _on_connect; delivery goes on" in caplog.text)
    broker.stop(signal.SIGKILL)
    broker.start()
    publisher.publish(verdict(1))
    subscriber.wait_payload(f"{ROOT}/inspection", verdict(1).to_json())


def wait_for(condition: Callable[[], bool]) -> None:
    """Poll what has no event to wait for."""
    end = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        pause.wait(0.02)
