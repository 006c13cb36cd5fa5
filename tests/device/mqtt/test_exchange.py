"""What goes out, what the broker answers, and what becomes of both when the connection is lost."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable

import pytest
from fixtures_broker import Broker, Subscriber
from fixtures_mqtt import ROOT, events, seqs
from fixtures_peer import QUOTA_EXCEEDED, Peer, Published
from fixtures_verdict import verdict, wait_for

from device.mqtt import exchange, reconnect
from device.mqtt import publisher as publishers
from device.mqtt.publisher import Publisher


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
    monkeypatch.setattr(exchange, "ANSWER_S", 0.3)
    stalled = make_peer(answer=lambda message: 0 if message.connection > 1 else None)
    publisher = make_publisher(stalled.port)
    for seq in range(3):
        publisher.publish(verdict(seq))
    wait_for(lambda: publisher.delivery().acknowledged == 3)
    assert stalled.connections == 2
    assert "has acknowledged nothing for 0.3 s; trying on" in caplog.text
    assert publisher.delivery().repeated == len(stalled.topics("inspection")) - 3


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
