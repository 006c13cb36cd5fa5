"""docs/guide/install.md, its commands run word for word and in order, in a Debian in a container."""

from __future__ import annotations

import json
import re

from fixtures_daemon import REPOSITORY
from fixtures_systemd import SOURCE, WHEELS, Machine

UNIT = "edgevision.service"


def test_the_page_does_what_it_says(machine: Machine) -> None:
    machine.path("/etc/pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {WHEELS}\n")
    page = (REPOSITORY / "docs/guide/install.md").read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    *installing, uninstalling = blocks
    for block in installing:
        machine.run("bash", "-c", f"set -e\ncd {SOURCE}\n{block}")
        if "systemctl restart" in block:
            assert machine.show(UNIT, "ActiveState") == "active"
    assert machine.show("mosquitto.service", "ActiveState") == "active"
    tried = machine.run("/opt/edgevision/check", check=False)
    assert re.search(r"^ok +broker +localhost:1883 accepts the station$", tried.stdout, re.MULTILINE), tried
    anybody = machine.run("mosquitto_pub", "-t", "edgevision/x", "-m", "x", check=False)
    assert "not authorised" in anybody.stderr.lower() + anybody.stdout.lower()
    machine.run("mosquitto_passwd", "-b", "/etc/mosquitto/edgevision.passwd", "dashboard", "seen")
    machine.run("systemctl", "reload", "mosquitto")
    dashboard = ("-u", "dashboard", "-P", "seen", "-t", "edgevision/station/inspection")
    heard = machine.out("mosquitto_sub", *dashboard, "-C", "1", "-W", "30")
    assert json.loads(heard)["station"] == "station"  # the service has logged in with its credential
    assert "a long password" not in machine.out("ps", "-eo", "args") + machine.journal(UNIT)
    machine.run("bash", "-c", f"cd {SOURCE} && {uninstalling}")
    assert machine.show(UNIT, "LoadState") == "not-found"
    assert machine.path("/etc/edgevision/config.toml").exists()
