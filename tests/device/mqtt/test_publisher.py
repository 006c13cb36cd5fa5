"""The publisher, against a real broker that comes and goes."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_broker import Broker, Subscriber, free_port
from fixtures_certificates import Certificates
from fixtures_mqtt import ROOT, birth, retained, seqs, user_properties
from fixtures_peer import Peer
from fixtures_verdict import SESSION, verdict, wait_for

from device.config import TlsConfig
from device.errors import StorageError
from device.mqtt import publisher as publishers
from device.mqtt.connection import Connection
from device.mqtt.publisher import BrokerLink, Publisher


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
    caplog.set_level(logging.DEBUG, "device.mqtt")
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
    caplog.set_level(logging.DEBUG, "device.mqtt")
    make_publisher(closed.port, username="u", password="wrong")
    wait_for(lambda: caplog.text.count("refuses the connection: Not authorized") == 2)
    refusals = [r.levelname for r in caplog.records if "refuses the connection" in r.getMessage()]
    assert refusals == ["WARNING", "DEBUG"]


def test_a_fault_in_the_delivery_does_not_end_it(
    broker: Broker,
    subscriber: Subscriber,
    make_publisher: Callable[..., Publisher],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults = iter([ZeroDivisionError("planted")])
    welcome = BrokerLink._welcome

    def faulty(link: BrokerLink, connection: object) -> None:
        for fault in faults:
            raise fault
        welcome(link, connection)

    monkeypatch.setattr(BrokerLink, "_welcome", faulty)
    publisher = make_publisher(broker.port)
    publisher.publish(verdict(1))
    subscriber.wait_payload(f"{ROOT}/inspection/last", verdict(1).to_json())
    assert "fault in the delivery; it goes on with a new connection" in caplog.text


# -- over restarts, and late


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


# -- state, best effort, subscriptions


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
