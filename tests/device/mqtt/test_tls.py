"""TLS: whom we trust, and what is wrong with files that should say so."""

from __future__ import annotations

import ssl
import subprocess

import pytest
from fixtures_certificates import Certificates

from device.config import TlsConfig
from device.errors import ConfigError
from device.mqtt.tls import tls_context


def test_the_broker_is_verified_by_default(certificates: Certificates) -> None:
    for tls in (TlsConfig(), TlsConfig(ca_file=certificates["ca.pem"])):
        context = tls_context(tls)
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    context = tls_context(TlsConfig(insecure=True))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


def test_a_file_without_certificates_is_named(certificates: Certificates) -> None:
    with pytest.raises(ConfigError, match=r"\[mqtt\] ca_file: .*ca.key: no certificates in PEM"):
        tls_context(TlsConfig(ca_file=certificates["ca.key"]))


def test_a_key_of_another_certificate_is_named(certificates: Certificates) -> None:
    tls = TlsConfig(cert_file=certificates["client.pem"], key_file=certificates["broker.key"])
    with pytest.raises(
        ConfigError, match=r"\[mqtt\] cert_file, key_file: .*must be a certificate and its key"
    ):
        tls_context(tls)


def test_a_key_with_a_passphrase_is_refused_and_not_asked_for(certificates: Certificates) -> None:
    locked = certificates["locked.key"]
    subprocess.run(
        ("openssl", "ec", "-aes128", "-passout", "pass:x", "-in", "client.key", "-out", "locked.key"),
        cwd=certificates.folder,
        check=True,
        capture_output=True,
    )
    with pytest.raises(ConfigError, match="the key has a passphrase"):
        tls_context(TlsConfig(cert_file=certificates["client.pem"], key_file=locked))
