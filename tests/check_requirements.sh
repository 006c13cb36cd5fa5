#!/usr/bin/env bash
# Do the requirement files resolve to wheels alone, for the machines and Pythons that they promise?
#
# Usage: tests/check_requirements.sh [--pip] [FILE...]      all requirement files of the product unless some are named
#
# A line for each file, Python and machine: what it resolves to. uv reads the markers of the machine that is asked
# for; pip, which people use, reads those of the Python that runs it. With --pip, each of python3.11 to python3.13 on
# PATH is asked too, for its own version and both machines, and the wheels are named that it would take.
#
# Exit codes: 0 everything resolves; 1 something does not; 2 uv is missing; 3 the package index cannot be reached.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHONS=(3.11 3.12 3.13)
MACHINES=(aarch64 x86_64)
GLIBC=36 # 2.36 is that of Debian Bookworm

main() {
    local uv with_pip=0 failed=0 file python machine
    uv=$(find_uv) || exit 2
    if [[ ${1:-} == --pip ]]; then
        with_pip=1
        shift
    fi
    (($#)) || set -- requirements-pi.txt requirements-train.txt deploy/requirements-demo.txt \
        deploy/bridge/requirements.txt
    for file in "$@"; do
        for python in "${PYTHONS[@]}"; do
            for machine in "${MACHINES[@]}"; do
                report "$file" "$python" "$machine" resolve_with_uv "$uv" || failed=1
            done
        done
    done
    if ((with_pip)); then
        for file in "$@"; do check_with_pip "$file" || failed=1; done
    fi
    return "$failed"
}

find_uv() {
    PATH=$PATH:$ROOT/.venv/bin command -v uv && return
    echo "error: uv is neither on PATH nor in .venv (pip install -r tests/requirements.txt)" >&2
    return 1
}

check_with_pip() { # FILE
    local failed=0 python machine
    for python in "${PYTHONS[@]}"; do
        "python$python" -c '' 2>/dev/null || continue
        for machine in "${MACHINES[@]}"; do
            report "$1" "$python" "$machine" resolve_with_pip || failed=1
        done
    done
    return "$failed"
}

report() { # FILE PYTHON MACHINE COMMAND...: run COMMAND FILE PYTHON MACHINE, print one line of what it found
    local file=$1 python=$2 machine=$3 found
    shift 3
    if found=$("$@" "$file" "$python" "$machine" 2>&1); then
        echo "$file $python $machine ${found//$'\n'/ }"
        return 0
    fi
    echo "$file $python $machine FAILS: $found" >&2
    if grep -qiE 'failed to fetch|error sending request|dns error|connection (refused|reset|timed out)' <<<"$found"; then exit 3; fi
    return 1
}

resolve_with_uv() { # UV FILE PYTHON MACHINE
    # --python: any will do, since nothing is built; without it uv looks long for a Python of that version.
    "$1" pip compile --quiet --no-header --no-annotate --only-binary :all: \
        --python python3 --python-version "$3" --python-platform "$4-manylinux_2_$GLIBC" "$ROOT/$2"
}

resolve_with_pip() { # FILE PYTHON MACHINE
    local tags=() glibc
    for ((glibc = GLIBC; glibc >= 17; glibc--)); do tags+=(--platform "manylinux_2_${glibc}_$3"); done
    "python$2" -m pip install -qq --dry-run --ignore-installed --report - --target /nonexistent \
        --only-binary=:all: "${tags[@]}" --platform "manylinux2014_$3" \
        --python-version "$2" --implementation cp --abi "cp${2/./}" --abi abi3 --abi none -r "$ROOT/$1" |
        "python$2" -c '
import json, sys
print(*sorted(found["download_info"]["url"].rsplit("/", 1)[1] for found in json.load(sys.stdin)["install"]))'
}

main "$@"
