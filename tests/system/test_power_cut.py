"""The power goes after any write of an install, a roll-back, a change of the model, a review, an export.

A program does all of these under strace (fixtures_power.py). After each of its calls, what a disk may then
hold is laid out, and a station starts from it: with a whole bundle that was accepted, and with all that a
command had said was done.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from fixtures_bundle import TinyModel
from fixtures_daemon import REPOSITORY
from fixtures_power import Disk, Tree, calls, lay, traced
from fixtures_signature import make_key, sign

from device.archive.review import reviews
from device.bundle import learned_here, manifest, store, trial
from device.bundle.accepted import AcceptedList
from device.station.start import first_pipeline

SEED = 20260101
STEPS = ("install", "rollback", "refused", "model", "learn", "activate", "review", "export")
EVENT = "5e55104-00000001"

# What is done, a mark after each. The service is this very process: SIGHUP makes it judge what is in use.
PROGRAM = """
import json, os, signal, sys
from pathlib import Path
from device import config
from device.archive import image_store, review, reviewed_set
from device.bundle import bundle, learned_here, store, trial
from device.errors import RolledBackError
from device.rollout import activation
from device.rollout.receiver import Gate, Receiver
from device.telemetry.status import StatusFile

folder, first, second, third, learned = Path(sys.argv[1]), *sys.argv[2:]
root = folder / "root"
station = config.load(folder / "config.toml")
receiver = Receiver(station, folder / "incoming", "fuzz")
status = StatusFile(station.runtime)
status.open()
said = {"bundle": first, "state": "active", "since": "0", "reason": None}
said |= {"previous": None, "id": "", "version": ""}
others = {"station": "", "session_id": "", "uptime_s": 1, "camera": "", "last": None}
others["counters"] = dict.fromkeys(("ok", "ng", "marginal", "error"), 0) | {"since": ""}
others["frames"] = dict.fromkeys(("skipped", "dropped"), 0)
others["broker"] = {"address": "", "connected": True}
others["delivery"] = dict.fromkeys(("waiting", "dropped", "refused", "lost"), 0) | {"durable": True}
others["health"] = {"state": "ready", "roles": {}}

def tell(judged=100):
    status.write({**others, "model": said, "verdicts_since_model": judged})

def hang_up(number, frame):
    wanted = store.current_name(station.bundle)
    if wanted == third:
        store.keep(station.bundle, said["bundle"], wanted)
        said.update(state="rejected", reason="too slow", since=said["since"] + "1")
    else:
        said.update(bundle=wanted, state="active")
    tell()

def done(what):
    os.mkdir(folder / "marks" / what)

signal.signal(signal.SIGHUP, hang_up)
tell()
receiver.install(second, Gate(5, 20.0))
done("install")
receiver.rollback(Gate(5, 20.0))
done("rollback")
try:
    receiver.install(third, Gate(5, 20.0))
except RolledBackError:
    done("refused")
store.activate(station.bundle, second, begun=True)
trial.end(station.bundle, second)
done("model")

made = bundle.load(folder / "learned" / learned)
files = {path.name: path.read_bytes() for path in made.path.glob("golden/*")}
contents = bundle.Contents(made.model_path.read_bytes(), made.calibration, files, {})
path = store.publish(station.bundle, "learned", contents)
learned_here.record(station.state, path)
done("learn")
status.close()
activation.activate(folder / "config.toml", path.name)
done("activate")

