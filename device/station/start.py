"""The bundle that a service begins with.

Never one whose trial was cut off, by a kill, a power cut or a crash of the interpreter: then what was in use
before it. One that was activated while no service ran is on trial until its model is open and has given its
golden scores; where it does not, what was in use before it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from device.bundle import bundle, store, trial
from device.bundle.accepted import Trust
from device.bundle.bundle import Bundle
from device.bundle.trial import Trial
from device.config import Config
from device.errors import BundleError, InterpreterError, StorageError
from device.inspection.pipeline import Pipeline

log = logging.getLogger(__name__)

Open = Callable[[Bundle], Pipeline]


class ModelLoader:
    """From a bundle that the station trusts to a session's pipeline. Raises SignatureError as well."""

    def __init__(self, config: Config, session_id: str) -> None:
        self._config = config
        self._session_id = session_id
        self._trust = Trust(config.state, config.signers, config.allow_learned)

    def first(self, loaded: Bundle) -> Pipeline:
        """What the service begins with."""
        self._trust.require_in_use(loaded)
        return self._pipeline(loaded)

    def another(self, loaded: Bundle) -> Pipeline:
        """What it goes on with; in the thread `model`."""
        self._trust.vouch_again(loaded)
        return self._pipeline(loaded)

    def _pipeline(self, loaded: Bundle) -> Pipeline:
        config = self._config
        opened = Pipeline(
            loaded,
            station=config.station,
            session_id=self._session_id,
            threads=config.model.threads,
            runtime=config.model.runtime,
            region=config.inspection.region,
            doubts=config.verdict.doubts,
        )
        opened.require_judged()
        return opened


def first_pipeline(models: Path, open_bundle: Open) -> Pipeline:
    """The pipeline to begin with. `models`: [bundle] path. Raises BundleError, InterpreterError."""
    found = trial.read(models)
    if found is None:
        return open_bundle(bundle.load(models))
    if found.begun:
        log.error("bundle %s: its trial was cut off; %s is used again", found.bundle, found.before)
        return _before(models, found, open_bundle)
    try:
        trial.note(models, replace(found, begun=True))
        opened = open_bundle(bundle.load(models))
        trial.end(models, found.bundle)
    except (BundleError, InterpreterError) as error:
        log.error("bundle %s: %s; %s is used again", found.bundle, error, found.before)  # noqa: TRY400
        return _before(models, found, open_bundle)
    except StorageError as error:
        log.error("bundle %s: not tried: %s; %s is used", found.bundle, error, found.before)  # noqa: TRY400
        return open_bundle(bundle.load(models / found.before))
    return opened


def _before(models: Path, found: Trial, open_bundle: Open) -> Pipeline:
    """What was in use before a trial; the links lead to it again where the disk takes that."""
    try:
        store.go_back(models)
    except StorageError as error:
        log.error("%s; the next start comes back here", error)  # noqa: TRY400
        return open_bundle(bundle.load(models / found.before))
    return open_bundle(bundle.load(models))
