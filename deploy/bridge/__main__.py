"""The bridge's command line: python -m deploy.bridge --config bridge.toml

Exit codes: 0 told to stop, 1 a fault (with its traceback), 2 a wrong command line, 3 a wrong configuration, 9
a state folder that cannot be written, 17 a port that cannot be listened on.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from deploy.bridge import bridge, config
from device.errors import EdgeVisionError

CONFIG_PATH = Path("/etc/edgevision/bridge.toml")


def main(arguments: list[str] | None = None) -> int:
    """Run the bridge. Returns the exit code; argparse ends with 2 by itself."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.bridge",
        description="Modbus, HTTP and Prometheus for all stations of a broker.",
    )
    parser.add_argument(
        "--config", type=Path, default=CONFIG_PATH, metavar="FILE", help="default: %(default)s"
    )
    options = parser.parse_args(arguments)
    try:
        loaded = config.load(options.config)
        logging.basicConfig(
            level=loaded.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        asyncio.run(bridge.run(loaded))
    except EdgeVisionError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
