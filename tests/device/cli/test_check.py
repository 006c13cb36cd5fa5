"""`check`, as a person calls it."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from fixtures_board import FakeBoard
from fixtures_broker import DEADLINE_S, Broker, Subscriber, free_port
from fixtures_daemon import Station, errors, run_device
from fixtures_mqtt import mqtt_config
from gpiozero.pins.mock import MockFactory

from device.cli import check as check_module
from device.cli.check import try_broker
from device.config import load as config_of
from device.errors import BrokerError
from device.line import pins

MakeStation = Callable[..., Station]
NAMES = ["config", "permissions", "trust", "bundle", "model", "camera", "region", "pins", "broker"]
NAMES += ["disk", "room", "clock", "board", "service"]


def check(station: Station) -> tuple[int, dict[str, str], list[str]]:
    """The exit code, what each line says of its name, and how to mend what failed."""
    done = run_device("check", "--config", station.config)
    assert errors(done) == []
    lines = [line.split(None, 2) for line in done.stdout.splitlines()]
    words = {name: f"{word} {rest}" for word, name, rest in lines if word != "mend:"}
    assert [name for name in NAMES if name != "room" or "disk" not in failed(words)] == list(words)
    mends = [
        mend
        for line, mend in pairwise(done.stdout.splitlines())
        if line.startswith("FAIL") and " mend: " in mend
    ]
    return done.returncode, words, mends


def failed(words: dict[str, str]) -> list[str]:
    return [name for name, line in words.items() if line.startswith("FAIL ")]


def test_all_is_well(broker: Broker, make_station: MakeStation) -> None:
    exit_code, words, mend = check(make_station(broker.port))
    assert (exit_code, failed(words), mend) == (0, [], [])
    assert words["camera"].endswith("a frame of 128x96 px")
    assert words["broker"] == f"ok 127.0.0.1:{broker.port} accepts the station"
    assert "tiny on " in words["model"]
    assert words["region"] == "ok all of the frame is looked at"
    assert words["pins"] == "ok trigger free-run: needs no pin; outputs: none"


def test_no_broker(make_station: MakeStation) -> None:
    port = free_port()
    exit_code, words, mend = check(make_station(port))
    assert (exit_code, failed(words), len(mend)) == (7, ["broker"], 1)
    assert words["broker"] == f"FAIL broker 127.0.0.1:{port}: cannot be reached: Connection refused"


def test_a_broker_that_wants_a_password(
    make_broker: Callable[..., Broker], make_station: MakeStation
) -> None:
    closed = make_broker("allow_anonymous false")
    closed.start()
    exit_code, words, _ = check(make_station(closed.port))
    assert exit_code == 7
    assert words["broker"] == f"FAIL broker 127.0.0.1:{closed.port}: refuses the connection: Not authorized"


def test_the_first_failure_gives_the_exit_code(
    broker: Broker, make_station: MakeStation, tmp_path: Path
) -> None:
    station = make_station(broker.port, "x")
    station.bundle = tmp_path / "nowhere"
    station.configure()
    exit_code, words, mend = check(station)
    assert (exit_code, failed(words), len(mend)) == (4, ["bundle", "camera"], 2)
    assert words["bundle"] == f"FAIL {tmp_path}/nowhere: must be a folder, does not exist"
    assert words["model"].startswith("- not tried: it needs the bundle")
    assert "part1.png: truncated PNG" in words["camera"]


def test_a_wrong_configuration_is_told_and_the_rest_not_tried(make_station: MakeStation) -> None:
    station = make_station(free_port(), mqtt='prot = 1\nprefix = "/"')
    done = run_device("check", "--config", station.config)
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    assert lines[0] == f"FAIL  config      {station.config}: [mqtt] prot: unknown key; did you mean port?"
    assert f"FAIL  config      {station.config}: [mqtt] prefix: must be topic levels" in lines[1]
    assert [line.split()[1] for line in lines if line.startswith("- ")] == NAMES[1:]


def test_what_strangers_may_touch_is_told(broker: Broker, make_station: MakeStation) -> None:
    station = make_station(broker.port, mqtt='username = "u"\npassword_file = "pw"')
    secret = station.folder / "pw"
    secret.write_text("secret\n")
    secret.chmod(0o644)
    exit_code, words, _ = check(station)
    assert (exit_code, failed(words)) == (3, ["permissions"])
    assert words["permissions"] == f"FAIL {secret}: may be read or written by everybody"
    secret.chmod(0o640)
    assert check(station)[0] == 0
    station.config.chmod(0o646)
    assert check(station)[1]["permissions"] == f"FAIL {station.config}: may be written by everybody"


def test_what_is_closed_to_us_is_told(broker: Broker, make_station: MakeStation, tmp_path: Path) -> None:
    station = make_station(broker.port)
    closed = tmp_path / "closed"
    (closed / "models").mkdir(parents=True)
    station.bundle = closed / "models"
    station.configure()
    closed.chmod(0)
    exit_code, words, _ = check(station)
    closed.chmod(0o755)
    assert (exit_code, failed(words)) == (4, ["bundle"])
    assert words["bundle"].endswith("models: cannot be read: Permission denied")


def test_a_golden_image_with_another_score(
    broker: Broker, make_station: MakeStation, tiny_model: object, tmp_path: Path
) -> None:
    station = make_station(broker.port)
    golden = tiny_model.calibration.golden
    wrong = type(golden)(0.001, tuple(type(v)(v.file, v.score / 2) for v in golden.vectors))
    tiny_model.write(tmp_path / "other", golden=wrong)
    station.bundle = tmp_path / "other"
    station.configure()
    exit_code, words, _ = check(station)
    assert (exit_code, failed(words)) == (4, ["model"])
    assert "must score" in words["model"]


@pytest.mark.parametrize("runtime", ["ai-edge-litert", "tflite-runtime"])
def test_the_runtime_that_is_asked_for_is_the_one_in_use(
    broker: Broker, make_station: MakeStation, runtime: str
) -> None:
    exit_code, words, _ = check(make_station(broker.port, more=f'[model]\nruntime = "{runtime}"'))
    if words["model"].startswith("ok"):
        assert f" on {runtime} " in words["model"]
    else:  # not installed: never another one in its place
        assert exit_code == 6
        assert runtime in words["model"]


def test_a_state_folder_that_cannot_be_written_to_is_told(broker: Broker, make_station: MakeStation) -> None:
    station = make_station(broker.port)
    state = station.folder / "state"
    state.mkdir()
    assert check(station)[1]["disk"] == f"ok {state} can be written to"
    assert list(state.iterdir()) == []
    state.chmod(0o500)
    exit_code, words, mend = check(station)
    state.chmod(0o700)
    assert (exit_code, failed(words), len(mend)) == (9, ["disk"], 1)
    assert words["disk"] == f"FAIL {state}: cannot be written to: Permission denied"


def test_a_folder_that_only_looks_as_if_it_could_be_written_to(
    broker: Broker, make_station: MakeStation
) -> None:
    """Root may write below /proc, by its permissions; nobody can make a file there."""
    station = make_station(broker.port)
    station.config.write_text(station.config.read_text().replace('state = "state"', 'state = "/proc/x"'))
    exit_code, words, _ = check(station)
    assert (exit_code, failed(words)) == (9, ["disk"])
    assert words["disk"].startswith("FAIL /proc/x: does not exist, and cannot be made in /proc: ")


def test_a_state_folder_that_is_not_there_is_not_made(broker: Broker, make_station: MakeStation) -> None:
    station = make_station(broker.port)
    assert check(station)[1]["disk"] == f"ok {station.folder}/state can be made"
    assert not (station.folder / "state").exists()
    station.folder.chmod(0o500)
    words = check(station)[1]
    station.folder.chmod(0o700)
    assert words["disk"].startswith(f"FAIL {station.folder}/state: does not exist, and cannot be made")


def test_a_pin_that_cannot_be_used_is_told(broker: Broker, make_station: MakeStation) -> None:
    station = make_station(broker.port, more='[trigger]\nkind = "gpio"\npin = 17')
    done = run_device("check", "--config", station.config, GPIOZERO_PIN_FACTORY="nonsense")
    assert done.returncode == 10
    assert "FAIL  pins        pin 17: " in done.stdout


OUTPUTS = '[trigger]\nkind = "gpio"\npin = 17\n[outputs]\nreject_pin = 5\nready_pin = 13\n'


def test_outputs_are_taken_at_rest_and_given_back(
    make_station: MakeStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an output that is active when low: its rest is high."""
    factory = MockFactory()
    monkeypatch.setattr(pins, "pin_factory", lambda: factory)
    loaded = config_of(make_station(free_port(), more=f'{OUTPUTS}reject_active = "low"').config)
    found = check_module._try_pins(loaded)
    assert found == "trigger gpio, falling edge of pin 17; outputs: reject 5, ready 13"
    reject, ready = factory.pin(5), factory.pin(13)
    assert True in {entry.state for entry in reject.states}
    assert {entry.state for entry in reject.states[1:]} == {True}
    assert {entry.state for entry in ready.states} == {False}
    check_module._try_pins(loaded)  # the pins are free again
    assert not [thread for thread in threading.enumerate() if thread.name == "outputs"]


