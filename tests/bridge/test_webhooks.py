"""Webhooks, with a receiver that fails, and openssl to check the signature."""

from __future__ import annotations

import base64
import json
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fixtures_bridge import BridgeProcess, StandIn, wait_until
from fixtures_broker import Broker

SECRET = bytes(range(32))
CONNECTED = "-webhooks: connected"


@dataclass
class Receiver:
    """An MES: `answers` are the next status codes, then 204; `taken` what was answered with 2xx."""

    server: ThreadingHTTPServer
    answers: list[int] = field(default_factory=list)
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    asked: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/hook"

    def data(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.taken]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.asked += 1
            status = made.answers.pop(0) if made.answers else 204
            if status < 300:
                made.taken.append(({name.lower(): text for name, text in self.headers.items()}, body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, format: str, *values: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Receiver(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


@pytest.fixture
def bridge(broker: Broker, make_bridge: Callable[[int], BridgeProcess], receiver: Receiver) -> BridgeProcess:
    """A bridge that posts to the receiver; it has not been started."""
    made = make_bridge(broker.port)
    (made.folder / "secret").write_text(f"whsec_{base64.b64encode(SECRET).decode()}\n")
    made.configure(
        webhooks=f'urls = ["{receiver.url}"]\nsecret_file = "secret"\nstate = "state"\ntimeout_s = 5.0'
        '\nevents = ["NG", "MARGINAL", "ERROR", "status"]',
        metrics="",
    )
    return made


def start(bridge: BridgeProcess) -> None:
    """Until its session is at the broker: what is said from now on will be posted."""
    before = bridge.log().count(CONNECTED)
    bridge.start()
    wait_until(lambda: bridge.log().count(CONNECTED) > before, "the webhooks' connection")


def test_its_client_ids_cannot_be_guessed_and_the_one_with_a_session_stays(bridge: BridgeProcess) -> None:
    """Who connected with them would cut the bridge off, or end the session in which its events wait."""
    for _ in range(2):
        start(bridge)
        bridge.stop()
    own = re.findall(r"as edgevision-bridge-([0-9a-f]{8}): connected", bridge.log())
    webhooks = re.findall(r"as edgevision-bridge-([0-9a-f]{8})-webhooks: connected", bridge.log())
    assert len(set(own)) == len(own)
    assert len(webhooks) == 2
    assert len(set(webhooks)) == 1


def verdicts(receiver: Receiver) -> list[str]:
    return [event["data"]["event_id"] for event in receiver.data() if event["type"] == "inspection"]


def test_chosen_events_are_posted_with_a_signature_that_openssl_confirms(
    bridge: BridgeProcess, stand_in: StandIn, receiver: Receiver
) -> None:
    start(bridge)
    stand_in.judge("OK")
    told = stand_in.judge("NG")
    wait_until(lambda: receiver.taken, "the post")
    assert len(receiver.taken) == 1, "OK was not chosen"
    headers, body = receiver.taken[0]
    assert json.loads(body) == {"type": "inspection", "station": "press-4", "data": told}
    assert headers["webhook-id"] == told["event_id"]
    assert headers["content-type"] == "application/json"
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    done = subprocess.run(
        ("openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{SECRET.hex()}", "-binary"),
        input=signed,
        capture_output=True,
        check=True,
    )
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(done.stdout).decode()}"


def test_a_station_that_comes_and_goes_is_told(
    bridge: BridgeProcess, stand_in: StandIn, receiver: Receiver
) -> None:
    start(bridge)
    stand_in.cut()
    wait_until(lambda: receiver.taken, "the post")
    assert [(e["type"], e["station"], e["data"]["status"]) for e in receiver.data()] == [
        ("status", "press-4", "offline")
    ]


@pytest.mark.parametrize("status", [503, 404, 302])
def test_what_was_not_taken_is_sent_again_and_the_order_holds(
    bridge: BridgeProcess, stand_in: StandIn, receiver: Receiver, status: int
) -> None:
    start(bridge)
    receiver.answers = [status]
    told = [stand_in.judge("NG")["event_id"] for _ in range(3)]
    wait_until(lambda: len(receiver.taken) == 3, "all posts")
    assert verdicts(receiver) == told
    assert receiver.asked == 4


def test_what_is_refused_for_good_does_not_stop_the_others(
    bridge: BridgeProcess, stand_in: StandIn, receiver: Receiver
) -> None:
    start(bridge)
    receiver.answers = [422]
    told = [stand_in.judge("NG")["event_id"] for _ in range(3)]
    wait_until(lambda: len(receiver.taken) == 2, "the others")
    assert verdicts(receiver) == told[1:]


def test_nothing_is_lost_over_kills_of_bridge_and_broker(
    bridge: BridgeProcess, stand_in: StandIn, receiver: Receiver, broker: Broker
) -> None:
    """Every event of the time without a bridge comes afterwards, in order; repetitions bear the same id."""
    start(bridge)
    told = [stand_in.judge("NG")["event_id"]]
    wait_until(lambda: verdicts(receiver) == told, "the first")
    bridge.stop(signal.SIGKILL)
    told += [stand_in.judge("NG")["event_id"] for _ in range(20)]
    receiver.answers = [503]  # and it is still on the disk when the next one begins
    start(bridge)
    wait_until(lambda: receiver.asked >= 2, "an attempt")
    bridge.stop(signal.SIGKILL)
    broker.stop()  # in peace: it keeps what waits for the bridge
    broker.start()
    start(bridge)
    told += [stand_in.judge("NG")["event_id"] for _ in range(5)]
    wait_until(lambda: set(verdicts(receiver)) >= set(told), "all")
    assert list(dict.fromkeys(verdicts(receiver))) == told
