"""A real broker that refuses, limits, flaps, and lets others write on our topics."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_broker import DEADLINE_S, Broker, Subscriber
from fixtures_camera import wait_until
from fixtures_mqtt import ROOT, birth, retained, seqs
from fixtures_verdict import NG, OK, SESSION
from paho.mqtt import publish
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from device.mqtt import delivery as delivery_module
from device.mqtt.publisher import Publisher

Make = Callable[..., Publisher]
MakeBroker = Callable[..., Broker]
PICTURE = bytes(range(256)) * 40


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of a real line are too long for a test."""
    monkeypatch.setattr("device.mqtt.reconnect.MIN_S", 0.05)
    monkeypatch.setattr("device.mqtt.reconnect.MAX_S", 0.1)
    monkeypatch.setattr("device.mqtt.reconnect.FLAP_PAUSE_S", 0.1)
    monkeypatch.setattr(delivery_module, "OFFER_EVERY_S", 0.2)


def numbered(seq: int, **changes: object) -> object:
    return replace(OK, seq=seq, event_id=f"5e55-{seq:08}", **changes)


def access(tmp_path: Path, *topics: str) -> Path:
    path = tmp_path / "acl"
    path.write_text("topic read #\n" + "".join(f"topic write {ROOT}/{topic}\n" for topic in topics))
    path.chmod(0o644)
    return path


@pytest.mark.usefixtures("quick")
def test_verdicts_that_access_rules_refuse_are_told_and_come_when_the_rules_are_mended(
    make_broker: MakeBroker, make_publisher: Make, tmp_path: Path
) -> None:
    rules = access(tmp_path, "status", "birth", "model")
    broker = make_broker("allow_anonymous true", f"acl_file {rules}")
    broker.start()
    subscriber = Subscriber(broker.port)
    publisher = make_publisher(broker.port)
    for seq in range(5):
        publisher.publish(numbered(seq))
    wait_until(lambda: publisher.delivery().refused == 5)
    assert publisher.delivery().refusal == "Not authorized"
    access(tmp_path, "#")
    broker.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "Reloading config" in broker.log())
    publisher.publish(numbered(5))
    wait_until(lambda: publisher.delivery().refused == 0 and publisher.delivery().waiting == 0)
    assert sorted(set(seqs(subscriber, "inspection"))) == list(range(6))
    subscriber.close()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("protocol", "limit"),
    [("3.1.1", "max_packet_size 5000"), ("5", "max_packet_size 5000"), ("5", "message_size_limit 5000")],
)
def test_pictures_that_are_too_large_do_not_stand_in_the_way_of_verdicts(
    make_broker: MakeBroker, make_publisher: Make, protocol: str, limit: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="device")
    broker = make_broker("allow_anonymous true", limit)
    broker.start()
    subscriber = Subscriber(broker.port)
    publisher = make_publisher(broker.port, protocol=protocol)
    for seq in range(30):
        publisher.publish(replace(numbered(seq), verdict="NG", score=0.9))
        publisher.send(f"image/{seq}", PICTURE)
        publisher.set_state("image/last", PICTURE + bytes([seq]))
        wait_until(lambda seq=seq: seqs(subscriber, "inspection")[-1:] == [seq])
    wait_until(lambda: publisher.refused_pictures > 0)
    wait_until(lambda: publisher.delivery().waiting == 0)
    assert len(caplog.records) < 12, [record.getMessage() for record in caplog.records]

    def small_came() -> bool:
        publisher.send("image/small", PICTURE[:3000])  # dropped where the broker is away
        return any(m.topic == f"{ROOT}/image/small" for m in subscriber.messages)

    wait_until(small_came)
    subscriber.close()


