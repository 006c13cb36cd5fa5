"""The list of what a station has taken, and whom it trusts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from fixtures_bundle import TinyModel
from fixtures_signature import make_key, needs_keys, sign

from device.bundle import accepted, learned_here
from device.bundle import bundle as bundles
from device.bundle.accepted import HERE, AcceptedList, Trust
from device.errors import SignatureError


def make(folder: Path, content: str) -> Path:
    """Something with a manifest."""
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(content)
    return folder


def test_what_was_taken_is_known_by_its_manifest(tmp_path: Path) -> None:
    first, second = (make(tmp_path / name, name) for name in ("a", "b"))
    known = AcceptedList(tmp_path / "state")
    assert (known.all(), known.newest(), known.find(first)) == ([], None, None)
    known.add(first, "2026-03-04T05:06:07Z", "quality@plant")
    known.add(second, "2026-02-04T05:06:07Z", None)
    known.add(second, "2026-02-04T05:06:07Z", None)  # a second time: once on the list
    assert [one.bundle for one in known.all()] == ["a", "b"]
    found = known.find(make(tmp_path / "moved", "a"))
    assert found is not None
    assert (found.signer, found.created) == ("quality@plant", "2026-03-04T05:06:07Z")
    assert known.find(tmp_path / "missing") is None
    newest, earlier = known.newest(), known.newest(datetime(2026, 3, 1, tzinfo=UTC))
    assert newest is not None
    assert earlier is not None
    assert (newest.bundle, earlier.bundle) == ("a", "b")


def test_it_is_bounded_and_keeps_the_newest_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepted, "MOST", 10)
    known = AcceptedList(tmp_path / "state")
    for number in range(40):
        date = "2030-01-01" if number == 3 else f"2026-01-{number % 28 + 1:02}"
        known.add(make(tmp_path / f"b{number}", str(number)), f"{date}T00:00:00Z", None)
    assert len(known.all()) == 10
    newest = known.newest()
    assert newest is not None
    assert newest.bundle == "b3"
    assert known.all()[-1].bundle == "b39"


BAD_DATE = """{"schema": 1, "bundles": [{"bundle": "b", "manifest_sha256": "0", "created": "2026-03-04",
    "signer": null, "accepted": "2026-03-04T06:00:00Z"}]}"""


@pytest.mark.parametrize("content", ["", "{", '{"schema": 1}', '{"schema": 1, "bundles": [{}]}', BAD_DATE])
def test_a_damaged_list_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / accepted.FILE).write_text(content)
    assert AcceptedList(tmp_path).all() == []


@needs_keys
def test_whom_a_station_trusts(tiny_model: TinyModel, tmp_path: Path) -> None:
    loaded = bundles.load(tiny_model.write(tmp_path / "models"))
    state, signers, quality = tmp_path / "state", tmp_path / "signers", make_key(tmp_path, "quality")
    signers.write_text(f"quality@plant {quality.with_suffix('.pub').read_text()}")
    asks_nothing, asks = Trust(state, None), Trust(state, signers)
    assert asks_nothing.vouch(loaded.path) is None
    asks_nothing.require_in_use(loaded)
    for ask in (asks.vouch_again, asks.require_in_use):
        with pytest.raises(SignatureError, match="unsigned"):
            ask(loaded)
    with pytest.raises(SignatureError, match="unsigned"):
        asks.vouch(loaded.path)
    AcceptedList(state).add(loaded.path, "2026-03-04T05:06:07Z", None)
    asks.require_in_use(loaded)  # it was in use before signatures were asked for
    with pytest.raises(SignatureError, match="unsigned"):
        asks.vouch_again(loaded)
    learned_here.record(state, loaded.path)
    with pytest.raises(SignatureError, match="unsigned"):
        asks.vouch_again(loaded)
    assert Trust(state, signers, allow_learned=True).vouch_again(loaded) == HERE
    sign(loaded.path, quality)
    assert asks.vouch(loaded.path) == asks.vouch_again(loaded) == "quality@plant"


@needs_keys
def test_a_signature_of_before_there_was_a_list(tiny_model: TinyModel, tmp_path: Path) -> None:
    """By a key whose time is over by now: it was good when the bundle was made."""
    loaded = bundles.load(tiny_model.write(tmp_path / "models"))
    quality, signers = make_key(tmp_path, "quality"), tmp_path / "signers"
    sign(loaded.path, quality)
    key = quality.with_suffix(".pub").read_text()
    trust = Trust(tmp_path / "state", signers)
    for until, good in (("20260401", True), ("20260201", False)):
        signers.write_text(f'quality@plant valid-before="{until}" {key}')
        with pytest.raises(SignatureError):
            trust.vouch(loaded.path)
        if good:
            trust.require_in_use(loaded)
        else:
            with pytest.raises(SignatureError):
                trust.require_in_use(loaded)
