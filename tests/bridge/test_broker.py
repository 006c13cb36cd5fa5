"""The connection to a broker that refuses, and to one that is not the right one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_bridge import BridgeProcess, wait_until
from fixtures_broker import Broker, free_port
from fixtures_certificates import Certificates

from deploy.bridge.broker import tls_context
from deploy.bridge.config import BrokerTlsConfig
from device.errors import ConfigError


def test_a_broker_that_lets_nobody_in_is_named_once(
    make_broker: Callable[..., Broker], make_bridge: Callable[[int], BridgeProcess]
) -> None:
    broker = make_broker("allow_anonymous false")
    broker.start()
    bridge = make_bridge(broker.port)
    bridge.configure(metrics="")
    bridge.start()
    wait_until(lambda: "refuses the connection: Not authorized" in bridge.log(), "the reason")
    assert bridge.log().count("WARNING") == 1


def test_a_port_that_speaks_no_mqtt_is_named(
    make_bridge: Callable[[int], BridgeProcess], broker: Broker
) -> None:
    """Another bridge's metrics, which close the connection."""
    other = make_bridge(broker.port)
    other.configure(metrics="")
    other.start()
    bridge = make_bridge(other.ports["metrics"])
    bridge.configure(metrics="")
    bridge.start()
    wait_until(lambda: "WARNING" in bridge.log(), "the warning")
    assert "Traceback" not in bridge.log()


@pytest.mark.parametrize("name", ["ca_file", "cert_file"])
def test_a_file_that_holds_no_certificate_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "no.pem"
    path.write_text("no certificate")
    files = {"ca_file": None, "cert_file": None, "key_file": None} | {name: path}
    if name == "cert_file":
        files["key_file"] = path
    with pytest.raises(ConfigError, match=name):
        tls_context(BrokerTlsConfig(**files))


def test_over_tls_only_the_right_broker_is_spoken_to(
    make_broker: Callable[..., Broker],
    make_bridge: Callable[[int], BridgeProcess],
    certificates: Certificates,
) -> None:
    port = free_port()
    listener = (f"listener {port} 127.0.0.1", f"certfile {certificates['broker.pem']}")
    broker = make_broker(*listener, f"keyfile {certificates['broker.key']}", "allow_anonymous true")
    broker.start()
    for authority, found in (("ca", "connected, after"), ("other-ca", "is not to be trusted")):
        bridge = make_bridge(port)
        bridge.configure(
            metrics="", mqtt=f'host = "127.0.0.1"\ntls = true\nca_file = "{certificates[f"{authority}.pem"]}"'
        )
        bridge.start()
        wait_until(lambda told=found, log=bridge.log: told in log(), found)
        bridge.stop()
