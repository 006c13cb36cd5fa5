"""The station's end of a push, without a running service; with one, under ssh and systemd: test_push.py."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fixtures_bundle import TinyModel
from fixtures_daemon import REPOSITORY, run_device
from fixtures_signature import make_key, sign

from device import config
from device.bundle import accepted, learned_here, store, trial
from device.bundle import bundle as bundles
from device.bundle.bundle import GoldenSpec, Thresholds
from device.errors import BundleError, BusyError, SignatureError, StorageError
from device.rollout import intake, push_log
from device.rollout.push_log import LOCK_FILE, close_log
from device.rollout.receiver import Gate, Receiver

FIRST, SECOND, THIRD = ("2026-03-04T05:06:07Z", "2026-04-04T00:00:00Z", "2026-05-05T00:00:00Z")


class Site:
    """A station's folders, and bundles that somebody uploads."""

    def __init__(self, folder: Path, model: TinyModel) -> None:
        self.folder = folder
        self.model = model
        self.incoming = folder / "incoming"
        self.models = folder / "models"
        self.incoming.mkdir()
        self.models.mkdir()
        (folder / "state").mkdir()
        self.configure()

    def configure(self, bundle: str = "") -> None:
        path = self.folder / "config.toml"
        path.write_text(
            '[station]\nname = "press-4"\nstate = "state"\nruntime = "run"\n'
            f'[bundle]\npath = "models"\n{bundle}\n'
        )
        self.config = config.load(path)

    @property
    def receiver(self) -> Receiver:
        return Receiver(self.config, self.incoming, "quality")

    def upload(self, created: str, **changes: object) -> str:
        made = self.model.write(self.folder / f"made-{created[:10]}", created=created, **changes)
        shutil.copytree(made, self.incoming / made.name, dirs_exist_ok=True)
        return made.name

    def install(self, created: str) -> str:
        name = self.upload(created)
        self.receiver.install(name, Gate())
        return name

    def log(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in (self.folder / "state" / push_log.FILE).read_text().splitlines()]


@pytest.fixture
def site(tmp_path: Path, tiny_model: TinyModel) -> Site:
    return Site(tmp_path, tiny_model)


def test_thresholds_that_leave_no_room_are_refused(site: Site) -> None:
    before = site.install(FIRST)
    name = site.upload(SECOND, thresholds=Thresholds(1.0, 1.0, "by hand", ()))
    with pytest.raises(BundleError, match=r"thresholds\.ng: must be 0\.99\d+ or less, .*, got 1"):
        site.receiver.install(name, Gate())
    assert store.names(site.models) == [store.current_name(site.models)] == [before]


def test_installed_and_back(site: Site) -> None:
    first, second = site.install(FIRST), site.install(SECOND)
    assert bundles.load(site.models).name == second
    outcome = site.receiver.rollback(Gate())
    assert (outcome.bundle, outcome.running) == (first, False)
    assert bundles.load(site.models).name == first
    assert [(line["by"], line["action"], line["result"]) for line in site.log()] == [
        ("quality", "install", "begun"),
        ("quality", "install", "done"),
        ("quality", "install", "begun"),
        ("quality", "install", "done"),
        ("quality", "rollback", "begun"),
        ("quality", "rollback", "done"),
    ]


def test_the_same_bundle_twice(site: Site) -> None:
    name = site.install(FIRST)
    assert site.receiver.install(name, Gate()).bundle == name
    assert [entry["role"] for entry in site.receiver.listing()["bundles"]] == ["current"]


def test_one_that_is_older_than_the_active_one(site: Site) -> None:
    second = site.install(SECOND)
    with pytest.raises(BundleError, match=f"must not be older than {second}, which was taken before"):
        site.install(FIRST)
    assert [path.name for path in site.models.glob("[!.]*-*")] == [second]
    assert "must not be older" in site.log()[-1]["result"]


def test_a_name_that_does_not_fit_the_content(site: Site) -> None:
    name = site.upload(FIRST)
    (site.incoming / name).rename(site.incoming / "other-20990101T000000Z-00000000")
    with pytest.raises(BundleError, match="must end with its version"):
        site.receiver.install("other-20990101T000000Z-00000000", Gate())


def test_golden_images_that_do_not_give_their_scores(site: Site) -> None:
    first = site.install(FIRST)
    [vector] = site.model.calibration.golden.vectors
    wrong = GoldenSpec(0.02, (replace(vector, score=vector.score / 3),))
    name = site.upload(SECOND, golden=wrong)
    with pytest.raises(BundleError, match="must score"):
        site.receiver.install(name, Gate())
    assert bundles.load(site.models).name == first
    assert not (site.models / name).exists()


