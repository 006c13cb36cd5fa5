"""What commands do to a station: the Actions of commands.py, with the parts that do the work.

Everything here runs in the thread that hears commands. What belongs to the loop is only asked for: it changes
the model between two frames, and reads the thresholds before the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from device.archive.archive import kept_pictures
from device.archive.review import review
from device.bundle import store
from device.bundle.calibration import Thresholds
from device.line.asked import AnswerListener, VerdictRequests
from device.line.trigger import Trigger
from device.mqtt.commands import Change, Refused
from device.station.swap import ModelSwap, Step
from device.station.threshold_override import RULE, ThresholdOverride

CHANGE_S = 120.0  # how long a change of the model may take before its command is answered as failed


class StationActions:
    """One station's; see commands.Actions for the verbs."""

    def __init__(
        self,
        trigger: Trigger,
        asked: VerdictRequests,
        swap: ModelSwap,
        override: ThresholdOverride,
        threshold_range: tuple[float, float],
        *,
        models: Path,
        state: Path,
        repeat_state: Callable[[], None],
        reread_thresholds: Callable[[], None],
        picture_bytes: int,
        most_pinned_bytes: int,
        send: Callable[[str, bytes], None],
        reviewed: Callable[[str, str], None],
        acknowledge: Callable[[str, str, str | None], bool],
    ) -> None:
        """`models`: [bundle] path. `state`: the state folder.

        `picture_bytes`: [archive] publish_image_max_bytes. The others ask the publisher, the loop,
        the history and health.
        """
        self._trigger = trigger
        self._asked = asked
        self._swap = swap
        self._override = override
        self._threshold_range = threshold_range
        self._models = models
        self._state = state
        self._repeat_state = repeat_state
        self._reread_thresholds = reread_thresholds
        self._picture_bytes = picture_bytes
        self._most_pinned_bytes = most_pinned_bytes
        self._send = send
        self._reviewed = reviewed
        self._acknowledge = acknowledge

    def trigger(self, part_id: str | None, told: AnswerListener, *, wait: bool) -> None:
        try:
            accepted = self._trigger.fire(part_id, self._asked.asker(told, wait=wait))
        except ValueError as problem:
            raise Refused(str(problem)) from None
        if not accepted:
            raise Refused(f"not accepted: the station is triggered by {self._trigger.name}, or too many wait")

    def rebirth(self) -> None:
        self._repeat_state()

    def reload(self) -> Change:
        return self._change_model(None)

    def activate(self, version: str) -> Change:
        return self._change_model(partial(store.activate, self._models, self._bundle_of(version), begun=True))

    def rollback(self) -> Change:
        return self._change_model(partial(store.rollback, self._models, begun=True))

    def set_threshold(self, ng: float | None, marginal: float | None) -> Change:
        running = self._swap.running
        own = running.thresholds
        old, new = self._override.apply(running.model, own, running.scores), own
        if ng is None or marginal is None:
            self._override.forget()
        else:
            self._require_settable(ng)
            new = replace(own, ng=ng, marginal=marginal, rule=RULE)
            self._override.keep(running.model, new)
        self._reread_thresholds()
        return Change(_content(old), _content(new))

    def _require_settable(self, ng: float) -> None:
        least, most = self._threshold_range
        if not least <= ng <= most:
            raise Refused(f"ng: must be {least:g}..{most:g} ([commands] threshold_min and _max), got {ng:g}")
        if (why := self._swap.running.scores.refusal(ng)) is not None:
            raise Refused(f"ng: {why}")

    def review(self, event_id: str, label: str, by: str | None) -> Change:
        reviewed = review(self._state, event_id, label, by or "", most_pinned_bytes=self._most_pinned_bytes)
        previous = reviewed.previous
        self._reviewed(event_id, label)
        return Change(None if previous is None else previous.label, label)

    def picture(self, event_id: str) -> None:
        if not self._picture_bytes:
            raise Refused("this station publishes no pictures: [archive] publish_image_max_bytes is 0")
        pictures = kept_pictures(self._state, event_id, self._picture_bytes)
        if not pictures:
            raise Refused(f"{event_id}: its image is not kept, or not any longer")
        for topic, content in pictures.items():
            self._send(topic, content)

    def acknowledge(self, role: str, reason: str, by: str | None) -> Change:
        if not self._acknowledge(role, reason, by):
            raise Refused(f"{role}: {reason} does not stand")
        return Change(None, reason)

    def _change_model(self, step: Step | None) -> Change:
        """Ask for it and wait for its end. Raises what it failed with."""
        before = self._swap.state.bundle
        self._swap.request(step).wait(CHANGE_S)
        return Change(before, self._swap.state.bundle)

    def _bundle_of(self, version: str) -> str:
        """The name of the one bundle on this device that has this version, or this name. Raises Refused."""
        if not self._models.is_dir():
            raise Refused(f"{self._models}: is no folder of bundles")
        names = [path.name for path in self._models.iterdir() if path.is_dir() and not path.is_symlink()]
        found = [name for name in names if name == version or name.endswith(f"-{version}")]
        if len(found) != 1:
            there = "no bundle" if not found else f"{len(found)} bundles"
            raise Refused(f"version: {there} of version {version} on this device")
        return found[0]


def _content(thresholds: Thresholds) -> dict[str, Any]:
    return {"ng": thresholds.ng, "marginal": thresholds.marginal, "rule": thresholds.rule}
