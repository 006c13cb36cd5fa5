"""One connection, against a real broker and against peers that misbehave as none of those here would."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from fixtures_broker import Broker, Subscriber, free_port
from fixtures_certificates import Certificates
from fixtures_mqtt import mqtt_config

from device.config import TlsConfig
from device.errors import BrokerError
from device.mqtt.connection import (
    CLIENT_ID_FILE,
    Bell,
    Connection,
    ProtocolRefused,
    Unanswered,
    Will,
    own_client_id,
)


def open_connection(port: int, protocol: str = "5", **changes: object) -> Connection:
    connection = Connection(mqtt_config(port, **changes), "edgevision-press-4", protocol)
    connection.open(2.0)
    return connection


def turn_on(connection: Connection) -> None:
    """Until it is lost."""
    for _ in range(30):
        connection.turn(1.0)


@contextmanager
def peer(answer: bytes) -> Iterator[int]:
    """Somebody on a port who reads the CONNECT and answers so; nothing: hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                with suppress(ConnectionError):
                    client.sendall(answer)
                    while answer and client.recv(4096):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_what_is_published_is_acknowledged(broker: Broker, subscriber: Subscriber, protocol: str) -> None:
    connection = open_connection(broker.port, protocol)
    mid = connection.publish("a/b", b"payload", 1, retain=False, properties={})
    while not connection.answers:
        connection.turn(1.0)
    assert [(answer.mid, answer.code) for answer in connection.answers] == [(mid, 0)]
    subscriber.wait_payload("a/b", "payload")
    connection.close()


def test_the_window_is_the_broker_s_choice(make_broker: Callable[..., Broker]) -> None:
    narrow = make_broker("allow_anonymous true", "max_inflight_messages 3")
    narrow.start()
    connection = open_connection(narrow.port)
    assert connection.room == connection.window == 3
    connection.publish("a", b"", 1, retain=False, properties={})
    assert connection.room == 2
    assert connection.waited_s >= 0
    connection.close()


def test_what_is_subscribed_to_arrives(broker: Broker, subscriber: Subscriber) -> None:
    connection = open_connection(broker.port)
    connection.subscribe("cmd/#")
    connection.publish(
        "cmd/x", b"\x00\xff", 1, retain=False, properties={"ResponseTopic": "r", "CorrelationData": b"7"}
    )
    while not connection.incoming:
        connection.turn(1.0)
    [message] = connection.incoming
    assert (message.topic, message.payload, message.retained, message.repeated) == (
        "cmd/x",
        b"\x00\xff",
        False,
        False,
    )
    assert message.properties == {"ResponseTopic": "r", "CorrelationData": b"7"}
    connection.close()


def test_a_broker_that_is_gone_is_noticed(broker: Broker) -> None:
    connection = open_connection(broker.port)
    broker.stop(9)
    with pytest.raises(BrokerError, match="connection lost"):
        turn_on(connection)


def test_the_will_is_sent_when_asked_for(broker: Broker, subscriber: Subscriber) -> None:
    for with_will in (False, True):
        connection = Connection(mqtt_config(broker.port), "c", "5", Will("status", "offline", "s"))
        connection.open()
        connection.publish("mark", str(with_will).encode(), 1, retain=False, properties={})
        while not connection.answers:
            connection.turn(1.0)
        connection.close(with_will=with_will)
    will = subscriber.wait_payload("status", "offline")
    assert will.properties.UserProperty == [("session_id", "s")]
    assert [m.topic for m in subscriber.messages].count("status") == 1


def test_nobody_there() -> None:
    with pytest.raises(BrokerError, match="cannot be reached: Connection refused"):
        open_connection(free_port())


@pytest.mark.parametrize("host", ["nobody.invalid", "a..b", "x" * 70])
def test_a_name_that_nobody_has(host: str) -> None:
    with pytest.raises(BrokerError, match="cannot be reached: "):
        open_connection(1883, host=host)


def test_a_peer_that_accepts_and_stays_silent_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = Connection(mqtt_config(server.getsockname()[1]), "c", "5")
        begin = time.monotonic()
        with pytest.raises(BrokerError, match=r"did not answer MQTT within 0\.3 s"):
            connection.open(0.3)
        assert time.monotonic() - begin < 5


def test_a_broker_that_does_not_know_mqtt_5_says_so() -> None:
    with peer(b"\x20\x02\x00\x01") as port, pytest.raises(ProtocolRefused, match="does not speak MQTT 5"):
        open_connection(port)