def test_signatures_are_asked_for_where_the_station_names_signers(site: Site) -> None:
    quality, stranger = make_key(site.folder, "quality"), make_key(site.folder, "stranger")
    (site.folder / "signers").write_text(f"quality@plant {quality.with_suffix('.pub').read_text()}")
    site.configure('signers = "signers"')
    name = site.upload(FIRST)
    with pytest.raises(SignatureError, match="unsigned bundles are refused"):
        site.receiver.install(name, Gate())
    sign(site.incoming / name, stranger)
    with pytest.raises(SignatureError, match="a key that is not in"):
        site.receiver.install(name, Gate())
    assert list(site.models.glob("*-*")) == []
    sign(site.incoming / name, quality)
    assert site.receiver.install(name, Gate()).signer == "quality@plant"
    assert site.receiver.verify()["bundles"][0]["signer"] == "quality@plant"


def test_what_the_station_learned_itself_passes_unsigned_where_it_is_allowed(site: Site) -> None:
    first, second = site.install(FIRST), site.install(SECOND)
    quality = make_key(site.folder, "quality")
    (site.folder / "signers").write_text(f"quality@plant {quality.with_suffix('.pub').read_text()}")
    learned_here.record(site.folder / "state", site.models / first)
    site.configure('signers = "signers"')
    with pytest.raises(SignatureError, match="unsigned"):
        site.receiver.rollback(Gate())
    site.configure('signers = "signers"\nallow_learned = true')
    assert site.receiver.rollback(Gate()).signer == "nobody (learned on this station)"
    with pytest.raises(BundleError, match=f"{second}.*unsigned"):
        site.receiver.verify()


def test_verify_names_every_bad_one(site: Site) -> None:
    first, second = site.install(FIRST), site.install(SECOND)
    (site.models / first / "model.tflite").write_bytes(b"x")
    (site.models / second / "calibration.json").unlink()
    with pytest.raises(BundleError) as caught:
        site.receiver.verify()
    assert len(str(caught.value).splitlines()) == 2


