"""The publisher, against a real broker that comes and goes."""

from __future__ import annotations

import json
import logging
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures_broker import Broker, Subscriber, free_port
from fixtures_verdict import SESSION, verdict, wait_for
from paho.mqtt.client import MQTTMessage

from device import publisher as publishers
from device.config import MqttConfig, OutboxConfig
from device.publisher import Publisher

ROOT = "edgevision/press-4"


def mqtt_config(port: int, **changes: object) -> MqttConfig:
    values = {
        "host": "127.0.0.1",
        "port": port,
        "prefix": "edgevision",
        "client_id": "edgevision-press-4",
        "protocol": "auto",
        "keepalive_s": 5,
        "username": None,
        "password": None,
        "tls": None,
        "message_expiry_s": 0,
    }
    return MqttConfig(**(values | changes))


@pytest.fixture
def make_publisher(tmp_path: Path) -> Iterator[Callable[..., Publisher]]:
    """Publishers that have been started, on one outbox; those that a test leaves running are stopped."""
    made: list[Publisher] = []

    def make(port: int, session: str = SESSION, **changes: object) -> Publisher:
        config = mqtt_config(port, **changes)
        limits = OutboxConfig(max_bytes=1_000_000_000, max_days=14)
        made.append(Publisher(config, "press-4", session, birth, limits, tmp_path / "state"))
        made[-1].start()
        return made[-1]

    yield make
    for publisher in made:
        publisher.stop("stopped")


def birth(protocol: str) -> str:
    return f'{{"schema":1,"protocol":"{protocol}"}}'


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
    assert subscriber.payloads(f"{ROOT}/birth") == [birth("5")]
    assert subscriber.payloads(f"{ROOT}/status") == ["online", "stopped"]
    assert {m.qos for m in subscriber.messages} == {1}
    assert retained(broker.port) == {
        f"{ROOT}/status": "stopped",
        f"{ROOT}/birth": birth("5"),
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
    wait_for(lambda: publisher.delivery().waiting == 199)
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
        level == "INFO" and "connected after" in text and "verdicts waiting" in text for level, text in levels
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
    subscriber.wait_payload(f"{ROOT}/birth", birth("5"))
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
    assert publisher.delivery().acknowledged == 500
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
    assert "1 verdicts wait in the outbox for the next start" in caplog.text


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
    wait_for(lambda: publisher.delivery().refused_messages == 2)  # defect and inspection/last
    wait_for(lambda: publisher.delivery().refused == 1)
    assert len(re.findall("refuses a message on .*: Not authorized", caplog.text)) == 1
    assert publisher.delivery().waiting == 0


def test_a_fault_in_the_delivery_does_not_end_it(
    broker: Broker,
    subscriber: Subscriber,
    make_publisher: Callable[..., Publisher],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults = iter([ZeroDivisionError("planted")])
    welcome = Publisher._welcome

    def faulty(publisher: Publisher, connection: object) -> None:
        for fault in faults:
            raise fault
        welcome(publisher, connection)

    monkeypatch.setattr(Publisher, "_welcome", faulty)
    publisher = make_publisher(broker.port)
    publisher.publish(verdict(1))
    subscriber.wait_payload(f"{ROOT}/inspection/last", verdict(1).to_json())
    assert "fault in the delivery; it goes on with a new connection" in caplog.text
