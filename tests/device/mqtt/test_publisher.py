"""The publisher, against a real broker that comes and goes."""

from __future__ import annotations

import json
import logging
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures_broker import DEADLINE_S, Broker, Subscriber, free_port
from fixtures_certificates import Certificates
from fixtures_mqtt import mqtt_config
from fixtures_peer import QUOTA_EXCEEDED, Peer, Published
from fixtures_verdict import SESSION, verdict, wait_for
from paho.mqtt.client import MQTTMessage

from device.config import OutboxConfig, TlsConfig
from device.errors import StorageError
from device.mqtt import publisher as publishers
from device.mqtt import reconnect
from device.mqtt.connection import Connection, Incoming
from device.mqtt.publisher import Publisher

ROOT = "edgevision/press-4"


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
    caplog.set_level(logging.DEBUG, "device.mqtt.publisher")
    publisher = make_publisher(broker.port)
    publisher.publish(verdict(0))
    subscriber.wait_payload(f"{ROOT}/inspection", verdict(0).to_json())
    broker.stop(signal.SIGKILL)
    for seq in range(1, 200):  # more than paho is given at a time
        publisher.publish(verdict(seq, "NG"))
    wait_for(lambda: publisher.delivery().waiting >= 199)  # 200 where the kill cut off an acknowledgement
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
    caplog.set_level(logging.DEBUG, "device.mqtt.publisher")
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


# -- over restarts, and late


def events(subscriber: Subscriber, topic: str = "inspection") -> list[dict]:
    return [json.loads(payload) for payload in subscriber.payloads(f"{ROOT}/{topic}")]


def test_what_a_session_could_not_deliver_the_next_one_does_in_order(
    broker: Broker,
    subscriber: Subscriber,
    make_publisher: Callable[..., Publisher],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publishers, "LATE_S", 30.0)
    first = make_publisher(free_port())
    for seq in range(300):
        first.publish(verdict(seq, "NG", score=0.1 + 0.2))
    first.stop("offline")
    second = make_publisher(broker.port, session="second")
    second.publish(verdict(0, session_id="second"))
    subscriber.wait_payload(f"{ROOT}/inspection", verdict(0, session_id="second").to_json())
    second.stop("stopped")
    found = events(subscriber)
    assert [event["event_id"] for event in found] == [verdict(seq).event_id for seq in range(300)] + [
        "second-00000000"
    ]
    assert [event["historical"] for event in found] == [True] * 300 + [False]
    expected = verdict(0, "NG", score=0.1 + 0.2).to_json()
    assert subscriber.payloads(f"{ROOT}/inspection")[0] == expected.replace('l":false', 'l":true', 1)
    assert seqs(subscriber, "defect") == list(range(300))
    assert (second.delivery().late, second.delivery().acknowledged) == (300, 301)


def test_late_in_the_same_session_is_historical_too(
    make_broker: Callable[..., Broker],
    make_publisher: Callable[..., Publisher],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publishers, "LATE_S", 0.3)
    late = make_broker()
    publisher = make_publisher(late.port)
    publisher.publish(verdict(0))
    wait_for(lambda: publisher.delivery().waiting == 1)
    threading.Event().wait(0.4)  # what is tested is the passing of time
    late.start()
    subscriber = Subscriber(late.port)
    wait_for(lambda: publisher.connected)
    publisher.publish(verdict(1))
    wait_for(lambda: publisher.delivery().acknowledged == 2)
    assert publisher.delivery().late == 1
    subscriber.close()


def test_a_second_service_on_the_same_outbox_is_refused(make_publisher: Callable[..., Publisher]) -> None:
    make_publisher(free_port())
    with pytest.raises(StorageError, match="another process has it open"):
        make_publisher(free_port())


# -- what a broker may do