images = image_store.ImageStore(station.state / image_store.FOLDER, image_store.Quotas(10**9, 90, 0))
images.open()
verdict = json.dumps({"session_id": "s", "part_id": None, "trigger": "mqtt", "ts": "2026-03-04T05:06:07Z"})
images.put(image_store.StoredImage("%s", 1772600767 * 10**9, True, bytes(5000), ".jpg", verdict))
review.review(station.state, "%s", "ng", "Ada")
done("review")
reviewed_set.export(station.state, root / "exported", 10.0)
done("export")
""" % (EVENT, EVENT)  # noqa: UP031 - braces are the program's


@dataclass
class Cut:
    """A station before, the names of its bundles, and what has been done to it."""

    folder: Path
    originals: dict[str, Path]
    first: str
    second: str
    learned: str

    def require(self, root: Path, done: list[str]) -> None:
        """It starts, and what was said to be done is done."""
        models, state = root / "models", root / "state"
        bundle = first_pipeline(models, lambda loaded: SimpleNamespace(bundle=loaded)).bundle
        assert bundle.name in {self.first, self.second, *([self.learned] if "learn" in done else [])}
        if bundle.name == self.learned:
            assert learned_here.learned_here(state, bundle.path)
        else:
            for file in (manifest.FILE, manifest.SIGNATURE_FILE):
                assert (bundle.path / file).read_bytes() == (self.originals[bundle.name] / file).read_bytes()
            assert AcceptedList(state).find(bundle.path) is not None
        assert trial.read(models) is None
        assert not done or store.previous_name(models), "there is a way back"
        self._require_done(bundle.name, root, done)

    def _require_done(self, name: str, root: Path, done: list[str]) -> None:
        in_use = [self.first, self.second, self.first, self.first, self.second, self.second, self.learned]
        assert name in (in_use[len(done) : len(done) + 2] or in_use[-1:]), "what is done, or being done"
        if "learn" in done:
            assert learned_here.learned_here(root / "state", root / "models" / self.learned)
        words = reviews(root / "state")
        assert "review" not in done or words[EVENT].label == "ng"
        exported = root / "exported"
        assert exported.exists() or "export" not in done
        if exported.exists():
            [_, line] = (exported / "manifest.csv").read_text().splitlines()
            assert (exported / line.split(",")[0]).read_bytes() == bytes(5000)
            assert json.loads((exported / "verdicts" / f"{EVENT}.json").read_text())["session_id"] == "s"


@pytest.fixture
def cut(tiny_model: TinyModel, tmp_path: Path) -> Cut:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    root = tmp_path / "root"
    for folder in (root, root / "state", root / "models", tmp_path / "incoming", tmp_path / "marks"):
        folder.mkdir()
    key = make_key(tmp_path, "quality")
    (tmp_path / "signers").write_text(f"quality@plant {key.with_suffix('.pub').read_text()}")
    (tmp_path / "config.toml").write_text(
        '[station]\nname = "press-4"\nstate = "root/state"\nruntime = "run"\n'
        '[bundle]\npath = "root/models"\nsigners = "signers"\nallow_learned = true\n'
    )
    originals = {}
    for month in range(3, 6):
        made = tiny_model.write(tmp_path / "made", created=f"2026-0{month}-01T00:00:00Z")
        sign(made, key)
        originals[made.name] = made
        shutil.copytree(made, tmp_path / "incoming" / made.name)
    first, second, _ = originals
    learned = tiny_model.write(tmp_path / "learned", "learned", created="2026-06-01T00:00:00Z")
    shutil.copytree(originals[first], root / "models" / first)
    store.activate(root / "models", first)
    AcceptedList(root / "state").add(root / "models" / first, "2026-03-01T00:00:00Z", "quality@plant")
    return Cut(tmp_path, originals, first, second, learned.name)


def test_after_a_cut_at_any_write_a_station_starts_with_what_was_done(cut: Cut) -> None:
    disk = Disk(cut.folder / "root", cut.folder / "marks")
    program = cut.folder / "program.py"
    program.write_text(f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{PROGRAM}")
    done = traced(
        (sys.executable, str(program), str(cut.folder), *cut.originals, cut.learned), cut.folder / "trace"
    )
    assert done.returncode == 0, done.stderr
    chance = random.Random(SEED)  # noqa: S311 - reproducible, not secret
    seen: set[int] = set()
    cuts = 0
    for name, arguments, result in calls(cut.folder / "trace"):
        if not disk.play(name, arguments, result):
            continue
        cuts += 1
        for tree in disk.trees(chance):
            if (known := _hash(tree, disk.done)) not in seen:
                seen.add(known)
                _try(cut, tree, disk.done, f"after {name} number {cuts}, {disk.done[-1:] or 'begun'}")
    assert tuple(disk.done) == STEPS
    assert cuts > 150
    assert len(seen) > cuts


def _hash(tree: Tree, done: list[str]) -> int:
    return hash((frozenset(tree.items()), len(done)))


def _try(cut: Cut, tree: Tree, done: list[str], where: str) -> None:
    root = cut.folder / "found"
    lay(tree, root)
    try:
        cut.require(root, done)
    except Exception as fault:
        raise AssertionError(f"{where}: {sorted(tree)}") from fault
    shutil.rmtree(root)
