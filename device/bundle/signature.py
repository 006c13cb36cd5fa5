"""Who signed a bundle: the SSH signature of its manifest, checked by ssh-keygen against a list of signers.

    ssh-keygen -Y sign -f KEY -n edgevision-model manifest.json      (deploy/push.sh) makes manifest.json.sig

The list has the form of ssh-keygen's allowed_signers, `NAME [valid-before=...] KEYTYPE KEY` a line.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from device.bundle import manifest
from device.errors import SignatureError

if TYPE_CHECKING:
    import subprocess

NAMESPACE = "edgevision-model"  # a signature made for anything else (git, a file) does not count
TIMEOUT_S = 30.0


def verify(bundle: Path, signers: Path, at: datetime | None = None) -> str:
    """The name of the signer in `signers`. The manifest it vouches for is not compared with the files here.

    `at`: when the key must have been good (valid-after, valid-before); None: now.

    Raises SignatureError: no signature, no list, a key that is not in it, a manifest that was changed.
    """
    signed, signature = bundle / manifest.FILE, bundle / manifest.SIGNATURE_FILE
    if not signature.is_file() or signature.is_symlink():
        raise SignatureError(f"{signature}: must be there: unsigned bundles are refused")
    if not signers.is_file():
        raise SignatureError(f"{signers}: must list who may sign, does not exist")
    when = () if at is None else ("-O", f"verify-time={at.astimezone():%Y%m%d%H%M%S}")  # in the local zone
    listed = (*when, "-f", str(signers), "-s", str(signature))
    found = _ssh_keygen("find-principals", *listed, content=b"")
    names = found.stdout.decode("utf-8", "replace").split("\n")
    if found.returncode != 0 or not names[0]:
        raise SignatureError(f"{signature}: signed by a key that is not in {signers}")
    name = names[0]
    done = _ssh_keygen("verify", *listed, "-I", name, "-n", NAMESPACE, content=signed.read_bytes())
    if done.returncode != 0:
        reason = (
            done.stdout.decode("utf-8", "replace").strip() or done.stderr.decode("utf-8", "replace").strip()
        )
        raise SignatureError(f"{signature}: does not vouch for {manifest.FILE}: {reason}")
    return name


def _ssh_keygen(action: str, *arguments: str, content: bytes) -> subprocess.CompletedProcess[bytes]:
    import subprocess  # a service whose bundles nobody signs does without it

    try:
        return subprocess.run(
            ("ssh-keygen", "-Y", action, *arguments),
            input=content,
            capture_output=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    except FileNotFoundError:
        raise SignatureError("ssh-keygen: not installed (apt install openssh-client)") from None
    except subprocess.TimeoutExpired:
        raise SignatureError(f"ssh-keygen: no answer within {TIMEOUT_S:g} s") from None
