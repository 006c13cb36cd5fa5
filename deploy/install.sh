#!/usr/bin/env bash
# Sets a Pi up: user, folders, packages, program, service. Run again to repair or to upgrade; nothing of yours is lost.
#
# Usage: sudo deploy/install.sh [OPTION...]                install or upgrade this machine from this checkout
#        sudo deploy/install.sh --uninstall [--purge]      take it away again; --purge: configuration, models and images too
#        sudo deploy/install.sh --bridge [OPTION...]       the bridge for PLCs, metrics and an MES instead of a station
#        deploy/install.sh --host [USER@]HOST [OPTION...]  the same over ssh, on a machine where USER may sudo
#
#   --dry-run                  say what would be done, and do nothing
#   --instance NAME            one of several cameras: edgevision@NAME, /etc/edgevision/NAME.toml, /var/lib/edgevision/NAME
#   --bundle DIR               a bundle to begin with (trainer.fit made it); later ones come by deploy/push.sh
#   --signers FILE             who may sign bundles, in the form of ssh-keygen's allowed_signers; unsigned ones are refused then
#   --push-user NAME           an existing user who may push bundles (deploy/push.sh) and do nothing else
#   --mqtt-password-file FILE  the broker's password, on the first line; a new station logs in under its own name
#   --camera-password-file FILE  the same for a network camera: [camera] source = "rtsp://USER@HOST/..." takes it
#   --with-mosquitto           a broker on this machine: the station's name and that password, access rules, WebSockets
#   --ssh-config FILE          for --host (ssh -F)
#   --wheels DIR               Python packages from this folder and not from the network (docs/guide/install.md)
#
# 64-bit Raspberry Pi OS or Debian, Bookworm or Trixie. Every step is whole or not done, and is found done the next time:
# a power cut at any point is mended by running it again. The program goes to a folder of its own in
# /opt/edgevision/releases and is used from the moment that /opt/edgevision/current leads to it.
#
# Exit codes: 0 done; 1 a step failed (the lines above say which; run it again when mended); 2 wrong command line;
# 3 this machine is not supported; 4 installed, and the service does not get ready (no bundle or no camera yet: see above).
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
HOME_DIR=/opt/edgevision
CONFIG_DIR=/etc/edgevision
STATE_DIR=/var/lib/edgevision
INCOMING=/var/lib/edgevision-incoming
STAGING=/opt/edgevision/staging # root's own
AS_SERVICE=(setpriv --reuid edgevision --regid edgevision --init-groups --no-new-privs)
PROGRAM=(device deploy/mosquitto deploy/lock docs systemd LICENSE README.md CHANGELOG.md) # what a release holds
PACKAGES=station
ENTRANCE=device.service
UNITS=(edgevision.service edgevision@.service edgevision-receive.socket edgevision-receive@.service)
KEEP_RELEASES=3

dry_run='' instance='' bundle='' signers='' push_user='' password_file='' camera_password_file='' with_mosquitto='' wheels=''
host='' ssh_config='' uninstall='' purge='' bridge=''
remote='' # the folder on the other machine

main() {
    local arguments=("$@")
    parse "$@"
    if [[ $host ]]; then
        install_over_ssh "${arguments[@]}"
        exit
    fi
    [[ $dry_run ]] || ((EUID == 0)) || die 2 "must be run as root (sudo deploy/install.sh), or with --dry-run"
    check_machine
    if [[ $bridge ]]; then
        become_bridge
        "${uninstall:-install}_bridge"
        return
    fi
    if [[ $uninstall ]]; then
        uninstall
        return
    fi
    check_inputs
    install_packages
    make_users
    make_folders
    install_release
    write_config
    write_secrets
    write_signers
    install_units
    allow_push
    limit_journal
    [[ ! $with_mosquitto ]] || install_mosquitto
    install_bundle
    start_service
}

# ---- the command line