def test_an_output_that_cannot_be_taken_is_told(broker: Broker, make_station: MakeStation) -> None:
    """Pin 17 is the trigger's and an output's."""
    station = make_station(broker.port, more=OUTPUTS)
    done = run_device("check", "--config", station.config, GPIOZERO_PIN_FACTORY="mock")
    assert done.returncode == 0, done.stdout
    assert "outputs: reject 5, ready 13" in done.stdout
    done = run_device("check", "--config", station.config, GPIOZERO_PIN_FACTORY="nonsense")
    assert done.returncode == 10


def test_a_region_for_another_camera_is_told(broker: Broker, make_station: MakeStation) -> None:
    roi = "[inspection]\nroi = [[[64, 0], [640, 0], [640, 96], [64, 96]]]"
    exit_code, words, mend = check(make_station(broker.port, more=roi))
    assert (exit_code, failed(words), len(mend)) == (3, ["region"], 1)
    assert words["region"] == (
        "FAIL [inspection] roi: every corner must lie in the frame of 128x96 px, got 640, 0"
    )
    half = "[inspection]\nroi = [[[64, 0], [128, 0], [128, 96], [64, 96]]]"
    assert check(make_station(broker.port, more=half))[1]["region"] == (
        "ok 100% of 64x96 px at 64, 0 is looked at"
    )


