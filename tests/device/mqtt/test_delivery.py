"""Rows of the outbox on their way: in order, over restarts, and late."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from fixtures_broker import Broker, Subscriber, free_port
from fixtures_mqtt import ROOT, events, seqs
from fixtures_verdict import verdict, wait_for

from device.mqtt import delivery
from device.mqtt.publisher import Publisher


def test_what_a_session_could_not_deliver_the_next_one_does_in_order(
    broker: Broker,
    subscriber: Subscriber,
    make_publisher: Callable[..., Publisher],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "LATE_S", 30.0)
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
    monkeypatch.setattr(delivery, "LATE_S", 0.3)
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


def test_a_verdict_may_expire_in_the_broker(
    broker: Broker, subscriber: Subscriber, make_publisher: Callable[..., Publisher]
) -> None:
    make_publisher(broker.port, message_expiry_s=3600).publish(verdict(0))
    message = subscriber.wait_payload(f"{ROOT}/inspection", verdict(0).to_json())
    assert 0 < message.properties.MessageExpiryInterval <= 3600
    state = subscriber.wait_payload(f"{ROOT}/inspection/last", verdict(0).to_json())
    assert not hasattr(state.properties, "MessageExpiryInterval")
