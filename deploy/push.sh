#!/usr/bin/env bash
# Ships a model to stations, and takes it back where it does not do well.
#
# Usage: deploy/push.sh push [OPTION...] BUNDLE HOST...   check and sign BUNDLE here, upload it, have each station try it
#        deploy/push.sh rollback [OPTION...] HOST...      back to the model before, tried in the same way
#        deploy/push.sh status|list|verify [OPTION...] HOST...   what runs; what is there; is all of it whole and signed
#
#   --key FILE         the SSH key that signs (push; default: $EDGEVISION_KEY). A bundle that is signed already needs none
#   --instance NAME    of a station with several cameras (edgevision@NAME)
#   --frames N         live frames that the new model must judge before it is trusted (default 5; 0 where no parts come now)
#   --wait SECONDS     how long it has for that (default 60)
#   --parallel N       stations at a time, after the first one (default 8)
#   --json             one JSON object on standard output: {"action", "ok", "hosts": [{"host", "ok", "code", ...}]}
#   --ssh-config FILE  for ssh, rsync and sftp (ssh -F)
#
# The first HOST is the canary: the others are begun when it has taken the model, at most N at a time, and none is begun
# after a failure. HOST is what ssh takes; the user there is in the group edgevision-push (install.sh --push-user). The
# station checks everything again, its signature too, and switches in one step; it alone decides that the model is good
# (golden images, time for a frame, live frames) and goes back by itself if it is not, also when this command is gone.
# An upload that was cut off goes on where it stopped when the command is given again.
#
# Exit codes (the first failure's): 0 done on every HOST; 1 unexpected; 2 wrong command line; 3 the station's
# configuration is wrong; 4 the bundle is wrong, or older than the one in use; 9 the station's disk does not take it;
# 13 unsigned, or signed by nobody who may; 14 somebody else is changing the station's model; 15 the station went back to
# the model before; 16 HOST cannot be reached, or the upload was cut off; 17 it has the model, and its service does not run.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
INCOMING=/var/lib/edgevision-incoming
RECEIVE=/opt/edgevision/receive
NAMESPACE=edgevision-model
UNREACHABLE=16
NOT_RUNNING=17

action='' bundle='' key=${EDGEVISION_KEY:-} instance='' frames=5 wait_s=60 parallel=8 json='' ssh_config=''
hosts=()
work=''

main() {
    parse "$@"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    if [[ $action == push ]]; then
        check_bundle
        sign_bundle
    fi
    on_every_host
    report
}

