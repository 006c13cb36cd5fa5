"""The pins of the Pi's header, through gpiozero.

It looks for a back-end and takes the next one when one fails, which would make pins that work by halves. Here
it is lgpio's, which knows every Pi, unless the environment variable GPIOZERO_PIN_FACTORY names another.
"mock" is pins that exist in memory alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from device.errors import PinError

T = TypeVar("T")


def input_pin(number: int, pull: str, factory: Any = None) -> Any:
    """The input device on a pin; it is active when high, or when low if `pull` is "up".

    `factory`: one of gpiozero's, else pin_factory(). Raises PinError.
    """

    def make() -> Any:
        from gpiozero import DigitalInputDevice

        pins = factory or pin_factory()
        if pull == "none":
            return DigitalInputDevice(number, pull_up=None, active_state=True, pin_factory=pins)
        return DigitalInputDevice(number, pull_up=pull == "up", pin_factory=pins)

    return _opened(number, make)


def output_pin(number: int, active: str, factory: Any = None) -> Any:
    """The output device on a pin, not active; `active` is the level that means on(). Raises PinError."""

    def make() -> Any:
        from gpiozero import DigitalOutputDevice

        pins = factory or pin_factory()
        return DigitalOutputDevice(
            number, active_high=active == "high", initial_value=False, pin_factory=pins
        )

    return _opened(number, make)


@cache
def pin_factory() -> Any:
    """The back-end for all pins of this process. Raises ImportError, and what back-ends raise."""
    if "GPIOZERO_PIN_FACTORY" in os.environ:
        from gpiozero import Device

        Device.ensure_pin_factory()
        return Device.pin_factory
    from gpiozero.pins.lgpio import LGPIOFactory

    return LGPIOFactory()


def _opened(number: int, make: Callable[[], T]) -> T:
    try:
        return make()
    except ImportError as error:
        raise PinError(
            f"pin {number}: {error}; install python3-gpiozero and python3-lgpio (docs/guide/triggers.md)"
        ) from None
    except Exception as error:  # back-ends raise what they like
        raise PinError(f"pin {number}: {type(error).__name__}: {error}") from error