def test_a_service_that_runs_is_told(broker: Broker, make_station: MakeStation) -> None:
    station = make_station(broker.port, camera="loop = true\nrate_hz = 20")
    process = station.start()
    end = time.monotonic() + DEADLINE_S
    while not (station.folder / "run" / "status.json").exists():
        assert time.monotonic() < end
        time.sleep(0.02)  # there is no event to wait for; the deadline is above
    exit_code, words, _ = check(station)
    assert exit_code == 0
    assert words["service"] == f"warn runs now, as process {process.pid}"


def looked_at(folder: Path, said: dict[str, object]) -> list[str]:
    """What a board with these readings is doubted for."""
    fake = FakeBoard(folder)
    for name, value in said.items():
        if hasattr(fake, name):
            setattr(fake, name, value)
        else:
            fake.set(**{name: value})
    (folder / "config.toml").write_text("")
    loaded = config_of(folder / "config.toml")
    reading = fake.board().read()
    return check_module._doubts_of_board(loaded, reading) + check_module._doubts_of_room(loaded, reading)


@pytest.mark.parametrize(
    ("said", "doubt"),
    [
        ({"temperature_c": 81.2}, "81 °C, limit 75"),
        ({"throttled": "10000"}, "the supply was too low since the machine was started"),
        ({"throttled": "10001"}, "the supply was too low now"),
        ({"throttled": "80000"}, "the processor was slowed down since the machine was started"),
        ({"throttled": "80008"}, "the processor was slowed down now"),
        ({"available_kib": 20 * 1024}, "20 MiB of memory available"),
        ({"free_inodes_ratio": 0.01}, "1000 more files can be made on the disk"),
        ({"free_ratio": 0.05}, "5.0% of the disk is free, limit 10%"),
    ],
)
def test_what_is_doubtful_is_told(tmp_path: Path, said: dict[str, object], doubt: str) -> None:
    assert looked_at(tmp_path, {"free_ratio": 0.9}) == []
    assert doubt in looked_at(tmp_path, said)


