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
#   --ssh-config FILE  for ssh (ssh -F)
#
# The first HOST is the canary: the others are begun when it has taken the model, at most N at a time, and none is begun
# after a failure. HOST is what ssh takes; the user there is in the group edgevision-push (install.sh --push-user). The
# station checks everything again, its signature too, and switches in one step; it alone decides that the model is good
# (golden images, time for a frame, live frames) and goes back by itself if it is not, also when this command is gone.
# An upload that was cut off goes on where it stopped when the command is given again. No station is trusted: what one says
# is never run or obeyed here (deploy/push.py does the work).
#
# Exit codes (the first failure's): 0 done on every HOST; 1 unexpected, or an answer that cannot be understood; 2 wrong
# command line; 3 the station's configuration is wrong; 4 the bundle is wrong, or older than one that was accepted there; 9
# the station's disk does not take it; 13 unsigned, or signed by nobody who may; 14 somebody else is changing the station's
# model; 15 the station went back to the model before; 16 HOST cannot be reached, or the upload was cut off; 17 it has the
# model, and its service does not run.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

main() {
    local argument
    for argument in "$@"; do
        if [[ $argument == -h || $argument == --help ]]; then
            sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
            exit 0
        fi
    done
    exec python3 -I "$ROOT/deploy/push.py" "$@"
}

main "$@"
