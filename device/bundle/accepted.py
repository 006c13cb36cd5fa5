"""Which bundles this station has taken, kept apart from them: <state>/accepted.json.

    {"schema": 1, "bundles": [{"bundle": "...", "manifest_sha256": "...", "created": "2026-03-04T05:06:07Z",
                               "signer": "quality@plant", "accepted": "2026-03-04T06:00:00Z"}, ...]}

A bundle is the SHA-256 of its manifest.json, which holds the digests of all its files. The list answers what
the bundles themselves cannot: how new the newest one was that was ever taken, whatever has become of it; and
at what time a signature was good, so that the end of a key's time does not bar the way back.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from device.bundle import learned_here, manifest, signature
from device.bundle.bundle import Bundle
from device.errors import SignatureError
from device.schemas import strict_json
from device.system import clock, durable

log = logging.getLogger(__name__)

FILE = "accepted.json"
MOST = 200  # bundles; the newest one by its date is never forgotten
AHEAD = timedelta(days=1)  # that a bundle's date may be ahead of the clock: zones, and clocks that drift
HERE = "nobody (learned on this station)"

_schema = strict_json.Schema(
    {
        "type": "object",
        "additionalProperties": False,
        "required": ["schema", "bundles"],
        "properties": {
            "schema": {"const": 1},
            "bundles": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["bundle", "manifest_sha256", "created", "signer", "accepted"],
                    "properties": {
                        "bundle": {"type": "string"},
                        "manifest_sha256": {"type": "string"},
                        "created": {"type": "string", "format": "date-time"},
                        "signer": {"type": ["string", "null"]},
                        "accepted": {"type": "string", "format": "date-time"},
                    },
                },
            },
        },
    }
)


@dataclass(frozen=True, slots=True)
class AcceptedBundle:
    """A bundle that was taken. `created`, `accepted`: RFC 3339, UTC. `signer`: None: nobody had to."""

    bundle: str
    manifest_sha256: str
    created: str
    signer: str | None
    accepted: str

    @property
    def created_utc(self) -> datetime:
        return datetime.fromisoformat(self.created)

    @property
    def accepted_utc(self) -> datetime:
        return datetime.fromisoformat(self.accepted)


@dataclass(frozen=True, slots=True)
class AcceptedList:
    """The list in a station's state folder."""

    state: Path

    def all(self) -> list[AcceptedBundle]:
        """The newest last, as they were taken. A damaged list counts as none, and is told."""
        path = self.state / FILE
        try:
            content = strict_json.parse(path.read_bytes())
            strict_json.check(content, _schema)
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as problem:
            log.warning("%s: does not count: %s", path, problem)
            return []
        return [AcceptedBundle(**item) for item in content["bundles"]]

    def find(self, bundle: Path) -> AcceptedBundle | None:
        """What is known of the bundle in a folder, by its manifest."""
        try:
            wanted = _digest(bundle)
        except OSError:
            return None
        return next((one for one in reversed(self.all()) if one.manifest_sha256 == wanted), None)

    def newest(self, not_after: datetime | None = None) -> AcceptedBundle | None:
        """The one with the latest date of all; `not_after`: of those not later than this."""
        known = (one for one in self.all() if not_after is None or one.created_utc <= not_after)
        return max(known, key=lambda one: one.created_utc, default=None)

    def add(self, bundle: Path, created: str, signer: str | None) -> None:
        """Remember a bundle that is taken now; it is on the disk when this returns. Raises StorageError."""
        added = AcceptedBundle(bundle.name, _digest(bundle), created, signer, clock.stamp())
        known = [one for one in self.all() if one.manifest_sha256 != added.manifest_sha256]
        newest = self.newest()
        kept = known[-MOST + 2 :]
        if newest is not None and newest not in kept and newest.manifest_sha256 != added.manifest_sha256:
            kept.insert(0, newest)
        content = {"schema": 1, "bundles": [asdict(one) for one in [*kept, added]]}
        durable.write(self.state / FILE, json.dumps(content, indent=1).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class Trust:
    """What a station asks of a bundle: [bundle] signers (None: nothing) and allow_learned."""

    state: Path
    signers: Path | None
    allow_learned: bool = False

    def vouch(self, bundle: Path) -> str | None:
        """Who signed a bundle that comes new, by a key that may sign now; None where nobody has to.

        Raises SignatureError.
        """
        return None if self.signers is None else signature.verify(bundle, self.signers)

    def vouch_again(self, bundle: Bundle) -> str | None:
        """Who signed a bundle that is here: its key need only have been good when it was taken.

        HERE for one that was learned on this station, where that is allowed. Raises SignatureError.
        """
        if self.signers is None:
            return None
        if self.allow_learned and learned_here.learned_here(self.state, bundle.path):
            return HERE
        known = AcceptedList(self.state).find(bundle.path)
        try:
            return signature.verify(bundle.path, self.signers, None if known is None else known.accepted_utc)
        except SignatureError:
            if known is not None:
                raise
            # Taken before there was this list: it was signed when it was made.
            return signature.verify(bundle.path, self.signers, bundle.calibration.created_utc)

    def require_in_use(self, bundle: Bundle) -> None:
        """Ask who signed what a service starts with; what was taken before signers were named goes on.

        Raises SignatureError.
        """
        try:
            self.vouch_again(bundle)
        except SignatureError as error:
            if AcceptedList(self.state).find(bundle.path) is None:
                raise
            log.warning("%s; it was taken before, and stays in use until a signed one comes", error)


def _digest(bundle: Path) -> str:
    return hashlib.sha256((bundle / manifest.FILE).read_bytes()).hexdigest()