parse() {
    while (($#)); do
        case $1 in
        --dry-run) dry_run=1 ;;
        --with-mosquitto) with_mosquitto=1 ;;
        --uninstall) uninstall=uninstall ;;
        --bridge) bridge=1 ;;
        --purge) purge=1 ;;
        --instance | --bundle | --signers | --push-user | --mqtt-password-file | --camera-password-file | --wheels | \
            --host | --ssh-config)
            (($# > 1)) || die 2 "$1 needs a value"
            case $1 in
            --instance) instance=$2 ;;
            --bundle) bundle=$2 ;;
            --signers) signers=$2 ;;
            --push-user) push_user=$2 ;;
            --mqtt-password-file) password_file=$2 ;;
            --camera-password-file) camera_password_file=$2 ;;
            --wheels) wheels=$2 ;;
            --host) host=$2 ;;
            --ssh-config) ssh_config=$2 ;;
            esac
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) die 2 "$1: unknown; deploy/install.sh --help" ;;
        esac
        shift
    done
    [[ ! $purge || $uninstall ]] || die 2 "--purge goes with --uninstall"
    [[ $instance =~ ^([A-Za-z0-9][A-Za-z0-9._-]{0,31})?$ ]] ||
        die 2 "--instance: must be 1..32 letters, digits, '.', '_' or '-', got '$instance'"
    [[ $instance != config && $instance != bridge ]] || die 2 "--instance: $instance.toml is a file of another kind"
    [[ ! $bridge || -z $instance$bundle$signers$push_user$camera_password_file$with_mosquitto ]] ||
        die 2 "--bridge goes with --mqtt-password-file, --wheels, --host, --dry-run and --uninstall alone"
    [[ $host =~ ^([A-Za-z0-9_][A-Za-z0-9_.@:%-]*)?$ ]] || die 2 "--host: must be HOST or USER@HOST, got '$host'"
}

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

unit() { echo "edgevision${instance:+@$instance}.service"; }
config() { echo "$CONFIG_DIR/${instance:-config}.toml"; }
state() { echo "$STATE_DIR${instance:+/$instance}"; }
station() { echo "$(hostname | tr -c 'A-Za-z0-9._\n-' '-')${instance:+-$instance}"; }
password() { echo "$CONFIG_DIR/${instance:+$instance-}$1-password"; } # of mqtt or camera

# ---- how steps are done and told

say() { printf '%s\n' "$*"; }
die() {
    local code=$1
    shift
    printf 'error: %s\n' "$*" >&2
    exit "$code"
}

# show COMMAND...: print it, and do it unless this is a dry run
show() {
    printf '  %s\n' "$(printf '%q ' "$@")"
    [[ $dry_run ]] || "$@"
}

# run COMMAND...: the same, and it must succeed
run() { show "$@" || die 1 "failed: $*"; }

# put FILE MODE OWNER: standard input becomes FILE in one step, on the disk before this returns; untouched where it is equal
put() {
    local file=$1 mode=$2 owner=$3 draft
    draft=$(mktemp)
    cat >"$draft"
    if cmp -s "$draft" "$file"; then
        rm -f "$draft"
        return
    fi
    printf '  write %s\n' "$file"
    if [[ ! $dry_run ]]; then
        install -m "$mode" -o "${owner%:*}" -g "${owner#*:}" "$draft" "$file.new" || die 1 "$file: cannot be written"
        sync "$file.new"
        mv -T "$file.new" "$file" || die 1 "$file: cannot be written"
        sync "$(dirname "$file")"
    fi
    rm -f "$draft"
}

# ---- the steps

check_machine() {
    local id version_id machine
    [[ -r /etc/os-release ]] || die 3 "/etc/os-release: not there; Raspberry Pi OS or Debian is needed"
    # shellcheck source=/dev/null
    id=$(source /etc/os-release && echo "$ID ${ID_LIKE:-}")
    # shellcheck source=/dev/null
    version_id=$(source /etc/os-release && echo "${VERSION_ID:-}")
    [[ " $id " == *" debian "* || " $id " == *" raspbian "* ]] || die 3 "must be Raspberry Pi OS or Debian, is ${id%% *}"
    [[ $version_id == 12 || $version_id == 13 ]] ||
        die 3 "must be Bookworm (12) or Trixie (13), is ${version_id:-of unknown version}"
    machine=$(dpkg --print-architecture)
    [[ $machine == arm64 || $machine == amd64 ]] ||
        die 3 "must be a 64-bit system (arm64, or amd64 for trials), is $machine: the interpreter has no 32-bit wheels"
    [[ -d /run/systemd/system ]] || [[ $dry_run ]] || die 3 "systemd must be running"
    [[ -r $ROOT/$(packages) ]] || die 3 "$(packages): not there: no packages are known for this Python and machine"
    say "EdgeVision $(version) on ${id%% *} $version_id, $machine: ${bridge:+the bridge}$([[ $bridge ]] || unit)"
}

