"""TLS to the broker: whom to trust, and how to be trusted."""

from __future__ import annotations

import ssl

from device.config import TlsConfig
from device.errors import ConfigError


class _Socket(ssl.SSLSocket):
    """Closes itself when the handshake fails; paho leaves it to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """TLS 1.2 or newer; the broker's certificate and name are verified unless `insecure`.

    Raises ConfigError: a file does not hold what it should.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"[mqtt] ca_file: {tls.ca_file}: no certificates in PEM: {error}") from None
    context.sslsocket_class = _Socket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.cert_file is not None:
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_passphrase)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"[mqtt] cert_file, key_file: {tls.cert_file}, {tls.key_file}: must be a certificate and its "
                f"key in PEM, without a passphrase: {error}"
            ) from None
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _no_passphrase() -> str:
    """A key with a passphrase is a mistake, not a question on the terminal."""
    raise ValueError("the key has a passphrase")
