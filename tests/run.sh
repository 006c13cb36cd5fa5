#!/usr/bin/env bash
# Sets everything up and checks everything: linters, types, shell scripts, tests.
#
# Usage: tests/run.sh [PYTEST_ARGUMENT...]      tests/run.sh -k replay      PYTHON=python3.11 tests/run.sh
#
# Makes .venv in the checkout and installs what is needed; later runs reuse it and need no network. As root on Debian
# it also installs the missing system packages (a broker, a browser, Prometheus, mbpoll, and what systemd-python is built
# with); without them, the tests that need them skip and say so.
#
# Exit codes: 0 all passed; 1 a linter or a test failed; 2 the set-up failed, or as pytest has them (2 to 5).
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
# shellcheck source=deploy/venv.sh
source "$ROOT/deploy/venv.sh"

main() {
    cd "$ROOT"
    install_system_packages
    prepare_venv "$VENV" tests "$(train_requirements)" tests/requirements.txt deploy/requirements-demo.txt \
        deploy/bridge/requirements.txt || exit 2
    install_systemd_python
    local sources=0 tests=0
    check_sources || sources=1
    if (($#)); then
        run "$VENV/bin/python" -m pytest -q "$@" || tests=$?
    else
        run_all_tests || tests=$?
    fi
    if ((sources)); then
        echo "error: a linter found something (see above, before the tests)" >&2
    fi
    exit $((tests ? tests : sources))
}

# Half of the tests wait, for brokers, machines and clocks: those that compute (the trainer's, and the fits of real
# images) take the time that these leave, and stand below the others when all is done.
run_all_tests() {
    local computing=(tests/trainer tests/system/test_real_images.py) computed=0 others=0
    mkdir -p build
    # Bash lets what runs in the background ignore Ctrl-C, and so would the commands that the tests interrupt.
    env --default-signal=INT nice -n 19 "$VENV/bin/python" -m pytest -q -p no:cacheprovider "${computing[@]}" \
        >build/computing.log 2>&1 &
    meanwhile=$!
    trap 'kill "$meanwhile" 2>/dev/null' EXIT # they do not outlive a Ctrl-C
    run "$VENV/bin/python" -m pytest -q "${computing[@]/#/--ignore=}" || others=$?
    wait "$meanwhile" || computed=$?
    trap - EXIT
    echo "+ python -m pytest -q ${computing[*]} (meanwhile, in the background)" >&2
    cat build/computing.log
    return $((others ? others : computed))
}

train_requirements() { # a list of what requirements-train.txt says, but with TensorFlow's CPU build where there is one
    if [[ $(uname -m) != x86_64 ]] || has_gpu_build; then
        echo requirements-train.txt
        return
    fi
    # 285 MiB less to download. Beside .venv, not in it: .venv may not be there yet.
    mkdir -p build
    sed -E 's/^tensorflow([^-a-z])/tensorflow-cpu\1/; s/^-r (.*)/-r ..\/\1/' requirements-train.txt >build/requirements-train-cpu.txt
    echo build/requirements-train-cpu.txt
}

has_gpu_build() { # both builds in one environment overwrite each other's files
    compgen -G "$VENV/lib/python3*/site-packages/tensorflow-[0-9]*.dist-info" >/dev/null
}

install_system_packages() {
    local missing=() package
    for package in mosquitto gcc pkg-config debootstrap rsync prometheus mbpoll strace; do
        PATH=$PATH:/usr/sbin command -v "$package" >/dev/null || missing+=("$package")
    done
    has_browser || missing+=(chromium fonts-dejavu-core)
    command -v systemd-nspawn >/dev/null || missing+=(systemd-container)
    command -v ssh-keygen >/dev/null || missing+=(openssh-client)
    command -v qemu-aarch64-static >/dev/null || missing+=(qemu-user-static)
    [[ -e /usr/include/systemd/sd-daemon.h ]] || missing+=(libsystemd-dev)
    has_rtsp_server ||
        missing+=(python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly)
    ((${#missing[@]})) || return 0

    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        echo "not root on Debian: ${missing[*]} missing; the tests that need them will skip" >&2
        return 0
    fi
    echo "installing system packages: ${missing[*]}" >&2
    if ! apt_install "${missing[@]}" >&2; then
        echo "apt could not install ${missing[*]}; the tests that need them will skip" >&2
    fi
}

has_browser() {
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null
}

has_rtsp_server() { # for tests/rtsp_server.py, which Debian's own Python runs
    /usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null
}

apt_install() ( # a subshell, for its trap
    # The tests start brokers of their own, on free ports: the packaged service must not start, and take port 1883.
    if [[ ! -e /usr/sbin/policy-rc.d ]]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod +x /usr/sbin/policy-rc.d
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || true # one unreachable source need not matter
    apt-get install -y -qq --no-install-recommends "$@"
)

install_systemd_python() { # from source, there is no wheel; device/telemetry/journal.py works without it too
    "$VENV/bin/python" -c 'from systemd import journal' 2>/dev/null && return
    [[ -e /usr/include/systemd/sd-daemon.h ]] || return 0
    echo "building systemd-python" >&2
    "$VENV/bin/python" -m pip install -qq --disable-pip-version-check 'systemd-python>=235,<236' >&2 ||
        echo "systemd-python could not be built; the tests go on without it" >&2
}

check_sources() { # every linter runs, so that one run names all that is wrong
    local failed=0 python=$VENV/bin/python
    run "$python" -m ruff check --quiet . || failed=1
    run "$python" -m ruff format --quiet --check . || failed=1
    run "$python" -m mypy --no-error-summary || failed=1
    run "$VENV/bin/shellcheck" .ci/run tests/*.sh deploy/*.sh || failed=1
    run "$VENV/bin/shfmt" -d -i 4 .ci/run tests/*.sh deploy/*.sh || failed=1
    (cd deploy/ansible && run "$VENV/bin/ansible-lint" --offline -q ./*.yml) || failed=1
    return "$failed"
}

run() { # COMMAND...: print it as a person would write it, run it
    echo "+ ${*//$VENV\/bin\//}" >&2
    "$@"
}

main "$@"