def test_doubts_do_not_change_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    report = check_module.Report()
    report.look("clock", "synchronized", ["is not synchronized"])
    report.look("board", "48 °C", [])
    assert report.exit_code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "warn  clock       is not synchronized"
    assert lines[1].startswith("                  mend: give the station a time server")
    assert lines[2] == "ok    board       48 °C"


def test_a_broker_that_lets_us_in(broker: Broker, subscriber: Subscriber) -> None:
    try_broker(mqtt_config(broker.port))
    assert re.search(r"as edgevision-check-[0-9a-f]{8} \(", broker.log())
    assert subscriber.messages == []


def test_nobody_there() -> None:
    port = free_port()
    with pytest.raises(BrokerError, match=f"broker 127.0.0.1:{port}: cannot be reached: Connection refused"):
        try_broker(mqtt_config(port))


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(BrokerError, match=r"broker nobody\.invalid:1883: "):
        try_broker(mqtt_config(1883, host="nobody.invalid"))


def test_somebody_who_does_not_speak_mqtt() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(BrokerError, match=r"took the connection and did not answer MQTT within 0\.3 s"):
            try_broker(mqtt_config(port), timeout_s=0.3)


def test_user_and_password(make_broker: Callable[..., Broker], tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("press-4:right\n")
    try:
        subprocess.run(("mosquitto_passwd", "-U", str(passwords)), check=True)
    except FileNotFoundError:
        pytest.skip("mosquitto_passwd is not installed")
    closed = make_broker("allow_anonymous false", f"password_file {passwords}")
    closed.start()
    try_broker(mqtt_config(closed.port, username="press-4", password="right"))
    with pytest.raises(BrokerError, match="refuses the connection: Not authorized"):
        try_broker(mqtt_config(closed.port, username="press-4", password="wrong"))


def test_what_a_station_believes_without_a_proof(tmp_path: Path) -> None:
    def doubts(text: str) -> list[str]:
        path = tmp_path / "config.toml"
        path.write_text(text)
        path.chmod(0o644)
        return check_module._doubts_of_trust(config_of(path))

    signers = tmp_path / "signers"
    signers.write_text("# nobody yet\n\n")
    named = '[bundle]\nsigners = "signers"\n'
    assert doubts("") == ["unsigned bundles are taken: whoever may push decides what is a good part"]
    assert doubts(named) == [f"{signers}: names nobody who may sign: every bundle is refused"]
    signers.write_text("quality@plant ssh-ed25519 AAAA\n")
    for host in ("localhost", "127.0.0.1", "::1"):
        assert doubts(f'{named}[mqtt]\nhost = "{host}"\n') == []
    assert "is spoken to in clear" in doubts(f'{named}[mqtt]\nhost = "broker.plant"\n')[0]
    assert doubts(f'{named}[mqtt]\nhost = "broker.plant"\ntls = true\n') == []
    assert "any broker is believed" in doubts(f"{named}[mqtt]\ntls = true\ninsecure = true\n")[0]
    camera = f'{named}[camera]\nkind = "opencv"\nsource = "rtsp://anna:secret@camera/1"\n'
    assert "holds a password, and everybody may read it" in doubts(camera)[0]


def test_an_unsigned_bundle_where_signatures_are_asked_for(broker: Broker, make_station: MakeStation) -> None:
    station = make_station(broker.port)
    (station.folder / "signers").write_text("quality@plant ssh-ed25519 AAAA\n")
    text = station.config.read_text().replace("[bundle]", '[bundle]\nsigners = "signers"')
    station.config.write_text(text)
    exit_code, words, _ = check(station)
    assert (exit_code, failed(words)) == (13, ["bundle"])
    assert "unsigned bundles are refused" in words["bundle"]
