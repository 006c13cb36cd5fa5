"""`activate` and `rollback`: which bundle is in use, by hand or by the one who ships it.

They switch links on the disk and tell nobody: a service that runs takes the bundle at SIGHUP.
"""

from __future__ import annotations

from pathlib import Path

from device import config
from device.bundle import bundle, store
from device.bundle.accepted import Trust
from device.config import Config
from device.errors import BundleError

_NEXT = "a service that runs takes it with: systemctl reload edgevision"


def activate(config_path: Path, wanted: str) -> int:
    """Make a bundle in [bundle] path the one in use, by its name or its path. Returns the exit code, 0.

    Raises ConfigError, BundleError, StorageError.
    """
    station = config.load(config_path)
    models = station.bundle
    name = _name(models, wanted)
    if store.current_name(models) != name:
        _require_trusted(station, name)
    before = store.activate(models, name)
    if before == name:
        print(f"{name} is in use already")
    else:
        print(f"{name} is in use in place of {before or 'none'}; {_NEXT}")
    return 0


def rollback(config_path: Path) -> int:
    """Make the bundle before this one the one in use. Returns 0. Raises as activate."""
    station = config.load(config_path)
    models = station.bundle
    before = store.current_name(models)
    if previous := store.previous_name(models):
        _require_trusted(station, previous)
    name = store.rollback(models)
    print(f"{name} is in use in place of {before or 'none'}; {_NEXT}")
    return 0


def _require_trusted(station: Config, name: str) -> None:
    """Raises SignatureError, BundleError."""
    trust = Trust(station.state, station.signers, station.allow_learned)
    trust.vouch_again(bundle.load(station.bundle / name))


def _name(models: Path, wanted: str) -> str:
    """The name of a bundle's folder. A path must lead into the folder of bundles; nothing is copied."""
    if "/" not in wanted:
        return wanted
    path = Path(wanted).absolute()
    if path.parent.resolve() != models.resolve():
        raise BundleError(f"{wanted}: must lie in {models}; copy it there first")
    return path.name