packages() { # the exact wheels for the Python and the machine here
    echo "deploy/lock/$PACKAGES-$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')-$(uname -m).txt"
}

version() { sed -n 's/^__version__ = "\(.*\)"/\1/p' "$ROOT/device/__init__.py"; }

check_inputs() {
    local file
    for file in "$bundle/manifest.json" "$signers" "$password_file" "$camera_password_file"; do
        [[ $file == /manifest.json || -z $file || -r $file ]] || die 2 "$file: cannot be read"
    done
    [[ -z $signers ]] || grep -qv '^[[:space:]]*\(#.*\)\?$' "$signers" || die 2 "--signers $signers: names nobody who may sign"
    [[ -z $wheels || -d $wheels ]] || die 2 "--wheels $wheels: must be a folder"
    [[ -z $push_user ]] || id "$push_user" >/dev/null 2>&1 || die 2 "--push-user $push_user: no such user"
    [[ -z $with_mosquitto || -n $password_file || -s $(password mqtt) ]] ||
        die 2 "--with-mosquitto needs --mqtt-password-file: a broker that anybody may use is none"
}

install_packages() {
    local needed=(python3-venv python3-systemd openssh-client) hardware=() name
    [[ $with_mosquitto ]] && needed+=(mosquitto)
    for name in python3-picamera2 python3-gpiozero python3-lgpio; do # where the system has them: not all are in Debian
        apt-cache show "$name" >/dev/null 2>&1 && hardware+=("$name")
    done
    apt_install "${needed[@]}" || die 1 "apt-get could not install these packages"
    ((${#hardware[@]} == 0)) || apt_install "${hardware[@]}" ||
        say "  not installed: a camera module or pins that need them cannot be opened (apt-get update, and run this again)"
}

apt_install() { # PACKAGE...: those that are missing
    local missing=() name
    for name in "$@"; do
        [[ $(dpkg-query -Wf '${Status}' "$name" 2>/dev/null) == 'install ok installed' ]] || missing+=("$name")
    done
    ((${#missing[@]})) || return 0
    say "Packages (to undo: apt-get remove ${missing[*]})"
    show env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
}

make_users() {
    say "User edgevision runs the service; group edgevision-push may hand it bundles"
    run install -d -m 0755 /etc/sysusers.d /etc/tmpfiles.d
    {
        cat "$ROOT/systemd/edgevision.sysusers"
        ! getent group gpio >/dev/null || echo "m edgevision gpio" # the pins, where the system has them
    } | put /etc/sysusers.d/edgevision.conf 0644 root:root
    run systemd-sysusers /etc/sysusers.d/edgevision.conf
}

make_folders() {
    say "Folders"
    put /etc/tmpfiles.d/edgevision.conf 0644 root:root <"$ROOT/systemd/edgevision.tmpfiles"
    run systemd-tmpfiles --create /etc/tmpfiles.d/edgevision.conf
    # Below its own folders the service's user works itself: root could be led elsewhere by a link.
    run "${AS_SERVICE[@]}" mkdir -p -m 0750 "$(state)" "$(state)/models"
}

install_release() {
    local name target
    name="$(version)-$(digest)"
    target=$HOME_DIR/releases/$name
    if [[ -e $target/.complete ]]; then
        say "Program $name is there"
    else
        say "Program $name"
        run rm -rf "$target"
        run install -d -m 0755 "$target"
        copy_program "$target"
        run python3 -m venv --system-site-packages "$target/.venv"
        run "$target/.venv/bin/python" -m pip install -q --disable-pip-version-check --no-cache-dir \
            --require-hashes --only-binary=:all: ${wheels:+--no-index --find-links "$wheels"} -r "$target/$(packages)"
        run env -C "$target" "$target/.venv/bin/python" -m compileall -q device deploy
        run env -C "$target" "$target/.venv/bin/python" -c "import $ENTRANCE" # all that it needs
        run sync
        run touch "$target/.complete"
    fi
    switch_to "$target"
    remove_old_releases
}

digest() { # of what is installed: the same content is the same release
    cd "$ROOT" && find "${PROGRAM[@]}" -type f ! -name '*.pyc' ! -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z |
        xargs -0 sha256sum | sha256sum | cut -c1-8
}

copy_program() { # FOLDER
    printf '  copy %s\n' "${PROGRAM[*]}"
    [[ $dry_run ]] || tar -C "$ROOT" --exclude=__pycache__ -c "${PROGRAM[@]}" | tar -C "$1" --no-same-owner -x ||
        die 1 "$1: cannot be written"
}

switch_to() { # FOLDER: `current` leads to it, from one moment to the next
    [[ $(readlink "$HOME_DIR/current" || true) == "releases/$(basename "$1")" ]] && return
    run ln -sfn "releases/$(basename "$1")" "$HOME_DIR/current.new"
    run mv -T "$HOME_DIR/current.new" "$HOME_DIR/current"
    run sync "$HOME_DIR"
}

remove_old_releases() { # all but the newest; never the one in use
    local old
    [[ -d $HOME_DIR/releases ]] || return 0
    find "$HOME_DIR/releases" -mindepth 1 -maxdepth 1 -type d -printf '%T@ %p\n' | sort -rn | cut -d' ' -f2- |
        tail -n "+$((KEEP_RELEASES + 1))" | while read -r old; do
        [[ $old -ef $HOME_DIR/current ]] || run rm -rf "$old"
    done
}

write_config() {
    local kind=replay
    [[ -e $(config) ]] && say "Configuration $(config) is kept" && return
    say "Configuration"
    python3 -c 'import picamera2' 2>/dev/null && kind=picamera2
    put "$(config)" 0640 root:edgevision <<TOML
# This station. Every key with its meaning and default: $HOME_DIR/current/device/default.toml
# Try it: sudo $HOME_DIR/check${instance:+ $instance}
[station]
name = "$(station)"
state = "$(state)"
runtime = "/run/edgevision${instance:+/$instance}"

[bundle]
path = "$(state)/models"
signers = "${signers:+$CONFIG_DIR/allowed_signers}"

[camera]
kind = "$kind"

[archive]
publish_image_max_bytes = 60000 # a small picture of each defect, for the dashboard

[mqtt]
host = "localhost"
username = "$([[ ! $with_mosquitto && ! $password_file ]] || station)"
TOML
}

write_secrets() { # always there, since the unit loads them; empty: none
    write_secret mqtt "$password_file"
    write_secret camera "$camera_password_file"
}

write_secret() { # KIND FILE
    if [[ $2 ]]; then
        head -n 1 "$2" | put "$(password "$1")" 0600 root:root
    elif [[ ! -e $(password "$1") ]]; then
        put "$(password "$1")" 0600 root:root </dev/null
    fi
}

write_signers() { # and a station that has them asks for signatures: the file alone would say nothing
    [[ $signers ]] || return 0
    say "Who may sign bundles; unsigned ones are refused"
    put "$CONFIG_DIR/allowed_signers" 0644 root:root <"$signers"
    run python3 "$ROOT/deploy/set_key.py" "$(config)" bundle signers "$CONFIG_DIR/allowed_signers"
}

allow_push() { # the one program that a pusher may run, as the service's user; and starting a service that was left down
    local units
    units=$({ unit && installed_units; } | sort -u)
    say "Commands: $HOME_DIR/check tries everything, $HOME_DIR/receive takes bundles from the group edgevision-push"
    put "$HOME_DIR/check" 0755 root:root < <(launcher "device check" "$(with_passwords)")
    put "$HOME_DIR/status" 0755 root:root < <(launcher "device status")
    put "$HOME_DIR/receive" 0755 root:root < <(launcher device.rollout.handover)
    if [[ -d /etc/sudoers.d ]]; then
        put /etc/sudoers.d/edgevision 0440 root:root <<SUDOERS
# deploy/push.sh: take a bundle that lies in $INCOMING (checked and verified there), and start what was left down.
%edgevision-push ALL=(edgevision) NOPASSWD: $HOME_DIR/receive
$(for name in $units; do echo "%edgevision-push ALL=(root) NOPASSWD: /usr/bin/systemctl start $name"; done)
SUDOERS
    fi
    [[ -z $push_user ]] || id -nG "$push_user" | grep -qw edgevision-push || run usermod -aG edgevision-push "$push_user"
}

launcher() { # "MODULE [COMMAND]" [LINES]: a script that runs it for a station, with the program in use
    cat <<SCRIPT
#!/bin/sh
# python -m $1 [--instance NAME] [OPTION...] for a station. Written by deploy/install.sh.
name=config
if [ "\${1:-}" = --instance ]; then
    case \${2:-} in *[!A-Za-z0-9._-]* | .* | '') echo "error: --instance: must be a name, got '\${2:-}'" >&2; exit 2 ;; esac
    name=\$2
    shift 2
fi
${2:-}
cd $HOME_DIR/current && exec .venv/bin/python -m $1 "\$@" --config "$CONFIG_DIR/\$name.toml"
SCRIPT
}

with_passwords() { # check by root: as the service's user, with the passwords that this user cannot read by itself
    cat <<SCRIPT
if [ "\$(id -u)" = 0 ]; then
    case \$name in config) of= ;; *) of=\$name- ;; esac
    exec systemd-run -q --pipe --wait --collect -p User=edgevision -p WorkingDirectory=$HOME_DIR/current \\
        -p "LoadCredential=mqtt-password:$CONFIG_DIR/\${of}mqtt-password" \\
        -p "LoadCredential=camera-password:$CONFIG_DIR/\${of}camera-password" \\
        $HOME_DIR/current/.venv/bin/python -m device check "\$@" --config "$CONFIG_DIR/\$name.toml"
fi
SCRIPT
}

installed_units() { # those of earlier runs, by their configuration files
    local file name
    for file in "$CONFIG_DIR"/*.toml; do
        [[ -e $file && $file != */bridge.toml ]] || continue
        name=$(basename "$file" .toml)
        if [[ $name == config ]]; then echo edgevision.service; else echo "edgevision@$name.service"; fi
    done
}

limit_journal() { # SD cards wear, and fill
    say "Journal: at most 200 MB on the card (to undo: rm /etc/systemd/journald.conf.d/edgevision.conf)"
    run install -d -m 0755 /etc/systemd/journald.conf.d
    put /etc/systemd/journald.conf.d/edgevision.conf 0644 root:root <<'CONF'
# What the log of a station may take, and how often it is written: a power cut loses five minutes of INFO, never an error.
[Journal]
SystemMaxUse=200M
SyncIntervalSec=5m
RateLimitIntervalSec=30s
RateLimitBurst=2000
CONF
}

install_mosquitto() {
    local folder=/etc/mosquitto secret
    say "Broker on this machine (to undo: rm $folder/conf.d/edgevision.conf, systemctl restart mosquitto)"
    put "$folder/conf.d/edgevision.conf" 0644 root:root <"$ROOT/deploy/mosquitto/edgevision.conf"
    printf '  write %s, user %s\n' "$folder/edgevision.passwd" "$(station)"
    if [[ ! $dry_run ]]; then
        secret=$(mktemp -p /run) # 0600, in memory alone; never on a command line, where everybody could read it
        # shellcheck disable=SC2064
        trap "rm -f '$secret'" EXIT
        printf '%s:%s\n' "$(station)" "$(head -n 1 "$(password mqtt)")" >"$secret"
        mosquitto_passwd -U "$secret" || die 1 "$secret: mosquitto_passwd does not take it"
        [[ ! -e $folder/edgevision.passwd ]] || grep -v "^$(station):" "$folder/edgevision.passwd" >>"$secret" || true
        put "$folder/edgevision.passwd" 0600 mosquitto:root <"$secret"
        rm -f "$secret"
    fi
    put "$folder/edgevision.acl" 0644 root:root < <(access_rules "$folder/edgevision.passwd")
    say "  more users, as $folder/edgevision.acl names them: mosquitto_passwd $folder/edgevision.passwd dashboard"
    run systemctl enable --now mosquitto
    run systemctl restart mosquitto
}

access_rules() { # PASSWORDS: those of the repository, and one for each station whose name has a dot (see there)
    local name
    cat "$ROOT/deploy/mosquitto/acl"
    [[ -r $1 ]] || return 0
    cut -d: -f1 "$1" | grep -F . | sort -u | while read -r name; do
        printf '\nuser %s\ntopic write homeassistant/device/%s/config\n' "$name" "${name//./_}"
    done || true
}

install_units() {
    local name
    say "Service $(unit), and edgevision-receive.socket for the bundles that are pushed"
    keep_networks
    for name in "${UNITS[@]}"; do
        put "/etc/systemd/system/$name" 0644 root:root <"$ROOT/systemd/$name"
    done
    run systemctl daemon-reload
    run systemctl enable -q "$(unit)"
    run systemctl enable -q --now edgevision-receive.socket
}

keep_networks() { # of stations from before the unit named any: their broker may be on the Internet
    local installed=/etc/systemd/system/edgevision.service name
    [[ -e $installed ]] && ! grep -q '^IPAddressDeny=' "$installed" || return 0
    for name in $(installed_units); do
        run install -d -m 0755 "/etc/systemd/system/$name.d"
        put "/etc/systemd/system/$name.d/network.conf" 0644 root:root <<'CONF'
# This station is from before the unit named networks, and speaks with every address as it did. Fewer are safer: take this
# file away for the private networks alone, or see /opt/edgevision/current/systemd/network.conf.
[Service]
IPAddressAllow=any
CONF
    done
}

install_bundle() { # as deploy/push.sh would: checked, and signed where the station asks for that
    [[ $bundle ]] || return 0
    local source draft
    source=$(readlink -f "$bundle")
    draft=$STAGING/$(basename "$source")
    say "Bundle $(basename "$source")"
    run rm -rf "$draft"
    run cp -rP --no-preserve=mode,ownership "$source" "$draft" # links stay links, which the station refuses
    run chmod -R g+rX,o= "$draft"
    run env SUDO_USER=root EDGEVISION_INCOMING="$STAGING" "${AS_SERVICE[@]}" \
        "$HOME_DIR/receive" ${instance:+--instance "$instance"} install "$(basename "$draft")" --frames 0
    run rm -rf "$draft"
}

start_service() {
    say "Start"
    if [[ $dry_run ]]; then
        run systemctl restart "$(unit)"
    elif ! systemctl restart "$(unit)"; then
        journalctl -u "$(unit)" -n 12 --no-pager -o cat >&2 || true
        say "Installed; the service does not get ready yet (see above). What is missing: $HOME_DIR/check"
        exit 4
    fi
    say "Done. Look: $HOME_DIR/status; to undo: deploy/install.sh --uninstall${instance:+ --instance $instance}"
}

# ---- the bridge, which has a folder, a user and a unit of its own

become_bridge() {
    HOME_DIR=/opt/edgevision-bridge PACKAGES=bridge ENTRANCE=deploy.bridge.bridge
    PROGRAM=(device deploy/bridge deploy/lock docs LICENSE README.md CHANGELOG.md)
}

install_bridge() {
    local source=$ROOT/deploy/bridge/edgevision-bridge name
    check_inputs
    apt_install python3-venv python3-systemd || die 1 "apt-get could not install these packages"
    say "User edgevision-bridge, folders"
    run install -d -m 0755 /etc/sysusers.d /etc/tmpfiles.d
    put /etc/sysusers.d/edgevision-bridge.conf 0644 root:root <"$source.sysusers"
    run systemd-sysusers /etc/sysusers.d/edgevision-bridge.conf
    put /etc/tmpfiles.d/edgevision-bridge.conf 0644 root:root <"$source.tmpfiles"
    run systemd-tmpfiles --create /etc/tmpfiles.d/edgevision-bridge.conf
    install_release
    write_bridge_config
    for name in bridge-mqtt-password bridge-http-token bridge-webhook-secret; do # the unit loads them; empty: none
        [[ -e $CONFIG_DIR/$name ]] || put "$CONFIG_DIR/$name" 0600 root:root </dev/null
    done
    [[ ! $password_file ]] || head -n 1 "$password_file" | put "$CONFIG_DIR/bridge-mqtt-password" 0600 root:root
    put /etc/systemd/system/edgevision-bridge.service 0644 root:root <"$source.service"
    run systemctl daemon-reload
    run systemctl enable -q edgevision-bridge.service
    run systemctl restart edgevision-bridge.service
    say "Done. Its languages are yours to enable in $CONFIG_DIR/bridge.toml; to undo: deploy/install.sh --bridge --uninstall"
}

write_bridge_config() {
    [[ -e $CONFIG_DIR/bridge.toml ]] && say "Configuration $CONFIG_DIR/bridge.toml is kept" && return
    say "Configuration"
    put "$CONFIG_DIR/bridge.toml" 0640 root:edgevision-bridge <<TOML
# The bridge. Every key with its meaning and default: $HOME_DIR/current/deploy/bridge/default.toml
[mqtt]
host = "localhost"
username = "${password_file:+bridge}"

[metrics]
enabled = true # http://127.0.0.1:9108/metrics
TOML
}

uninstall_bridge() {
    say "The bridge"
    systemctl cat edgevision-bridge.service >/dev/null 2>&1 && run systemctl disable -q --now edgevision-bridge.service
    run rm -rf "$HOME_DIR" /etc/systemd/system/edgevision-bridge.service /etc/tmpfiles.d/edgevision-bridge.conf \
        /etc/sysusers.d/edgevision-bridge.conf
    run systemctl daemon-reload
    if [[ $purge ]]; then
        run rm -rf "$CONFIG_DIR"/bridge.toml "$CONFIG_DIR"/bridge-* /var/lib/edgevision-bridge
        ! getent passwd edgevision-bridge >/dev/null || run userdel edgevision-bridge
    else
        say "Kept: $CONFIG_DIR/bridge.toml, its secrets and /var/lib/edgevision-bridge (--purge takes them too)"
    fi
}

# ---- the way back, and the way over ssh

uninstall() {
    local name
    for name in $(if [[ $instance ]]; then unit; else printf 'edgevision.service %s' "$(installed_units)"; fi); do
        say "Service $name"
        systemctl cat "$name" >/dev/null 2>&1 && run systemctl disable -q --now "$name"
    done
    if [[ $instance ]]; then
        [[ ! $purge ]] || purge_instance
        return 0
    fi
    say "Program, units, rules"
    ! systemctl cat edgevision-receive.socket >/dev/null 2>&1 || run systemctl disable -q --now edgevision-receive.socket
    run rm -rf "$HOME_DIR" "$INCOMING" /etc/sudoers.d/edgevision /etc/systemd/journald.conf.d/edgevision.conf \
        "${UNITS[@]/#//etc/systemd/system/}" /etc/tmpfiles.d/edgevision.conf /etc/sysusers.d/edgevision.conf \
        /etc/mosquitto/conf.d/edgevision.conf
    run systemctl daemon-reload
    if [[ $purge ]]; then
        say "Configuration, models, images, users"
        run rm -rf /etc/systemd/system/edgevision{,@*}.service.d/network.conf
        if [[ -d $CONFIG_DIR ]]; then # without what belongs to the bridge
            run find "$CONFIG_DIR" -mindepth 1 ! -name 'bridge[.-]*' -delete
            run rmdir --ignore-fail-on-non-empty "$CONFIG_DIR"
        fi
        run rm -rf "$STATE_DIR" /etc/mosquitto/edgevision.acl /etc/mosquitto/edgevision.passwd
        ! getent passwd edgevision >/dev/null || run userdel edgevision
        ! getent group edgevision-push >/dev/null || run groupdel edgevision-push
    else
        say "Kept: $CONFIG_DIR, $STATE_DIR and the user (--purge takes them too), and all packages"
    fi
}

purge_instance() { # its state lies in a folder of the service's user
    run rm -f "$(config)" "$(password mqtt)" "$(password camera)"
    ! getent passwd edgevision >/dev/null || run "${AS_SERVICE[@]}" rm -rf "$(state)"
}

# install_over_ssh ARGUMENT...: carry this checkout and the files that are named there, and run this script
install_over_ssh() {
    local arguments=() value
    remote=$(there mktemp -d) || die 1 "$host: cannot be reached by ssh"
    [[ $remote =~ ^/[A-Za-z0-9/_.-]{1,100}$ ]] || die 1 "$host: must name a new folder (mktemp -d), and does not"
    trap 'there rm -rf "$remote"' EXIT
    tar -C "$ROOT" --exclude=__pycache__ -cz "${PROGRAM[@]}" deploy/install.sh deploy/set_key.py deploy/bridge | there tar -C "$remote" -xz
    while (($#)); do
        case $1 in
        --host | --ssh-config) shift ;;
        --bundle | --signers | --mqtt-password-file | --camera-password-file | --wheels)
            value=$(readlink -f "$2") || die 2 "$1 $2: no such file or folder"
            tar -C "$(dirname "$value")" -cz "$(basename "$value")" | there "umask 077 && tar -C $remote -xz"
            arguments+=("$1" "$remote/$(basename "$value")")
            shift
            ;;
        *) arguments+=("$1") ;;
        esac
        shift
    done
    there sudo -n "$remote/deploy/install.sh" "${arguments[@]@Q}"
}

there() { ssh -o BatchMode=yes -o ConnectTimeout=10 ${ssh_config:+-F "$ssh_config"} -- "$host" "$@"; }

main "$@"
