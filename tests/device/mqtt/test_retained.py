"""State: published when it changes, and again on every connect."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from fixtures_broker import Broker, Subscriber
from fixtures_mqtt import ROOT, birth, seqs
from fixtures_peer import QUOTA_EXCEEDED, Peer
from fixtures_verdict import verdict, wait_for

from device.mqtt import reconnect
from device.mqtt.publisher import Publisher
from device.mqtt.retained import OwnTopics, Retained


def test_state_that_meets_a_quota_is_published_again(
    make_peer: Callable[..., Peer], make_publisher: Callable[..., Publisher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect, "MIN_S", 0.1)
    refusals = iter([QUOTA_EXCEEDED])
    strict = make_peer(answer=lambda message: next(refusals, 0) if message.topic.endswith("/birth") else 0)
    make_publisher(strict.port)
    wait_for(lambda: len(strict.topics("birth")) == 2)


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


def test_a_birth_that_says_something_else_is_published_again(
    broker: Broker, subscriber: Subscriber, make_publisher: Callable[..., Publisher]
) -> None:
    publisher = make_publisher(broker.port)
    wait_for(lambda: len(subscriber.payloads(f"{ROOT}/birth")) == 1)
    publisher.renew_birth()
    wait_for(lambda: len(subscriber.payloads(f"{ROOT}/birth")) == 2)


def test_a_birth_of_another_session_is_a_rival() -> None:
    own = OwnTopics(ROOT, "ours", Retained(ROOT, "ours", birth))
    assert not own.look(f"{ROOT}/birth", b'{"session_id": "ours"}', None)
    assert not own.look(f"{ROOT}/birth", b"no JSON", None)
    assert own.rival is None
    assert own.look(f"{ROOT}/birth", b'{"session_id": "theirs"}', "5")  # ours comes again
    assert f"another station introduces itself as {ROOT}" in str(own.rival)