def test_a_broker_of_3_1_1_only_is_spoken_to_in_3_1_1_and_that_is_named(
    make_peer: Callable[..., Peer],
    make_publisher: Callable[..., Publisher],
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = make_peer(level=4)
    publisher = make_publisher(old.port)
    publisher.publish(verdict(0, "NG"))
    wait_for(lambda: publisher.delivery().acknowledged == 1)
    assert (old.refused, old.connections, publisher.protocol) == (1, 1, "3.1.1")
    assert "does not speak MQTT 5; MQTT 3.1.1 is used" in caplog.text
    assert old.topics("birth") == [birth("3.1.1").encode()]
    assert old.topics("inspection") == old.topics("defect") == [verdict(0, "NG").to_json().encode()]


def test_a_broker_of_3_1_1_only_is_left_alone_by_who_wants_5(
    make_peer: Callable[..., Peer],
    make_publisher: Callable[..., Publisher],
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = make_peer(level=4)
    make_publisher(old.port, protocol="5")
    wait_for(lambda: old.refused >= 2)
    assert old.connections == 0
    assert "does not speak MQTT 5; trying on" in caplog.text


def test_3_1_1_with_a_real_broker(
    broker: Broker, subscriber: Subscriber, make_publisher: Callable[..., Publisher]
) -> None:
    publisher = make_publisher(broker.port, protocol="3.1.1", message_expiry_s=60)
    publisher.publish(verdict(0, "NG"))
    publisher.stop("stopped")
    subscriber.wait_payload(f"{ROOT}/status", "stopped")
    assert seqs(subscriber, "defect") == [0]
    assert subscriber.payloads(f"{ROOT}/birth") == [birth("3.1.1")]
    assert "(p2, " in broker.log()  # how Mosquitto calls it


def test_a_quota_is_waited_for_and_the_order_kept(
    make_peer: Callable[..., Peer],
    make_publisher: Callable[..., Publisher],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reconnect, "MIN_S", 0.1)
    refusals = iter([QUOTA_EXCEEDED] * 3)
    strict = make_peer(
        receive_maximum=1,
        answer=lambda message: next(refusals, 0) if message.topic.endswith("/inspection") else 0,
    )
    publisher = make_publisher(strict.port)
    for seq in range(3):
        publisher.publish(verdict(seq))
    wait_for(lambda: publisher.delivery().acknowledged == 3)
    came = [json.loads(payload)["seq"] for payload in strict.topics("inspection")]
    assert came == [0, 0, 0, 0, 1, 2]
    assert (publisher.delivery().refused, strict.connections) == (0, 1)
    assert caplog.text.count("quota exceeded; next attempt in") == 1


def test_state_that_meets_a_quota_is_published_again(
    make_peer: Callable[..., Peer], make_publisher: Callable[..., Publisher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect, "MIN_S", 0.1)
    refusals = iter([QUOTA_EXCEEDED])
    strict = make_peer(answer=lambda message: next(refusals, 0) if message.topic.endswith("/birth") else 0)
    make_publisher(strict.port)
    wait_for(lambda: len(strict.topics("birth")) == 2)


def test_the_broker_s_window_is_kept(
    make_peer: Callable[..., Peer], make_publisher: Callable[..., Publisher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishers, "FLUSH_S", 0.1)
    silent = make_peer(receive_maximum=5, answer=lambda message: None)
    publisher = make_publisher(silent.port)
    for seq in range(20):
        publisher.publish(verdict(seq))
    wait_for(lambda: len(silent.published) == 5)
    threading.Event().wait(0.3)  # for what must not come
    assert len(silent.published) == 5
    publisher.stop("stopped")


def test_a_broker_that_acknowledges_nothing_is_given_up_and_all_is_sent_again(
    make_peer: Callable[..., Peer],
    make_publisher: Callable[..., Publisher],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(publishers, "ANSWER_S", 0.3)
    stalled = make_peer(answer=lambda message: 0 if message.connection > 1 else None)
    publisher = make_publisher(stalled.port)
    for seq in range(3):
        publisher.publish(verdict(seq))
    wait_for(lambda: publisher.delivery().acknowledged == 3)
    assert stalled.connections == 2
    assert "has acknowledged nothing for 0.3 s; trying on" in caplog.text
    assert publisher.delivery().repeated == len(stalled.topics("inspection")) - 3


def test_a_broker_that_takes_the_connection_and_says_nothing_is_given_up(
    make_peer: Callable[..., Peer],
    make_publisher: Callable[..., Publisher],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Connection.open, "__defaults__", (0.3,))
    mute = make_peer(connack=False)
    publisher = make_publisher(mute.port)
    publisher.publish(verdict(0))
    wait_for(lambda: mute.connections >= 2)
    assert "took the connection and did not answer MQTT within 0.3 s; trying on" in caplog.text
    mute.connack = True
    wait_for(lambda: publisher.delivery().acknowledged == 1)


@pytest.mark.parametrize("setting", ["max_packet_size 1500", "message_size_limit 1500"])
def test_a_verdict_that_is_too_large_is_kept_aside_and_stops_nobody(
    make_broker: Callable[..., Broker],
    make_publisher: Callable[..., Publisher],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
) -> None:
    monkeypatch.setattr(reconnect, "MIN_S", 0.2)
    small = make_broker("allow_anonymous true", setting)
    small.start()
    subscriber = Subscriber(small.port)
    publisher = make_publisher(small.port)
    publisher.publish(verdict(0))
    publisher.publish(verdict(1, part_id="x" * 2000))
    publisher.publish(verdict(2))
    wait_for(lambda: publisher.delivery().acknowledged == 2 and publisher.delivery().refused == 1)
    subscriber.wait(lambda _: list(dict.fromkeys(seqs(subscriber, "inspection"))) == [0, 2], "the others")
    said = "Packet too large" if setting.startswith("max") else "ends the connection whenever it is sent"
    assert said in caplog.text
    assert publisher.delivery().waiting == 0
    subscriber.close()


def test_a_network_that_comes_and_goes_convicts_no_verdict(
    make_peer: Callable[..., Peer], make_publisher: Callable[..., Publisher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect, "MIN_S", 0.01)
    monkeypatch.setattr(reconnect, "MAX_S", 0.05)  # what is lost with its acknowledgement makes pauses double
    chance = random.Random(8)  # noqa: S311

    def answer(message: Published) -> int:
        if message.topic.endswith("/inspection") and chance.random() < 0.2:
            raise EOFError  # losing state too would only show that pauses between attempts double
        return 0

    weak = make_peer(answer=answer)
    publisher = make_publisher(weak.port)
    for seq in range(40):
        publisher.publish(verdict(seq))
    wait_for(lambda: publisher.delivery().waiting == 0)
    came = [json.loads(payload)["seq"] for payload in weak.topics("inspection")]
    assert publisher.delivery().refused == 0
    assert list(dict.fromkeys(came)) == list(range(40))
    assert weak.connections > 4


def test_what_an_access_rule_refused_is_delivered_after_it_is_mended_and_the_service_restarted(
    make_broker: Callable[..., Broker], make_publisher: Callable[..., Publisher]
) -> None:
    strict = make_broker()
    rules = strict.folder.with_name("acl")
    rules.write_text(f"topic write {ROOT}/status\ntopic write {ROOT}/inspection\ntopic read #\n")
    strict.settings = ("allow_anonymous true", f"acl_file {rules}")
    strict.start()
    publisher = make_publisher(strict.port)
    publisher.publish(verdict(0, "NG"))
    wait_for(lambda: publisher.delivery().refused == 1)
    publisher.stop("stopped")
    rules.write_text("topic readwrite #\n")
    strict.stop()
    strict.start()
    subscriber = Subscriber(strict.port)
    make_publisher(strict.port, session="second")
    subscriber.wait(lambda _: seqs(subscriber, "defect") == [0], "the defect")
    assert seqs(subscriber, "inspection") == []  # which had been taken
    assert events(subscriber, "defect")[0]["historical"] is True
    subscriber.close()


@pytest.mark.parametrize(
    ("broker_s", "authority", "problem"),
    [
        ("broker", "other-ca", "is not to be trusted: "),
        ("expired", "ca", "is not to be trusted: certificate has expired"),
    ],
)
def test_a_broker_that_is_not_trusted_gets_nothing_and_nothing_is_lost(
    make_broker: Callable[..., Broker],
    make_publisher: Callable[..., Publisher],
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
    broker_s: str,
    authority: str,
    problem: str,
) -> None:
    files = (f"certfile {certificates[f'{broker_s}.pem']}", f"keyfile {certificates[f'{broker_s}.key']}")
    false = make_broker("allow_anonymous true", *files)
    false.start()
    publisher = make_publisher(false.port, tls=TlsConfig(certificates[f"{authority}.pem"]))
    publisher.publish(verdict(0))
    wait_for(lambda: problem in caplog.text)
    assert publisher.delivery().waiting == 1
    assert "CONNECT" not in false.log()
    publisher.stop("stopped")
    make_publisher(false.port, session="second", tls=TlsConfig(insecure=True))
    wait_for(lambda: "PUBACK to edgevision-press-4" in false.log())
    assert "its certificate is not verified ([mqtt] insecure)" in caplog.text


def test_everything_over_tls_with_a_certificate(
    make_broker: Callable[..., Broker], make_publisher: Callable[..., Publisher], certificates: Certificates
) -> None:
    files = (f"certfile {certificates['broker.pem']}", f"keyfile {certificates['broker.key']}")
    strict = make_broker(
        "allow_anonymous true", f"cafile {certificates['ca.pem']}", *files, "require_certificate true"
    )
    strict.start()
    tls = TlsConfig(certificates["ca.pem"], certificates["client.pem"], certificates["client.key"])
    publisher = make_publisher(strict.port, tls=tls)
    for seq in range(500):
        publisher.publish(verdict(seq, "NG"))
    wait_for(lambda: publisher.delivery().acknowledged == 500)


def test_a_verdict_may_expire_in_the_broker(
    broker: Broker, subscriber: Subscriber, make_publisher: Callable[..., Publisher]
) -> None:
    make_publisher(broker.port, message_expiry_s=3600).publish(verdict(0))
    message = subscriber.wait_payload(f"{ROOT}/inspection", verdict(0).to_json())
    assert 0 < message.properties.MessageExpiryInterval <= 3600
    state = subscriber.wait_payload(f"{ROOT}/inspection/last", verdict(0).to_json())
    assert not hasattr(state.properties, "MessageExpiryInterval")


# -- state, best effort, subscriptions


def test_state_is_published_when_it_changes_and_on_every_connect(
    broker: Broker, subscriber: Subscriber, make_publisher: Callable[..., Publisher]
) -> None:
    publisher = make_publisher(broker.port)
    publisher.set_state("health", '{"state":"ready"}')
    publisher.set_state("homeassistant/device/x/config", b"{}", absolute=True)
    subscriber.wait_payload(f"{ROOT}/health", '{"state":"ready"}')
    publisher.set_state("health", '{"state":"ready"}')
    publisher.set_state("health", '{"state":"alert"}')
    subscriber.wait_payload(f"{ROOT}/health", '{"state":"alert"}')
    assert subscriber.payloads(f"{ROOT}/health") == ['{"state":"ready"}', '{"state":"alert"}']
    broker.stop(signal.SIGKILL)
    for saved in broker.folder.glob("*.db*"):
        saved.unlink()
    subscriber.forget()
    broker.start()
    subscriber.wait_payload("homeassistant/device/x/config", "{}")
    told = [m.topic.removeprefix(f"{ROOT}/") for m in subscriber.messages]
    assert told == ["status", "birth", "health", "homeassistant/device/x/config"]
    subscriber.forget()
    publisher.repeat_state()
    subscriber.wait_payload("homeassistant/device/x/config", "{}")
    assert subscriber.payloads(f"{ROOT}/birth") == [birth("5")]


def test_best_effort_is_sent_now_or_never(
    make_broker: Callable[..., Broker], make_publisher: Callable[..., Publisher]
) -> None:
    late = make_broker()
    publisher = make_publisher(late.port)
    publisher.send("stats", "while away")
    late.start()
    subscriber = Subscriber(late.port)
    wait_for(lambda: publisher.connected)
    publisher.send("stats", "1")
    publisher.send("reply/to", b"2", 1, {"CorrelationData": b"7"}, absolute=True)
    answer = subscriber.wait_payload("reply/to", "2")
    assert (answer.properties.CorrelationData, answer.qos) == (b"7", 1)
    subscriber.wait_payload(f"{ROOT}/stats", "1")
    assert subscriber.payloads(f"{ROOT}/stats") == ["1"]
    subscriber.close()


def test_a_handler_may_be_slow_or_fail_and_delivery_goes_on(
    broker: Broker,
    subscriber: Subscriber,
    make_publisher: Callable[..., Publisher],
    caplog: pytest.LogCaptureFixture,
) -> None:
    publisher = make_publisher(broker.port)
    taken: list[Incoming] = []
    go_on = threading.Event()

    def handle(message: Incoming) -> None:
        taken.append(message)
        go_on.wait(DEADLINE_S)
        raise ZeroDivisionError("planted")

    publisher.subscribe("cmd/#", handle)
    wait_for(lambda: "Sending SUBACK to edgevision-press-4" in broker.log())
    for payload in (b"one", b"\xff\x00"):
        publisher.send("cmd/trigger", payload, 1, {"ResponseTopic": "r"})
    wait_for(lambda: taken)
    publisher.publish(verdict(0))
    subscriber.wait_payload(f"{ROOT}/inspection", verdict(0).to_json())
    go_on.set()
    wait_for(lambda: len(taken) == 2)
    wait_for(lambda: caplog.text.count("fault in the handler of") == 2)
    assert [(m.topic, m.payload) for m in taken] == [
        (f"{ROOT}/cmd/trigger", b"one"),
        (f"{ROOT}/cmd/trigger", b"\xff\x00"),
    ]
    assert taken[0].properties["ResponseTopic"] == "r"
    subscriber.forget()
    broker.stop(signal.SIGKILL)
    broker.start()
    subscriber.wait_payload(f"{ROOT}/birth", birth("5"))
    publisher.send("cmd/again", b"", 1)
    wait_for(lambda: len(taken) == 3)  # it was subscribed to again


def test_a_damaged_outbox_is_set_aside_and_delivery_goes_on(
    broker: Broker, subscriber: Subscriber, make_publisher: Callable[..., Publisher], tmp_path: Path
) -> None:
    first = make_publisher(free_port())
    first.publish(verdict(0))
    first.stop("offline")
    (tmp_path / "state" / "outbox.sqlite").write_bytes(b"no database" * 1000)
    second = make_publisher(broker.port, session="second")
    second.publish(verdict(0, session_id="second"))
    subscriber.wait_payload(f"{ROOT}/inspection", verdict(0, session_id="second").to_json())
    assert (second.delivery().lost, second.delivery().set_aside) == (1, 1)