@pytest.mark.usefixtures("quick")
def test_pictures_that_fit_go_between_the_verdicts(
    broker: Broker, subscriber: Subscriber, make_publisher: Make
) -> None:
    publisher = make_publisher(broker.port)
    wait_until(lambda: publisher.connected)
    for seq in range(50):
        publisher.publish(numbered(seq))
    publisher.send("image/one", PICTURE)
    publisher.set_state("image/last", PICTURE)
    wait_until(
        lambda: {"image/one", "image/last"} <= {m.topic.removeprefix(f"{ROOT}/") for m in subscriber.messages}
    )
    wait_until(lambda: seqs(subscriber, "inspection") == list(range(50)))
    assert publisher.refused_pictures == 0


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_two_clients_of_one_name_are_told_and_fill_no_log(
    broker: Broker, make_publisher: Make, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="device")
    publisher = make_publisher(broker.port, protocol=protocol)
    for _ in range(20):
        if publisher.flapping is not None:
            break
        wait_until(lambda: publisher.connected)
        rival = Client(CallbackAPIVersion.VERSION2, publisher.client_id)
        rival.connect("127.0.0.1", broker.port)
        rival.loop_start()
        wait_until(lambda: not publisher.connected)
        rival.disconnect()
        rival.loop_stop()
    assert f"is there another client {publisher.client_id}?" in str(publisher.flapping)
    assert len([r for r in caplog.records if r.levelno >= logging.INFO]) < 12
    wait_until(lambda: publisher.connected)
    publisher.publish(replace(NG, seq=1))
    wait_until(lambda: publisher.delivery().acknowledged == 1)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize(
    ("topic", "payload"), [("status", "offline"), ("model", ""), ("model", '{"id":"other"}'), ("birth", "{}")]
)
def test_what_another_client_writes_on_our_topics_does_not_stay(
    broker: Broker, subscriber: Subscriber, make_publisher: Make, protocol: str, topic: str, payload: str
) -> None:
    publisher = make_publisher(broker.port, protocol=protocol)
    publisher.set_state("model", '{"id":"tiny"}')
    wait_until(
        lambda: {"status", "birth", "model"} <= {t.removeprefix(f"{ROOT}/") for t in retained(broker.port)}
    )
    wait_until(lambda: "SUBSCRIBE from edgevision-press-4" in broker.log())
    ours = retained(broker.port)[f"{ROOT}/{topic}"]
    for _ in range(2):
        publish.single(f"{ROOT}/{topic}", payload, qos=1, retain=True, port=broker.port, hostname="127.0.0.1")
        wait_until(lambda: retained(broker.port).get(f"{ROOT}/{topic}") == ours)


def test_our_own_state_is_not_taken_for_anothers(
    broker: Broker, subscriber: Subscriber, make_publisher: Make, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = make_publisher(broker.port)
    for number in range(20):
        publisher.set_state("counters", f'{{"ok":{number}}}')
        wait_until(
            lambda number=number: subscriber.payloads(f"{ROOT}/counters")[-1:] == [f'{{"ok":{number}}}']
        )
    started_s = time.monotonic()
    assert len(subscriber.payloads(f"{ROOT}/counters")) == 20
    assert time.monotonic() - started_s < DEADLINE_S
    assert "another client" not in caplog.text


def test_what_the_broker_kept_of_the_session_before_is_replaced_once(
    broker: Broker, subscriber: Subscriber, make_publisher: Make
) -> None:
    first = make_publisher(broker.port, "session1")
    first.set_state("model", '{"id":"old"}')
    subscriber.wait_payload(f"{ROOT}/model", '{"id":"old"}')
    first.stop("stopped")
    subscriber.wait_payload(f"{ROOT}/status", "stopped")
    subscriber.forget()
    second = make_publisher(broker.port, "session2")
    second.set_state("model", '{"id":"new"}')
    heard = threading.Event()
    second.subscribe("cmd/x", lambda _: heard.set())
    wait_until(lambda: f"{ROOT}/cmd/x (QoS" in broker.log())
    publish.single(f"{ROOT}/cmd/x", "", qos=1, port=broker.port, hostname="127.0.0.1")
    assert heard.wait(DEADLINE_S)  # and so all that was retained
    second.set_state("counters", "{}")
    subscriber.wait_payload(f"{ROOT}/counters", "{}")
    for topic, payloads in (("status", ["online"]), ("birth", [birth("5")]), ("model", ['{"id":"new"}'])):
        assert subscriber.payloads(f"{ROOT}/{topic}") == payloads


def test_another_station_of_our_name_is_told(
    broker: Broker, subscriber: Subscriber, make_publisher: Make
) -> None:
    publisher = make_publisher(broker.port)
    wait_until(lambda: f"{ROOT}/birth" in retained(broker.port))
    birth = f'{{"schema":1,"session_id":"{SESSION}"}}'
    publish.single(f"{ROOT}/birth", birth, qos=1, port=broker.port, hostname="127.0.0.1")
    subscriber.wait_payload(f"{ROOT}/birth", birth)
    assert publisher.flapping is None
    other = birth.replace(SESSION, "0therse551on")
    publish.single(f"{ROOT}/birth", other, qos=1, port=broker.port, hostname="127.0.0.1")
    wait_until(lambda: publisher.flapping)
    assert f"another station introduces itself as {ROOT}" in str(publisher.flapping)
