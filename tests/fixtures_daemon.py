"""The whole device as its own process, and the folder that it works in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fixtures_broker import DEADLINE_S
from fixtures_bundle import make_image, png_bytes

REPOSITORY = Path(__file__).resolve().parent.parent
STATION = "press-4"
ROOT = f"edgevision/{STATION}"


DAC = "-dac_override,-dac_read_search"


def command_line(*arguments: str | Path) -> tuple[str, ...]:
    """python -m device ARGUMENTS..., for whom permissions hold even where root runs the tests."""
    bound = ("setpriv", f"--bounding-set={DAC}", f"--inh-caps={DAC}") if os.geteuid() == 0 else ()
    return (*bound, sys.executable, "-m", "device", *map(str, arguments))


def run_device(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the device to its end. What it prints need not be UTF-8."""
    return subprocess.run(
        command_line(*arguments),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env={**os.environ, **environment},
        check=False,
        timeout=4 * DEADLINE_S,
    )


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What stderr says but for the interpreter's own greeting."""
    return [line for line in done.stderr.splitlines() if not line.startswith("INFO: ")]


def write_images(folder: Path, words: str) -> None:
    """part1.png and so on: "o" is a good part, "n" a defective one, "x" a file that was cut off."""
    folder.mkdir(exist_ok=True)
    for index, word in enumerate(words, 1):
        spot = (30, 40, 24, 24) if word == "n" else None
        content = png_bytes(make_image(width=128, height=96, seed=index, spot=spot))
        (folder / f"part{index}.png").write_bytes(content[:-20] if word == "x" else content)


@dataclass
class Station:
    """A config file with its images, and the processes that run with it."""

    folder: Path
    bundle: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    def configure(self, camera: str = "", mqtt: str = "", more: str = "") -> Path:
        """Write config.toml; the arguments are further lines of these sections, and further sections."""
        self.config.write_text(
            f'[station]\nname = "{STATION}"\nstate = "state"\nruntime = "run"\n'
            f'[bundle]\npath = "{self.bundle}"\n'
            f'[camera]\nsource = "images"\n{camera}\n'
            f'[mqtt]\nhost = "127.0.0.1"\nport = {self.port}\nkeepalive_s = 5\n{mqtt}\n'
            f"{more}\n"
        )
        return self.config

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        """Run the service; what it logs goes to log()."""
        with (self.folder / "stderr.log").open("ab") as stderr:
            process = subprocess.Popen(
                command_line("run", "--config", self.config),
                cwd=REPOSITORY,
                stderr=stderr,
                env={**os.environ, **environment},
            )
        self.processes.append(process)
        return process

    def log(self) -> str:
        return (self.folder / "stderr.log").read_text()


@pytest.fixture
def make_station(tmp_path: Path, bundles_folder: Path) -> Iterator[Callable[..., Station]]:
    """Stations with images, configured for a broker's port; what still runs at the end is killed."""
    stations: list[Station] = []

    def make(port: int, words: str = "oono", **sections: str) -> Station:
        folder = tmp_path / f"station{len(stations)}"
        folder.mkdir()
        station = Station(folder, bundles_folder, port)
        write_images(station.images, words)
        station.configure(**sections)
        stations.append(station)
        return station

    yield make
    for station in stations:
        for process in station.processes:
            process.send_signal(signal.SIGKILL)
            process.wait(DEADLINE_S)
