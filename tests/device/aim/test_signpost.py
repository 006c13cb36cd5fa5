"""Where the page is stands on a real broker, for as long as the page is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import jsonschema
import pytest
from fixtures_broker import Broker, Subscriber
from fixtures_camera import wait_until
from fixtures_daemon import ROOT, Station

from device.aim.signpost import Signpost
from device.config import load
from device.schemas.strict_json import schema_file

ADDRESS = "http://10.0.0.7:8088/"
TOPIC = f"{ROOT}/aim"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def signpost(broker: Broker, make_station: Callable[..., Station], said: list[str]) -> Iterator[Signpost]:
    post = Signpost(load(make_station(broker.port, "o").config), ADDRESS, said.append)
    post.start()
    yield post
    post.stop()


def payloads(subscriber: Subscriber) -> list[bytes]:
    return [message.payload for message in subscriber.messages if message.topic == TOPIC]


def test_it_stands_while_the_page_is_there(
    signpost: Signpost, broker: Broker, subscriber: Subscriber, said: list[str]
) -> None:
    subscriber.wait(lambda _: payloads(subscriber), "where the page is")
    content = json.loads(payloads(subscriber)[0])
    jsonschema.validate(content, json.loads(schema_file("aim").read_text()))
    assert content["address"] == ADDRESS
    signpost.stop()
    subscriber.wait(lambda _: payloads(subscriber)[-1] == b"", "that it has ended")
    late = Subscriber(broker.port)
    late.catch_up()
    late.close()
    assert payloads(late) == []
    assert said == []


def test_a_broker_that_is_away_is_complained_of_once_and_told_when_it_comes(
    make_station: Callable[..., Station], make_broker: Callable[..., Broker], said: list[str]
) -> None:
    late = make_broker()
    post = Signpost(load(make_station(late.port, "o").config), ADDRESS, said.append)
    post.start()
    wait_until(lambda: said)
    assert said[0].startswith("the dashboard has no link to this page: 127.0.0.1: cannot be reached")
    late.start()
    listener = Subscriber(late.port)
    listener.wait(lambda _: payloads(listener), "where the page is")
    listener.close()
    post.stop()
    assert len(said) == 1
