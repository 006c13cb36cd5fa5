"""deploy/mosquitto: the access rules and limits, on a real Mosquitto, by every user whom they name."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest
from fixtures_broker import MOSQUITTO, Broker, free_port
from fixtures_daemon import REPOSITORY
from fixtures_mqtt import mqtt_config

from device.config import ROLES
from device.errors import BrokerError
from device.mqtt.connection import Connection

EXAMPLE = REPOSITORY / "deploy/mosquitto"
STATIONS = ("press-4", "press-5", "press-4.b")
EVERY = {"review", "picture", "acknowledge", "threshold", "trigger", "reload", "model", "rollback"}
Try = Callable[[str, str], bool]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker with the example's rules and limits, and install.sh's rule for a dot in a station's name."""
    if MOSQUITTO is None or shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto is not installed")
    folder = tmp_path_factory.mktemp("rules")
    passwords, rules = folder / "passwords", folder / "acl"
    passwords.touch(0o644)
    for user in (*ROLES, *STATIONS):
        subprocess.run(("mosquitto_passwd", "-b", passwords, user, f"{user}-password"), check=True)
    install = (REPOSITORY / "deploy/install.sh").read_text()
    [function] = re.findall(r"^access_rules\(\) \{.*?^\}", install, re.MULTILINE | re.DOTALL)
    script = f"set -euo pipefail\nROOT={REPOSITORY}\n{function}\naccess_rules {passwords}"
    made = subprocess.run(("bash", "-c", script), capture_output=True, text=True, check=True)
    rules.write_text(made.stdout)
    limits = re.findall(
        r"^(?:message_size_limit|max_\w+|memory_limit|persistent_client_expiration) .*$",
        (EXAMPLE / "edgevision.conf").read_text(),
        re.MULTILINE,
    )
    assert len(limits) >= 5
    settings = ("allow_anonymous false", f"password_file {passwords}", f"acl_file {rules}", *limits)
    broker = Broker(folder / "broker", free_port(), settings)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def may_publish(guarded: Broker) -> Try:
    """Whether the broker takes a message of a user on a topic."""

    def tried(user: str, topic: str, payload: bytes = b"x") -> bool:
        config = mqtt_config(guarded.port, username=user, password=f"{user}-password")
        connection = Connection(config, f"test-{user}", "5")
        connection.open()
        try:
            connection.publish(topic, payload, 1, retain=True, properties={})
            while not connection.answers:
                connection.turn(1.0)
            return connection.answers[0].code < 128
        except BrokerError:  # thrown out for it
            return False
        finally:
            connection.close()

    return tried


@pytest.mark.parametrize("role", sorted(ROLES))
def test_who_only_reads_or_commands_is_no_station(may_publish: Try, role: str) -> None:
    for topic in (
        f"edgevision/{role}/status",
        f"edgevision/{role}/health",
        f"edgevision/{role}/cmd/reload",
        "edgevision/press-4/status",
        "edgevision/press-4/inspection",
        f"{role}-x/x",
    ):
        assert not may_publish(role, topic), topic
    if role != "homeassistant":
        assert not may_publish(role, f"homeassistant/device/{role}/config")
        assert not may_publish(role, "homeassistant/device/press-4/config")


@pytest.mark.parametrize(
    ("role", "commands"),
    [
        ("dashboard", set()),
        ("homeassistant", {"trigger"}),
        ("bridge", {"trigger"}),
        ("operator", {"review", "picture", "acknowledge"}),
        ("quality", {"review", "picture", "acknowledge", "threshold"}),
        (
            "engineer",
            {"review", "picture", "acknowledge", "threshold", "trigger", "reload", "model", "rollback"},
        ),
    ],
)
def test_each_gives_its_own_commands(may_publish: Try, role: str, commands: set[str]) -> None:
    assert {name for name in EVERY if may_publish(role, f"edgevision/press-4/cmd/{name}")} == commands


@pytest.mark.parametrize(("station", "in_discovery"), [("press-4", "press-4"), ("press-4.b", "press-4_b")])
def test_a_station_speaks_for_itself_alone(may_publish: Try, station: str, in_discovery: str) -> None:
    for topic in ("status", "inspection", "image/last"):
        assert may_publish(station, f"edgevision/{station}/{topic}")
        assert not may_publish(station, f"edgevision/press-5/{topic}")
    assert may_publish(station, f"homeassistant/device/{in_discovery}/config")
    assert not may_publish(station, "homeassistant/device/press-5/config")
    assert not may_publish(station, "homeassistant/status")


def own_topics() -> list[str]:
    """What docs/reference/asyncapi.yaml says that a station writes, with every place filled in."""
    text = (REPOSITORY / "docs/reference/asyncapi.yaml").read_text()
    addresses = re.findall(r"^    address: (edgevision/\{station\}/\S+)$", text, re.MULTILINE)
    filled = [re.sub(r"\{(?!station)\w+\}", "one", address) for address in addresses]
    return [topic.format(station="press-4") for topic in filled if not re.search(r"/cmd/[^/]+$", topic)]


def test_a_station_writes_what_is_documented_and_nothing_beside(may_publish: Try) -> None:
    """So that nothing but pictures and answers, a topic each, can be retained without end."""
    documented = own_topics()
    assert len(documented) >= 14
    for topic in documented:
        assert may_publish("press-4", topic), topic
        if not topic.endswith("/response/one"):
            assert not may_publish("press-4", f"{topic}/made-up"), topic
    for topic in ("made-up", "image", "heat", "cmd/reload", "image/one/two", "cmd/a/b/response", "$x"):
        assert not may_publish("press-4", f"edgevision/press-4/{topic}"), topic
    for topic in ("device/press-4/config/x", "device/press-4", "sensor/press-4/config", "press-4"):
        assert not may_publish("press-4", f"homeassistant/{topic}"), topic


def test_a_message_larger_than_any_picture_is_not_taken(
    guarded: Broker, may_publish: Callable[..., bool]
) -> None:
    assert may_publish("press-4", "edgevision/press-4/image/last", b"x" * 1_000_000)
    assert not may_publish("press-4", "edgevision/press-4/image/last", b"x" * 2_000_000)
    assert may_publish("press-4", "edgevision/press-4/status"), "the broker is alive"
