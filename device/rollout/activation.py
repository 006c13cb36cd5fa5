"""`activate` and `rollback`: which bundle is in use, by hand or by the one who ships it.

They switch links on the disk and tell nobody: a service that runs takes the bundle at SIGHUP.
"""

from __future__ import annotations

from pathlib import Path

from device import config
from device.bundle import bundle, store
from device.bundle.accepted import Trust
from device.bundle.bundle import Bundle
from device.config import Config
from device.errors import BundleError
from device.inspection.pipeline import prove

_NEXT = "a service that runs takes it with: systemctl reload edgevision"


def activate(config_path: Path, wanted: str) -> int:
    """Make a bundle in [bundle] path the one in use, by its name or its path. Returns the exit code, 0.

    Raises ConfigError, BundleError, InterpreterError, StorageError.
    """
    station = config.load(config_path)
    models = station.bundle
    name = _name(models, wanted)
    if store.current_name(models) != name:
        prove(_trusted(station, name), station.model.threads, station.model.runtime)
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
        _trusted(station, previous)
    name = store.rollback(models)
    print(f"{name} is in use in place of {before or 'none'}; {_NEXT}")
    return 0


def _trusted(station: Config, name: str) -> Bundle:
    """Raises SignatureError, BundleError."""
    wanted = bundle.load(station.bundle / name)
    Trust(station.state, station.signers, station.allow_learned).vouch_again(wanted)
    return wanted


def _name(models: Path, wanted: str) -> str:
    """The name of a bundle's folder. A path must lead into the folder of bundles; nothing is copied."""
    if "/" not in wanted:
        return wanted
    path = Path(wanted).absolute()
    if path.parent.resolve() != models.resolve():
        raise BundleError(f"{wanted}: must lie in {models}; copy it there first")
    return path.name
