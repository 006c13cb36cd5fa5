"""What can go wrong, one class for each exit code.

A command prints `error: <message>` and ends with the class's `exit_code`. 0 is done, 1 an unexpected fault
(a bug, with its traceback), 2 a wrong command line, 130 interrupted.
"""

from __future__ import annotations

from typing import ClassVar


class EdgeVisionError(Exception):
    """The root of all errors that are foreseen; its message is written for the person who reads the log."""

    exit_code: ClassVar[int] = 1


class ConfigError(EdgeVisionError, ValueError):
    """The configuration is wrong."""

    exit_code = 3


class BundleError(EdgeVisionError, ValueError):
    """The bundle is damaged, incomplete, or does not give the scores that it promises."""

    exit_code = 4


class FrameError(EdgeVisionError, OSError):
    """An image cannot be read, or a camera gives none."""

    exit_code = 5


class InterpreterError(EdgeVisionError, RuntimeError):
    """The interpreter is missing, fails, or runs a model that is not what its calibration says."""

    exit_code = 6


class BrokerError(EdgeVisionError, OSError):
    """The MQTT broker cannot be reached or refuses us."""

    exit_code = 7


class PinError(EdgeVisionError, OSError):
    """A pin of the Pi's header cannot be used."""

    exit_code = 10


class DataError(EdgeVisionError, ValueError):
    """The trainer's data set cannot be used, or there are too few images to learn from."""

    exit_code = 8


class StorageError(EdgeVisionError, OSError):
    """Something cannot be written to the disk."""

    exit_code = 9


class ReviewError(EdgeVisionError, LookupError):
    """An event that is to be reviewed or exported is not there, or a review is none."""

    exit_code = 11


class SignatureError(BundleError):
    """A bundle is unsigned, or signed by somebody who may not, or is not the one that was signed."""

    exit_code = 13


class BusyError(EdgeVisionError, RuntimeError):
    """Somebody else is changing the model at this moment."""

    exit_code = 14


class RolledBackError(EdgeVisionError, RuntimeError):
    """The running service did not take the new model, or not well; the one before it is back."""

    exit_code = 15


class TrainingError(EdgeVisionError, RuntimeError):
    """The training cannot go on: its loss is no number, or a batch does not fit into memory."""

    exit_code = 16
