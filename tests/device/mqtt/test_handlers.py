"""What arrives, handled in a thread of its own."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import pytest
from fixtures_broker import DEADLINE_S, Broker, Subscriber
from fixtures_mqtt import ROOT, birth
from fixtures_verdict import verdict, wait_for

from device.mqtt.connection import IncomingMessage
from device.mqtt.publisher import Publisher


def test_a_handler_may_be_slow_or_fail_and_delivery_goes_on(
    broker: Broker,
    subscriber: Subscriber,
    make_publisher: Callable[..., Publisher],
    caplog: pytest.LogCaptureFixture,
) -> None:
    publisher = make_publisher(broker.port)
    taken: list[IncomingMessage] = []
    go_on = threading.Event()

    def handle(message: IncomingMessage) -> None:
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
