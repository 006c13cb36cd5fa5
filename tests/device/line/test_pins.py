"""The adapter to gpiozero, on its mock pins."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fixtures_daemon import REPOSITORY
from gpiozero.pins.mock import MockFactory

from device.errors import PinError
from device.line import pins


@pytest.mark.parametrize(("active", "rest"), [("high", False), ("low", True)])
def test_an_output_rests_at_the_other_level(active: str, rest: bool) -> None:
    factory = MockFactory()
    output = pins.output_pin(4, active, factory)
    pin = factory.pin(4)
    assert (pin.function, pin.state) == ("output", rest)
    output.on()
    assert pin.state is not rest
    output.off()
    assert pin.state is rest
    output.close()


@pytest.mark.parametrize(("pull", "of_the_pin"), [("up", "up"), ("down", "down"), ("none", "floating")])
def test_an_input_has_its_pull(pull: str, of_the_pin: str) -> None:
    factory = MockFactory()
    given = pins.input_pin(4, pull, factory)
    assert (factory.pin(4).pull, given.is_active) == (of_the_pin, False)
    given.close()


def test_a_pin_in_use_is_named() -> None:
    factory = MockFactory()
    output = pins.output_pin(4, "high", factory)
    with pytest.raises(PinError, match="pin 4: GPIOPinInUse: "):
        pins.input_pin(4, "up", factory)
    output.close()


def pin_in_a_process(**environment: str) -> str:
    command = (
        "from device.line import pins\nfrom device.errors import PinError\n"
        "try: print(type(pins.output_pin(4, 'high').pin).__name__)\n"
        "except PinError as error: print(error)\n"
    )
    done = subprocess.run(
        (sys.executable, "-W", "error", "-c", command),
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_environment_may_name_the_back_end() -> None:
    assert pin_in_a_process(GPIOZERO_PIN_FACTORY="mock") == "MockPin"


def test_no_other_back_end_is_taken_in_silence() -> None:
    """Neither lgpio nor a chip is here; gpiozero alone would go on to its native one."""
    assert pin_in_a_process().startswith("pin 4: ")
