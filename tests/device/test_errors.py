"""The tree of errors and its exit codes."""

from __future__ import annotations

import pytest

from device import errors


@pytest.mark.parametrize(
    ("error", "exit_code", "builtin"),
    [
        (errors.ConfigError, 3, ValueError),
        (errors.BundleError, 4, ValueError),
        (errors.FrameError, 5, OSError),
        (errors.InterpreterError, 6, RuntimeError),
        (errors.BrokerError, 7, OSError),
        (errors.DataError, 8, ValueError),
        (errors.StorageError, 9, OSError),
        (errors.PinError, 10, OSError),
        (errors.ReviewError, 11, LookupError),
        (errors.SignatureError, 13, ValueError),
        (errors.BusyError, 14, RuntimeError),
        (errors.RolledBackError, 15, RuntimeError),
        (errors.TrainingError, 16, RuntimeError),
    ],
)
def test_each_has_its_exit_code_and_builtin(error: type, exit_code: int, builtin: type) -> None:
    raised = error("what went wrong")
    assert raised.exit_code == exit_code
    assert isinstance(raised, builtin)
    assert isinstance(raised, errors.EdgeVisionError)
    assert str(raised) == "what went wrong"


def test_exit_codes_are_unique() -> None:
    kinds = errors.EdgeVisionError.__subclasses__()
    leaves = [leaf for kind in kinds for leaf in (kind, *kind.__subclasses__())]
    codes = [leaf.exit_code for leaf in leaves if leaf.__module__ == errors.__name__]
    assert len(codes) == 13
    assert len(set(codes)) == 13
    assert errors.EdgeVisionError.exit_code == 1
