"""A PLC's handshake with one station: trigger, acknowledge, result, acknowledge. No I/O.

    PLC: number, part id, TRIGGER 0 -> 1     here: TRIGGER_ACK 1, and BUSY 1 or TRIGGER_ERROR 1
    PLC: TRIGGER 0                           here: TRIGGER_ACK 0
                                             here: the verdict with the number, RESULT_VALID 1, BUSY 0
    PLC: RESULT_ACK 0 -> 1                   here: RESULT_VALID 0

A result bears the number of the trigger that asked for it, or 0. From a trigger until its result is
acknowledged, or the next trigger, no other verdict takes its place. What is shown when the broker or the
station goes away is taken back: it would be a frozen OK.

A TRIGGER that is 1 when the PLC writes for the first time is no edge: the part that it was meant for may be
gone.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploy.bridge.payloads import VerdictPayload
from deploy.bridge.register_map import CONTROL_BITS, ERRORS


@dataclass(frozen=True, slots=True)
class PlcTrigger:
    """A trigger of the PLC's."""

    number: int
    part_id: str


class Handshake:
    """One station's: write() what the PLC writes, show() and fail() what comes of it."""

    def __init__(self) -> None:
        self.trigger_ack = False
        self.busy = False
        self.result_valid = False
        self.error_code = ERRORS["none"]
        self.error_trigger = 0
        self.sequence = 0
        self.result: VerdictPayload | None = None
        self.result_trigger = 0
        self._number = 0  # of the trigger that is being served
        self._trigger: bool | None = None  # None: the PLC has not written yet
        self._result_ack = False

    def write(self, control: int, number: int, part_id: str, *, fresh: bool) -> PlcTrigger | None:
        """What the PLC wants. `fresh`: the station is there. Returns a trigger that is to be passed on."""
        acknowledged = bool(control & CONTROL_BITS["result_ack"])
        if acknowledged and not self._result_ack:
            self.result_valid = False
        self._result_ack = acknowledged
        trigger = bool(control & CONTROL_BITS["trigger"])
        edge = trigger and self._trigger is False
        self._trigger = trigger
        self.trigger_ack = trigger and (self.trigger_ack or edge)
        return self._begin(number, part_id, fresh=fresh) if edge else None

    def show(self, verdict: VerdictPayload, number: int = 0) -> None:
        """A verdict: the answer to trigger `number`, or 0 for one that this PLC has not asked for."""
        if number:
            if number != self._number or not self.busy:
                return
            self.busy = False
        elif self.busy or (self.result_valid and self.result_trigger):
            return
        self._put(verdict, number)
        self.result_valid = True

    def fail(self, number: int, error: str) -> None:
        """Trigger `number` has no verdict."""
        if number == self._number and self.busy:
            self.busy = False
            self._refuse(number, error)

    def forget(self) -> None:
        """The station or the broker is away: nothing is shown."""
        if self.busy:
            self.fail(self._number, "station_away")
        self._put(None, 0)

    def _begin(self, number: int, part_id: str, *, fresh: bool) -> PlcTrigger | None:
        if self.busy:
            self._refuse(number, "busy")
            return None
        self.error_code = ERRORS["none"]
        self.error_trigger = 0
        self._put(None, 0)
        if problem := _problem(number, part_id, fresh=fresh):
            self._refuse(number, problem)
            return None
        self._number = number
        self.busy = True
        return PlcTrigger(number, part_id)

    def _put(self, verdict: VerdictPayload | None, number: int) -> None:
        if verdict is not None or self.result is not None:
            self.sequence += 1
        self.result = verdict
        self.result_trigger = number
        self.result_valid = False

    def _refuse(self, number: int, error: str) -> None:
        self.error_code = ERRORS[error]
        self.error_trigger = number


def _problem(number: int, part_id: str, *, fresh: bool) -> str | None:
    if number == 0:
        return "number_zero"
    if not part_id.isprintable():
        return "part_id"
    return None if fresh else "station_away"
