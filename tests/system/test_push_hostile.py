"""deploy/push.sh against a station that was taken over, and answers with what might run on the workstation.

The station is a real sshd with a forced command; the workstation is a folder in which anything that was run
or written leaves a trace.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from fixtures_bundle import TinyModel
from fixtures_daemon import REPOSITORY
from fixtures_signature import make_key
from fixtures_systemd import Machine, ssh_config

USER = "hostile"
HOME = f"/home/{USER}"
STEPS = ("size", "send", "digest", "install", "clean", "start")
TRACE = "has-been-here"

# Answers every command as an honest station would, but for the one that it is told to be hostile at.
ANSWER = """#!/usr/bin/env python3
import hashlib, json, os, sys
home = "/home/hostile/"
steps = ("size", "send", "digest", "install", "clean", "start")
hostile, code = open(home + "step").read().split()
at = int(open(home + "count").read())
open(home + "count", "w").write(str(at + 1))
received = sys.stdin.buffer.read()
if len(received):
    open(home + "digest", "w").write(hashlib.sha256(received).hexdigest())
name = steps[min(at, len(steps) - 1)]
if hostile in (name, "every"):
    what = open(home + "what", "rb").read()
    os.write(1, what) if len(what) < 5000 else sys.stdout.buffer.write(what)
    sys.stdout.flush()
    os.write(2, what[:60000])
    sys.exit(int(code))
answers = {"size": "0", "digest": open(home + "digest").read(), "install": json.dumps({"text": "done"})}
print(answers.get(name, ""))
"""

# Run, read as a number, as a batch of sftp, as a path, as a terminal would take it, and without end.
TEXTS = {
    "command": f"$(touch {TRACE}); `touch {TRACE}`; touch {TRACE}\n".encode(),
    "words": f'a[$(touch {TRACE})]\n0 x"\n!touch {TRACE}\nput /etc/hosts {TRACE}\n../{TRACE}\n'.encode(),
    "terminal": b"\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b1;1H\r\x00\xff\xfe\n",
    "endless": b"y\n" * 3_000_000,
}
# What is no answer, though much of it looks like one.
NO_ANSWERS = {
    "nothing": b"",
    "text": b"done\n",
    "huge": b"9" * 5000 + b"\n",
    "deep": b"[" * 200_000,
    "not an object": b'["done"]\n',
    "no text": b'{"ok": true, "code": 0, "host": "other"}\n',
    "no number": b'{"text": "done", "previous": NaN}\n',
}


@dataclass
class Attack:
    """The station's side of it, and the folder where push.sh is run."""

    machine: Machine
    bundle: Path
    config: Path
    folder: Path

    def push(self, step: str, what: bytes, code: int = 0, action: str = "push") -> tuple[int, str, str]:
        """(exit code, standard output, standard error) of a push to a station that is hostile at a step."""
        home = self.machine.path(HOME)
        (home / "what").write_bytes(what)
        (home / "step").write_text(f"{step} {code}")
        (home / "count").write_text("0" if action == "push" else "3")
        self.machine.run("chown", "-R", f"{USER}:", HOME)
        words = [str(self.bundle)] if action == "push" else []
        command = (str(REPOSITORY / "deploy/push.sh"), action, "--json", "--ssh-config", str(self.config))
        done = subprocess.run(
            self.machine.beside(*command, *words, "station"),
            cwd=self.folder,
            env={**os.environ, "HOME": str(self.folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def traces(self) -> list[str]:
        found = [str(path) for path in self.folder.rglob("*") if path.name != "known_hosts"]
        outside = [REPOSITORY / TRACE, REPOSITORY / "deploy" / TRACE, Path("/", TRACE), self.bundle / TRACE]
        return found + [str(path) for path in outside if path.exists()]


@pytest.fixture(scope="module")
def attack(machine: Machine, tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Attack:
    for tool in ("ssh", "ssh-keygen"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    folder = tmp_path_factory.mktemp("attacker")
    key = make_key(folder, "quality")
    config = ssh_config(machine, folder, USER, key)
    machine.path(f"{HOME}/answer").write_text(ANSWER)
    machine.run("chmod", "755", f"{HOME}/answer")
    machine.path(f"{HOME}/digest").write_text("")
    keys = machine.path(f"{HOME}/.ssh/authorized_keys")
    keys.write_text(f'command="{HOME}/answer" {keys.read_text()}')
    return Attack(
        machine,
        tiny_model.write(tmp_path_factory.mktemp("made")),
        config,
        tmp_path_factory.mktemp("workstation"),
    )


def test_the_honest_half_of_it_is_a_station(attack: Attack) -> None:
    code, said, _ = attack.push("none", b"")
    assert code == 0
    assert json.loads(said)["hosts"][0]["text"] == "done"


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("text", TEXTS)
def test_nothing_that_a_station_says_is_run_or_believed(attack: Attack, step: str, text: str) -> None:
    code, said, shown = attack.push(step, TEXTS[text])
    assert attack.traces() == []
    assert not any(ord(char) < 32 and char != "\n" for char in shown + said)
    assert len(shown) < 5000
    host = json.loads(said)["hosts"][0]
    assert (host["host"], host["ok"], host["code"]) == ("station", code == 0, code)
    if step in ("size", "digest", "install") or text == "endless":
        assert code in (1, 16), (code, shown)


@pytest.mark.parametrize("status", [3, 77, 255])
def test_nor_what_it_fails_with(attack: Attack, status: int) -> None:
    for what in TEXTS.values():
        code, said, shown = attack.push("every", what, status)
        assert attack.traces() == []
        assert code in (1, 16), (code, said)
        assert not any(ord(char) < 32 and char != "\n" for char in shown)


@pytest.mark.parametrize("text", NO_ANSWERS)
def test_an_answer_that_is_none_is_a_failure_of_every_action(attack: Attack, text: str) -> None:
    for action in ("push", "rollback", "status"):
        code, said, shown = attack.push("install", NO_ANSWERS[text], action=action)
        assert (code, json.loads(said)["ok"]) == (1, False)
        assert "cannot be understood" in shown


def test_a_bundle_whose_name_is_a_command(attack: Attack, tmp_path: Path) -> None:
    version = attack.bundle.name.split("-", 1)[1]
    named = tmp_path / f"x;touch {TRACE}>&2;#-{version}"
    shutil.copytree(attack.bundle, named)
    honest, attack.bundle = attack.bundle, named
    try:
        code, _, shown = attack.push("none", b"")
    finally:
        attack.bundle = honest
    assert (code, attack.traces()) == (4, [])
    assert "bundle folder: must be named with" in shown
