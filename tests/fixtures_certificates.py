"""Certificates made with the openssl program: an authority, a broker's, a client's, an expired one."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Certificates:
    """PEM files in a folder. `NAME.pem` is a certificate, `NAME.key` its key."""

    folder: Path

    def __getitem__(self, file: str) -> Path:
        return self.folder / file

    def make_authority(self, name: str) -> None:
        self._openssl("req", "-x509", *self._new_key(name), "-days", "2", "-subj", f"/CN={name}")

    def make(self, name: str, days: int = 2, host: str = "IP:127.0.0.1") -> None:
        """A certificate by ca; with negative days it has expired."""
        self._openssl("req", *self._new_key(name, "csr"), "-subj", f"/CN={name}")
        extension = self.folder / "san"
        extension.write_text(f"subjectAltName={host}\n")
        signer = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
        self._openssl(
            "x509", "-req", "-in", f"{name}.csr", *signer, "-days", str(days), "-extfile", "san", "-out",
            f"{name}.pem",
        )  # fmt: skip

    def _new_key(self, name: str, suffix: str = "pem") -> tuple[str, ...]:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        return (*curve, "-keyout", f"{name}.key", "-out", f"{name}.{suffix}")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(("openssl", *arguments), cwd=self.folder, check=True, capture_output=True)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """ca, and by it broker, client, expired and elsewhere; other-ca, of which nobody has a certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    made.make_authority("ca")
    made.make_authority("other-ca")
    made.make("broker")
    made.make("client")
    made.make("expired", days=-1)
    made.make("elsewhere", host="DNS:broker.example")
    return made