def test_a_broker_of_mqtt_5_that_does_not_want_it_says_so() -> None:
    with peer(b"\x20\x03\x00\x84\x00") as port, pytest.raises(ProtocolRefused, match="does not speak MQTT 5"):
        open_connection(port)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x00", b"\xff" * 64])
def test_a_peer_that_hangs_up_or_talks_nonsense_did_not_answer(answer: bytes) -> None:
    with peer(answer) as port, pytest.raises((Unanswered, BrokerError)):
        open_connection(port)


def test_a_message_that_is_too_large_is_known_before_it_is_sent(make_broker: Callable[..., Broker]) -> None:
    small = make_broker("allow_anonymous true", "max_packet_size 1000")
    small.start()
    connection = open_connection(small.port)
    assert connection.fits("topic", b"x" * 900)
    assert not connection.fits("topic", b"x" * 1000)
    connection.close()


def tls_broker(
    make_broker: Callable[..., Broker], certificates: Certificates, name: str = "broker"
) -> Broker:
    lines = [f"cafile {certificates['ca.pem']}"]
    lines += [f"certfile {certificates[f'{name}.pem']}", f"keyfile {certificates[f'{name}.key']}"]
    broker = make_broker("allow_anonymous true", *lines)
    broker.start()
    return broker


def test_tls_with_a_certificate_of_our_own(
    make_broker: Callable[..., Broker], certificates: Certificates
) -> None:
    broker = tls_broker(make_broker, certificates)
    broker.stop()
    broker.settings = (*broker.settings, "require_certificate true", "use_identity_as_username true")
    broker.start()
    tls = TlsConfig(certificates["ca.pem"], certificates["client.pem"], certificates["client.key"])
    open_connection(broker.port, tls=tls).close()
    assert "u'client'" in broker.log()
    with pytest.raises(BrokerError):  # in the handshake or right after it, as TLS 1.3 has it
        turn_on(open_connection(broker.port, tls=TlsConfig(certificates["ca.pem"])))


@pytest.mark.parametrize(
    ("broker_s", "authority", "problem"),
    [
        ("broker", "other-ca", "is not to be trusted: (self-signed|unable to get)"),
        ("broker", None, "is not to be trusted: (self-signed|unable to get)"),
        ("expired", "ca", "is not to be trusted: certificate has expired"),
    ],
)
def test_a_broker_that_is_not_to_be_trusted(
    make_broker: Callable[..., Broker],
    certificates: Certificates,
    broker_s: str,
    authority: str | None,
    problem: str,
) -> None:
    broker = tls_broker(make_broker, certificates, broker_s)
    tls = TlsConfig(certificates[f"{authority}.pem"] if authority else None)
    with pytest.raises(BrokerError, match=problem):
        open_connection(broker.port, tls=tls)
    open_connection(broker.port, tls=TlsConfig(insecure=True)).close()


def test_a_certificate_for_another_host(
    make_broker: Callable[..., Broker], certificates: Certificates
) -> None:
    broker = tls_broker(make_broker, certificates, "elsewhere")
    with pytest.raises(BrokerError, match="is not to be trusted: IP address mismatch"):
        open_connection(broker.port, tls=TlsConfig(certificates["ca.pem"]))


def test_tls_with_a_broker_that_speaks_in_clear(broker: Broker, certificates: Certificates) -> None:
    with pytest.raises(BrokerError, match="TLS fails"):
        open_connection(broker.port, tls=TlsConfig(certificates["ca.pem"]))


def test_a_bell_wakes_at_once_and_once() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    begin = time.monotonic()
    bell.wait(30)
    assert time.monotonic() - begin < 5
    threading.Timer(0.05, bell.ring).start()
    bell.wait(30)
    assert time.monotonic() - begin < 5


def test_a_client_id_that_nobody_can_guess_and_that_lasts(tmp_path: Path) -> None:
    drawn = own_client_id(tmp_path / "state", "press-4")
    assert re.fullmatch(r"edgevision-press-4-[0-9a-f]{8}", drawn)
    assert own_client_id(tmp_path / "state", "press-4") == drawn
    assert own_client_id(tmp_path / "other", "press-4") != drawn
    (tmp_path / "state" / CLIENT_ID_FILE).write_text("../../x")
    assert re.fullmatch(r"edgevision-press-4-[0-9a-f]{8}", own_client_id(tmp_path / "state", "press-4"))


def test_a_disk_that_keeps_no_client_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").write_text("no folder")
    assert re.fullmatch(r"edgevision-press-4-[0-9a-f]{8}", own_client_id(tmp_path / "state", "press-4"))
    assert "for this session alone" in caplog.text
