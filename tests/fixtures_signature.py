"""Keys, and signatures made with them, by the real ssh-keygen."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from device.bundle import manifest, signature

needs_keys = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")


def make_key(folder: Path, name: str) -> Path:
    key = folder / name
    command = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key))
    subprocess.run(command, check=True, timeout=60)
    return key


def sign(bundle: Path, key: Path, namespace: str = signature.NAMESPACE) -> None:
    (bundle / manifest.SIGNATURE_FILE).unlink(missing_ok=True)
    command = ("ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", namespace, str(bundle / manifest.FILE))
    subprocess.run(command, check=True, capture_output=True, timeout=60)