parse() {
    local positional=()
    while (($#)); do
        case $1 in
        --json) json=1 ;;
        --key | --instance | --frames | --wait | --parallel | --ssh-config)
            (($# > 1)) || die 2 "$1 needs a value"
            case $1 in
            --key) key=$2 ;;
            --instance) instance=$2 ;;
            --frames) frames=$2 ;;
            --wait) wait_s=$2 ;;
            --parallel) parallel=$2 ;;
            --ssh-config) ssh_config=$2 ;;
            esac
            shift
            ;;
        -h | --help)
            sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        -*) die 2 "$1: unknown; deploy/push.sh --help" ;;
        *) positional+=("$1") ;;
        esac
        shift
    done
    set -- "${positional[@]}"
    (($#)) || die 2 "one of push, rollback, status, list, verify is needed; deploy/push.sh --help"
    action=$1
    shift
    case $action in
    push)
        (($#)) || die 2 "push needs a bundle and a host"
        bundle=$1
        shift
        ;;
    rollback | status | list | verify) ;;
    *) die 2 "$action: must be push, rollback, status, list or verify" ;;
    esac
    (($#)) || die 2 "$action needs a host"
    hosts=("$@")
    local host value
    for host in "${hosts[@]}"; do
        [[ $host =~ ^[A-Za-z0-9_][A-Za-z0-9_.@:%-]*$ ]] || die 2 "host: must be HOST or USER@HOST, got '$host'"
    done
    for value in "--frames $frames" "--wait $wait_s" "--parallel $parallel"; do
        [[ ${value#* } =~ ^[0-9]{1,4}$ ]] || die 2 "${value%% *}: must be a whole number, got '${value#* }'"
    done
    ((parallel >= 1)) || die 2 "--parallel: must be at least 1"
    [[ $instance =~ ^([A-Za-z0-9][A-Za-z0-9._-]{0,31})?$ ]] || die 2 "--instance: must be a name, got '$instance'"
    [[ -z $key || -r $key ]] || die 2 "--key $key: cannot be read"
    [[ -z $ssh_config || -r $ssh_config ]] || die 2 "--ssh-config $ssh_config: cannot be read"
}

say() { printf '%s\n' "$*" >&2; } # standard output is for the result
die() {
    local code=$1
    shift
    printf 'error: %s\n' "$*" >&2
    exit "$code"
}

# ---- here

check_bundle() {
    bundle=$(cd "$ROOT" && PYTHONPATH=$ROOT "$(python)" -m device verify "$(absolute "$bundle")") || exit 4
    say "bundle $(basename "$bundle"): every file as its manifest says"
}

python() { if [[ -x $ROOT/.venv/bin/python ]]; then echo "$ROOT/.venv/bin/python"; else echo python3; fi; }
absolute() { if [[ $1 == /* ]]; then echo "$1"; else echo "$PWD/$1"; fi; }

sign_bundle() { # with the key; the signature appears whole or not at all
    local signature=$bundle/manifest.json.sig
    if [[ -z $key ]]; then
        [[ -e $signature ]] || say "bundle is not signed (--key): stations that ask for signatures will refuse it"
        return 0
    fi
    ssh-keygen -q -Y sign -f "$key" -n "$NAMESPACE" <"$bundle/manifest.json" >"$work/sig" 2>"$work/sign.log" ||
        die 13 "$key: cannot sign: $(<"$work/sign.log")"
    mv "$work/sig" "$signature"
}

# ---- there

# on_every_host: the first one alone; then the others, none after a failure. Leaves $work/N.code and N.out for each
on_every_host() {
    local at running=0
    one_host 0
    for ((at = 1; at < ${#hosts[@]}; at++)); do
        if ((running >= parallel)); then
            wait -n || true
            running=$((running - 1))
        fi
        ! failed || [[ $action != push && $action != rollback ]] || break
        one_host "$at" &
        running=$((running + 1))
    done
    wait
}

failed() {
    local code
    for code in "$work"/*.code; do [[ $(<"$code") == 0 ]] || return 0; done
    return 1
}

one_host() { # AT
    local code=0
    act "${hosts[$1]}" >"$work/$1.out" 2>"$work/$1.err" || code=$?
    ((code != 255)) || code=$UNREACHABLE # ssh's own
    if ((code)); then
        say "${hosts[$1]}: FAILED ($code): $(sed 's/^error: //' "$work/$1.err" | tail -n 3)"
    else
        say "${hosts[$1]}: $(python3 -c 'import json, sys; print(json.load(sys.stdin)["text"])' <"$work/$1.out")"
    fi
    echo "$code" >"$work/$1.code.new"
    mv "$work/$1.code.new" "$work/$1.code"
}

act() { # HOST: one JSON object on standard output
    case $action in
    push) push_to "$1" ;;
    rollback) receive "$1" rollback --frames "$frames" --wait "$wait_s" ;;
    *) receive "$1" "$action" ;;
    esac
}

push_to() { # HOST
    local name folder
    name=$(basename "$bundle")
    folder=$(remote "$1" "umask 007; d=$INCOMING/\$(id -un); mkdir -p -- \"\$d\" && echo \"\$d\"") || return
    upload "$1" "$folder/$name" || return "$UNREACHABLE"
    receive "$1" install "$name" --frames "$frames" --wait "$wait_s" || return
    remote "$1" "rm -rf -- '$folder/$name'" || true
    run_what_was_left_down "$1"
}

receive() { # HOST ARGUMENT...
    local host=$1
    shift
    remote "$host" "sudo -n -u edgevision $RECEIVE ${instance:+--instance $instance} $* --json"
}

run_what_was_left_down() { # HOST: a service without a bundle, or with a bad one, has ended and waits for a person
    local unit=edgevision${instance:+@$instance}.service
    remote "$1" "systemctl is-active -q $unit || sudo -n systemctl start $unit" >&2 || {
        echo "error: $unit does not get ready (journalctl -u $unit)" >&2
        return "$NOT_RUNNING"
    }
}

upload() { # HOST FOLDER
    local shell
    shell="ssh $(printf '%q ' "${SSH_OPTIONS[@]}" ${ssh_config:+-F "$ssh_config"})"
    if command -v rsync >/dev/null && remote "$1" 'command -v rsync' >/dev/null; then
        rsync -rtp --partial --delete --chmod=D2770,F640 --timeout=60 -e "$shell" -- "$bundle/" "$1:$2/" >&2
    else
        say "$1: no rsync; by sftp"
        upload_by_sftp "$1" "$2"
    fi
}

upload_by_sftp() { # HOST FOLDER: goes on with a file that is there in part
    local size file folders
    local -A there=()
    folders=$(cd "$bundle" && find . -type d -printf "'$2/%P' ")
    while read -r size file; do there[$file]=$size; done < <(
        remote "$1" "umask 007; mkdir -p -- $folders && find '$2' -type f -printf '%s %P\\n'"
    )
    (cd "$bundle" && find . -type f -printf '%s %P\n') | while read -r size file; do
        ((${there[$file]:-$size} < size)) && printf 're' # reput: what is there is its beginning
        printf 'put "%s" "%s"\n' "$bundle/$file" "$2/$file"
    done | sftp -q "${SSH_OPTIONS[@]}" ${ssh_config:+-F "$ssh_config"} -b - "$1" >&2
}

SSH_OPTIONS=(-o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=5 -o ServerAliveCountMax=3)

remote() { # HOST COMMAND
    ssh "${SSH_OPTIONS[@]}" ${ssh_config:+-F "$ssh_config"} -- "$1" "$2"
}

# ---- the result

report() {
    local at code=0 first=0
    for at in "${!hosts[@]}"; do
        code=$(cat "$work/$at.code" 2>/dev/null || echo skipped)
        [[ $code != skipped ]] || say "${hosts[$at]}: not tried"
        [[ $first != 0 || $code == skipped || $code == 0 ]] || first=$code
    done
    [[ ! $json ]] || as_json "$first"
    exit "$first"
}

as_json() { # CODE
    python3 - "$action" "$1" "$work" "${hosts[@]}" <<'PYTHON'
import json, pathlib, sys

action, code, work, *hosts = sys.argv[1:]
found = []
for at, host in enumerate(hosts):
    file = pathlib.Path(work, str(at))
    ended = file.with_suffix(".code")
    if not ended.exists():
        found.append({"host": host, "ok": False, "code": None, "reason": "not tried"})
        continue
    number = int(ended.read_text())
    entry = {"host": host, "ok": number == 0, "code": number}
    if number:
        entry["reason"] = file.with_suffix(".err").read_text("utf-8", "replace").strip()
    else:
        entry |= json.loads(file.with_suffix(".out").read_text())
    found.append(entry)
print(json.dumps({"action": action, "ok": code == "0", "hosts": found}))
PYTHON
}

main "$@"
