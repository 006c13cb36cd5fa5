#!/usr/bin/env bash
# See EdgeVision work: the real service inspects images from the disk, and its verdicts are printed as they arrive
# over MQTT. No root, no camera, no broker to install; the network only once, to install the packages.
#
# Usage: deploy/demo.sh [--out DIR]      annotated pictures, verdicts and log go to DIR (default: build/demo)
#        deploy/demo.sh --keep           the images again and again, slowly, until Ctrl-C
#
# The dashboard is served on this machine as long as it runs; its address is printed first.
#
# Exit codes: 0 every image had its verdict; 1 the service failed or a verdict is missing; 2 wrong command line, or
# the packages could not be installed; 130 interrupted
# (with --keep that is how it ends: 0).
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/venv.sh
source "$ROOT/deploy/venv.sh"

main() {
    prepare_venv "$ROOT/.venv" demo "$ROOT/deploy/requirements-demo.txt" || exit 2
    PYTHONPATH=$ROOT exec "$ROOT/.venv/bin/python" -m deploy.demo "$@"
}

main "$@"
