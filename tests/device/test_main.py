"""The command line: what it takes, what it prints, what it ends with."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures_daemon import errors, run_device

from device import __main__ as command


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("walk",),
        ("run", "--confg", "x"),
        ("inspect",),
        ("inspect", "a.png"),
        ("inspect", "--bundle", "b"),
        ("inspect", "a.png", "--bundle", "b", "--heat-map"),
    ],
)
def test_a_wrong_command_line_ends_with_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(list(arguments))
    assert caught.value.code == 2
    assert "usage: python -m device" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["run", "check"])
def test_the_config_file_is_etc_unless_given(name: str) -> None:
    options = command._parser().parse_args([name])
    assert options.config == Path("/etc/edgevision/config.toml")


def test_every_problem_is_a_line_of_its_own_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[mqtt]\nkeepalive_s = -1\nprot = 1883\n")
    done = run_device("run", "--config", path)
    assert done.returncode == 3
    assert done.stdout == ""
    assert errors(done) == [
        f"error: {path}: [mqtt] keepalive_s: must be 5..3600, got -1",
        f"error: {path}: [mqtt] prot: unknown key; did you mean port?",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"[mqtt", "not valid TOML"), (b"# k\xe4se", "must be UTF-8 text")],
)
def test_a_config_that_cannot_be_read(
    tmp_path: Path, content: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.toml"
    if content is not None:
        path.write_bytes(content)
    assert command.main(["run", "--config", str(path)]) == 3
    assert capsys.readouterr().err.startswith(f"error: {path}: {message}")


def test_an_unexpected_fault_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_run", lambda options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command.main(["run"])


def test_an_interruption_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_check", interrupted)
    assert command.main(["check"]) == 130