def test_two_at_once(site: Site) -> None:
    name = site.upload(FIRST)
    with (site.models / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("anna since 2026-01-01T00:00:00Z\n")
        lock.flush()
        with pytest.raises(BusyError, match="being changed by anna since 2026"):
            site.receiver.install(name, Gate())


def test_old_ones_go_but_never_the_previous_one(site: Site) -> None:
    site.configure("keep = 2")
    names = [site.install(f"2026-0{month}-01T00:00:00Z") for month in range(1, 6)]
    draft = site.models / ".tiny-00000000.draft"
    draft.mkdir()
    store.rollback(site.models)
    names.append(site.install("2026-06-01T00:00:00Z"))
    assert not draft.exists()
    there = {path.name for path in site.models.iterdir() if not path.is_symlink()} - {LOCK_FILE, trial.FILE}
    assert there == {names[-1], names[-2], names[-3]}  # the newest two, and the one that was in use


def test_nothing_is_put_into_a_station_s_one_bundle(site: Site) -> None:
    """Where [bundle] path is a bundle itself, a file beside its own would make the next start refuse it."""
    first = site.install(FIRST)
    site.config = replace(site.config, bundle=site.models / first)
    close_log(site.config.state, site.config.bundle)
    with pytest.raises(BundleError, match="is one bundle"):
        site.receiver.rollback(Gate())
    assert bundles.load(site.config.bundle).name == first


def test_back_where_there_is_nothing(site: Site) -> None:
    site.install(FIRST)
    with pytest.raises(BundleError, match="no bundle was in use before this one"):
        site.receiver.rollback(Gate())


def test_a_disk_that_is_full(site: Site, small_disk: Path) -> None:
    """It has room for the first bundle; the second finds it full, and leaves everything as it was."""
    site.models.rmdir()
    site.models.symlink_to(small_disk)
    first = site.install(FIRST)
    with suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(b"x" * 4096)
    name = site.upload(SECOND)
    with pytest.raises(StorageError, match="cannot be written: No space left on device"):
        site.receiver.install(name, Gate())
    assert bundles.load(site.models).name == first
    assert list(site.models.glob(".*.draft")) == []


def test_the_command_line(site: Site) -> None:
    done = run_device("receive", "list", "--json", "--config", site.config.path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"bundles": [], "text": "no bundle"}
    done = run_device("receive", "rollback", "--config", site.config.path)
    assert done.returncode == 4
    assert done.stderr.startswith("error: ")


def test_a_withdrawn_version_stays_withdrawn_after_a_rollback(site: Site) -> None:
    site.install(FIRST)
    third = site.install(THIRD)
    site.receiver.rollback(Gate())
    with pytest.raises(BundleError, match=f"must not be older than {third}, which was taken before"):
        site.install(SECOND)
    assert site.install("2026-06-06T00:00:00Z") == store.current_name(site.models)


def test_a_date_that_a_wrong_clock_made(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused while the clock is known to be right; taken while it is not, it bars nothing afterwards."""
    site.install(FIRST)
    monkeypatch.setattr("device.rollout.receiver.clock_synced", lambda: True)
    name = site.upload("2035-01-01T00:00:00Z")
    with pytest.raises(BundleError, match="must not be over a day ahead of this station's clock, is 2035"):
        site.receiver.install(name, Gate())
    monkeypatch.setattr("device.rollout.receiver.clock_synced", lambda: False)
    site.receiver.install(name, Gate())
    monkeypatch.setattr("device.rollout.receiver.clock_synced", lambda: True)
    assert site.install(SECOND) == store.current_name(site.models)


def test_a_key_whose_time_is_over_does_not_bar_the_way_back(site: Site) -> None:
    quality = make_key(site.folder, "quality")
    public = quality.with_suffix(".pub").read_text()
    signers = site.folder / "signers"
    signers.write_text(f"quality@plant {public}")
    site.configure('signers = "signers"')
    for created in (FIRST, SECOND):
        name = site.upload(created)
        sign(site.incoming / name, quality)
        site.receiver.install(name, Gate())
    taken = site.folder / "state" / accepted.FILE  # two days ago; since yesterday the key is no longer good
    now = datetime.now(UTC)
    taken.write_text(taken.read_text().replace(f"{now:%Y-%m-%d}T", f"{now - timedelta(days=2):%Y-%m-%d}T"))
    signers.write_text(f'quality@plant valid-before="{now - timedelta(days=1):%Y%m%d}" {public}')
    third = site.upload(THIRD)
    sign(site.incoming / third, quality)
    with pytest.raises(SignatureError):
        site.receiver.install(third, Gate())
    assert site.receiver.rollback(Gate()).signer == "quality@plant"
    signers.write_text("")  # its key is no signer's any more
    with pytest.raises(SignatureError):
        site.receiver.rollback(Gate())


@pytest.mark.parametrize("file", ["model.tflite", "calibration.json", "manifest.json", "golden/golden-0.png"])
def test_a_damaged_bundle_is_mended_by_pushing_it_again(site: Site, file: str) -> None:
    site.install(FIRST)
    name = site.install(SECOND)
    path = site.models / name / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError):
        bundles.load(site.models)
    assert site.receiver.install(name, Gate()).bundle == name
    assert bundles.load(site.models).name == name
    assert site.receiver.verify()
    assert list(site.models.glob(".*.draft")) == []


def test_a_damaged_bundle_in_use_does_not_bar_a_newer_one(site: Site) -> None:
    first = site.install(FIRST)
    (site.models / first / "model.tflite").write_bytes(b"")
    second = site.install(SECOND)
    assert bundles.load(site.models).name == second


def test_a_strangers_bundle_takes_no_room(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its signature is asked for before its files are copied."""
    (site.folder / "signers").write_text(f"q {make_key(site.folder, 'q').with_suffix('.pub').read_text()}")
    site.configure('signers = "signers"')
    name = site.upload(FIRST)
    copied: list[str] = []
    copy = intake._copy
    monkeypatch.setattr(intake, "_copy", lambda *words: (copied.append(words[1]), copy(*words)))
    with pytest.raises(SignatureError):
        site.receiver.install(name, Gate())
    assert copied == ["manifest.json", "manifest.json.sig"]


def test_what_an_earlier_one_left_undone_is_undone_first(site: Site) -> None:
    first, second = site.install(FIRST), site.install(SECOND)
    trial.end(site.models, second)
    third = site.upload(THIRD)
    shutil.copytree(site.incoming / third, site.models / third)
    log = push_log.PushLog(site.folder / "state")
    log.begin("anna", "install", third)
    store.activate(site.models, third, begun=True, gate_s=60.0)  # and then the power went
    assert store.current_name(site.models) == third
    with pytest.raises(BundleError):
        site.receiver.install("no-such-20260101T000000Z-00000000", Gate())
    assert (store.current_name(site.models), store.previous_name(site.models)) == (second, first)
    assert [line["result"] for line in site.log()[-4:-2]] == ["begun", "cut off"]


GREEDY = """
import sys
from pathlib import Path
from device import config
from device.errors import BundleError
from device.rollout import receiver
receiver.Receiver.install = lambda self, name, gate: bytearray(receiver.MOST_BYTES)
try:
    receiver.receive(config.load(Path(sys.argv[1])), "install", "large", receiver.Gate())
except BundleError as error:
    print(error)
"""


def test_a_bundle_that_wants_too_much_memory(site: Site) -> None:
    command = (sys.executable, "-c", GREEDY, str(site.config.path))
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "large: takes more than 1024 MiB of memory\n", done.stderr
