#!/usr/bin/env bash
# Does a station's processor say what this one says? The station's own wheels for 64-bit ARM, emulated, inspect the
# demo's images with the demo's bundle; every score must agree with x86-64's within the bundle's golden tolerance.
#
# Usage: tests/check_arm64.sh [bookworm] [trixie]      both unless one is named
#
#   bookworm   Python 3.11 and tflite-runtime 2.14, the older of the two interpreters
#   trixie     Python 3.13 and what requirements-pi.txt asks for there: ai-edge-litert
#
# Needs .venv (tests/run.sh makes it), qemu-aarch64-static (apt install qemu-user-static), apt and dpkg; no root. About
# 400 MB of Debian's and Python's packages are kept in ~/.cache/edgevision. How fast an emulated processor is says
# nothing about a Pi.
#
# Exit codes: 0 all scores agree; 1 one does not, or a verdict is missing; 2 wrong command line, or something is missing.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/edgevision
QEMU=(qemu-aarch64-static -cpu cortex-a76) # a Pi 5's; it has SDOT, as a Pi 4's has not

declare -A PYTHON=([bookworm]=3.11 [trixie]=3.13)
work=''

main() {
    local suite failed=0
    (($#)) || set -- bookworm trixie
    for suite in "$@"; do [[ ${PYTHON[$suite]:-} ]] || die "$suite: must be bookworm or trixie"; done
    command -v "${QEMU[0]}" >/dev/null || die "${QEMU[0]} is not installed (apt install qemu-user-static)"
    [[ -x $ROOT/.venv/bin/python ]] || die "there is no .venv (tests/run.sh makes it)"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    inspect "$ROOT/.venv/bin/python" >"$work/here"
    for suite in "$@"; do
        get_system "$suite"
        get_wheels "$suite"
        emulated "$suite" >"$work/$suite"
        compare "$suite" || failed=1
    done
    return "$failed"
}

die() {
    echo "error: $*" >&2
    exit 2
}

inspect() { # COMMAND...: a Python; one verdict a line
    cd "$ROOT" && PYTHONPATH=$ROOT "$@" -m device inspect --json --bundle deploy/demo/bundle deploy/demo/images
}

system() { echo "$CACHE/arm64-$1"; }
wheels() { echo "$CACHE/arm64-wheels-$1"; }

get_system() { # SUITE: Debian's Python for arm64 and the libraries it needs, unpacked; nothing is installed
    local suite=$1 state=$work/apt-$1 draft package
    [[ ! -d $(system "$suite") ]] || return 0
    echo "fetching Debian's Python for arm64, $suite" >&2
    draft=$(system "$suite").$$
    mkdir -p "$state"/{etc/apt.conf.d,etc/preferences.d,lists/partial,cache/archives/partial} "$draft"
    : >"$state/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $suite main" >"$state/etc/sources.list"
    private_apt "$state" update
    private_apt "$state" install --download-only -y --no-install-recommends "python${PYTHON[$suite]}" libgomp1 libstdc++6
    for package in "$state"/cache/archives/*.deb; do dpkg -x "$package" "$draft"; done
    [[ -e $draft/lib ]] || ln -s usr/lib "$draft/lib" # trixie's packages have everything in /usr
    # What an interpreter asks of its processor, and qemu 7.2 does not answer by itself.
    mkdir -p "$draft/proc" "$draft/sys/devices/system/cpu"
    printf 'processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd0b\n' >"$draft/proc/cpuinfo"
    echo 0 | tee "$draft/sys/devices/system/cpu/possible" >"$draft/sys/devices/system/cpu/present"
    mv "$draft" "$(system "$suite")"
}

private_apt() { # STATE ARGUMENT...: an apt that knows arm64 alone and touches nothing of this machine's
    local state=$1
    shift
    apt-get -qq -o Dir::State="$state" -o Dir::State::lists="$state/lists" -o Dir::State::status="$state/status" \
        -o Dir::Cache="$state/cache" -o Dir::Etc::sourcelist="$state/etc/sources.list" -o Dir::Etc::sourceparts=- \
        -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Sandbox::User= -o Debug::NoLocking=1 "$@" >&2 ||
        die "apt could not fetch Debian's packages for arm64"
}

mirror() { # where this machine's apt has Debian from
    # shellcheck disable=SC2016 # apt's own placeholders
    apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Component: main' | awk '$1 ~ /^[a-z]+$/ {print $2; exit}'
}

get_wheels() { # SUITE: the station's packages, unpacked side by side
    local suite=$1 python=${PYTHON[$1]} draft wheel platforms=() glibc
    [[ ! -d $(wheels "$suite") ]] || return 0
    echo "fetching wheels for arm64, Python $python" >&2
    draft=$(wheels "$suite").$$
    mkdir -p "$draft"
    for ((glibc = 36; glibc >= 17; glibc--)); do platforms+=(--platform "manylinux_2_${glibc}_aarch64"); done
    "$ROOT/.venv/bin/python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: -d "$work/$suite.whl" \
        "${platforms[@]}" --platform manylinux2014_aarch64 --python-version "$python" --implementation cp \
        --abi "cp${python/./}" --abi abi3 --abi none -r <(pinned "$suite") || die "pip could not fetch the wheels"
    for wheel in "$work/$suite.whl"/*.whl; do "$ROOT/.venv/bin/python" -m zipfile -e "$wheel" "$draft"; done
    mv "$draft" "$(wheels "$suite")"
}

pinned() { # SUITE: requirements-pi.txt as it resolves there; on bookworm with the older interpreter in place of the newer
    local list=$work/requirements-$1.txt
    cp "$ROOT/requirements-pi.txt" "$list"
    [[ $1 != bookworm ]] || sed -i 's/^ai-edge-litert.*/tflite-runtime==2.14.0/' "$list"
    # uv takes versions that say they are for older Pythons alone (backports-strenum); pip, which installs, does not.
    "$ROOT/.venv/bin/uv" pip compile -q --no-header --no-annotate --only-binary :all: --python-version "${PYTHON[$1]}" \
        --python-platform aarch64-manylinux_2_36 "$list" | sed 's/^\(backports-strenum\)==.*/\1/'
}

emulated() { # SUITE
    local suite=$1
    inspect env "PYTHONPATH=$ROOT:$(wheels "$suite")" PYTHONDONTWRITEBYTECODE=1 \
        "${QEMU[@]}" -L "$(system "$suite")" "$(system "$suite")/usr/bin/python${PYTHON[$suite]}"
}

compare() { # SUITE
    "$ROOT/.venv/bin/python" - "$1" "$work/here" "$work/$1" "$ROOT/deploy/demo/bundle/current/calibration.json" <<'PYTHON'
import json, pathlib, sys

suite, here, there, calibration = sys.argv[1], *map(pathlib.Path, sys.argv[2:])
tolerance = json.loads(calibration.read_text())["golden"]["tolerance"]
ours, theirs = ({v["image"]["path"]: v for v in map(json.loads, p.read_text().splitlines())} for p in (here, there))
apart = {path: abs(ours[path]["score"] - theirs[path]["score"]) for path in ours.keys() & theirs.keys()}
words = sum(ours[path]["verdict"] != theirs[path]["verdict"] for path in apart)
agree = len(apart) == len(ours) == len(theirs) > 0 and max(apart.values()) <= tolerance
print(f"{suite}, arm64: {len(apart)} of {len(ours)} images, scores at most {max(apart.values(), default=1):.6f} apart "
      f"(tolerance {tolerance:g}), {words} other verdicts: {'agree' if agree else 'DO NOT AGREE'}")
sys.exit(not agree)
PYTHON
}

main "$@"
