# shellcheck shell=bash
# The virtual environment of a checkout, shared by deploy/demo.sh and tests/run.sh. Sourced, not run.
#
#   prepare_venv VENV STAMP FILE...   make VENV where it is missing or broken, and install the requirements FILEs in it.
#
# Nothing is done, and no network needed, when VENV has these FILEs already: their contents and the Python are
# remembered in VENV/STAMP.sha256. Prints what it does to stderr; returns 1 when it cannot be done.
# PYTHON chooses the interpreter of a new VENV; else it is the newest of 3.13, 3.12 and 3.11 that is on PATH.

prepare_venv() {
    local venv=$1 stamp=$1/$2.sha256
    shift 2
    make_venv "$venv" || return 1
    local wanted
    wanted=$(fingerprint "$venv" "$@") || return 1
    [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && return 0

    local arguments=() file
    for file in "$@"; do arguments+=(-r "$file"); done
    echo "installing into $venv: $(basename -a "$@" | paste -sd ' ')" >&2
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check "${arguments[@]}" >&2 || {
        echo "error: pip could not install ${*} (the lines above say why)" >&2
        return 1
    }
    echo "$wanted" >"$stamp"
}

make_venv() {
    local venv=$1 python
    fits "$venv/bin/python" && return 0
    python=$(find_python) || return 1
    echo "making $venv with $python" >&2
    "$python" -m venv --clear "$venv" >&2
}

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3; do
        if fits "$candidate"; then
            command -v "$candidate"
            return 0
        fi
        [[ -z ${PYTHON:-} ]] || break # what was asked for by name is not replaced in silence
    done
    echo "error: ${PYTHON:-no python on PATH} is not Python 3.11, 3.12 or 3.13 with its venv" \
        "(on Debian: apt install python3-venv)" >&2
    return 1
}

fits() { # PYTHON: it runs, its version is supported, and it can make a virtual environment with pip
    "$1" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

fingerprint() { # VENV FILE...: of the Python's version and of all requirement files of the checkout that FILEs lead to
    local venv=$1
    shift
    "$venv/bin/python" - "$@" <<'PYTHON'
import hashlib, pathlib, re, sys

digest, waiting = hashlib.sha256(sys.version.encode()), [pathlib.Path(name) for name in sys.argv[1:]]
while waiting:
    path = waiting.pop(0)
    text = path.read_text()
    digest.update(text.encode())
    waiting += [path.parent / name for name in re.findall(r"^-r (\S+)", text, re.MULTILINE)]
print(digest.hexdigest())
PYTHON
}
