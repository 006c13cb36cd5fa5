"""The device's command line: python -m device COMMAND; `--help` lists them.

Exit codes are those of device/errors.py; besides, 130 is an interruption (Ctrl-C) and 141 a reader that went
away (`python -m device inspect ... | head`).
"""

from __future__ import annotations

import argparse
import getpass
import io
import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

from device.errors import EdgeVisionError

CONFIG_PATH = Path("/etc/edgevision/config.toml")
INTERRUPTED = 130
BROKEN_PIPE = 141


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit code; argparse ends with 2 by itself."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a file name that is not UTF-8 is printed as it is
    try:
        exit_code: int = options.command(options)
        sys.stdout.flush()
    except EdgeVisionError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to flush at exit
        return BROKEN_PIPE
    return exit_code


class _Version(argparse.Action):
    """--version; what it tells is asked for when it is."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from device.system import version

        print(version.described())
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m device", description="Visual inspection at the edge.")
    parser.add_argument("--version", action=_Version, nargs=0, help="the version and its commit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="inspect what the camera sees and publish the verdicts")
    check = commands.add_parser("check", help="try everything that `run` needs, and say how to mend it")
    status = commands.add_parser("status", help="what the running service says of itself; its exit code too")
    status.add_argument("--json", action="store_true", help="all of it, for programs")
    review = commands.add_parser("review", help="record what a person says of a verdict, and keep its image")
    review.add_argument("event_id", metavar="EVENT", help="its id as in the verdict, or enough of it")
    review.add_argument("--label", required=True, choices=("ok", "ng", "unsure"), help="what the part is")
    review.add_argument("--by", metavar="NAME", help="who says so; default: the name of the login")
    review.add_argument("--note", default="", metavar="TEXT", help="why, or whatever may help later")
    show = commands.add_parser(
        "show", help="print what was said of an event that was kept, and by which model"
    )
    show.add_argument(
        "event", metavar="EVENT", help="its id as in the verdict, or enough of it, as 5e551040-12"
    )
    show.add_argument(
        "--annotate", type=Path, metavar="DIR", help="write its picture with the regions drawn in"
    )
    export = commands.add_parser("export", help="write reviewed images as a data set for the trainer")
    export.add_argument(
        "--reviewed", type=Path, required=True, metavar="DIR", help="folder to make; it must not exist"
    )
    export.add_argument(
        "--apart",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="images of a freely running camera less than this apart are of one group; default: %(default)g",
    )
    activate = commands.add_parser("activate", help="make a bundle the one in use")
    activate.add_argument(
        "bundle", metavar="NAME", help="the folder of a bundle in [bundle] path, by its name or its path"
    )
    rollback = commands.add_parser("rollback", help="make the bundle before this one the one in use")
    for command, function in (
        (run, _run),
        (check, _check),
        (status, _status),
        (activate, _activate),
        (rollback, _rollback),
        (review, _review),
        (show, _show),
        (export, _export),
    ):
        command.add_argument(
            "--config", type=Path, default=CONFIG_PATH, metavar="FILE", help="default: %(default)s"
        )
        command.set_defaults(command=function)
    inspect = commands.add_parser("inspect", help="print verdicts on image files")
    inspect.add_argument(
        "images", type=Path, nargs="+", metavar="IMG", help="an image, or a folder of images"
    )
    inspect.add_argument(
        "--bundle", type=Path, required=True, metavar="DIR", help="the bundle to inspect with"
    )
    inspect.add_argument("--json", action="store_true", help="one verdict a line, as it goes to MQTT")
    inspect.add_argument(
        "--annotate", type=Path, metavar="DIR", help="write pictures with the regions drawn in"
    )
    inspect.add_argument(
        "--heat-map", action="store_true", help="with --annotate: pictures of the evidence as well"
    )
    inspect.set_defaults(command=_inspect, fail=inspect.error)
    _add_receive(commands)
    _add_learn(commands)
    _add_retake(commands)
    _add_aim(commands)
    _add_adapt(commands)
    verify = commands.add_parser("verify", help="compare a bundle with its manifest, and print where it lies")
    verify.add_argument(
        "bundle", type=Path, metavar="DIR", help="a bundle, or a folder whose `current` leads to it"
    )
    verify.set_defaults(command=_verify)
    bench = commands.add_parser("bench", help="time a bundle on this machine")
    bench.add_argument("--bundle", type=Path, required=True, metavar="DIR", help="the bundle to time")
    bench.add_argument(
        "--threads", type=int, metavar="N", help="of the interpreter; default: one a core, 4 at most"
    )
    bench.add_argument("--frames", type=int, default=200, metavar="N", help="default: %(default)s")
    bench.add_argument("--json", action="store_true", help="one JSON object")
    bench.set_defaults(command=_bench)
    return parser


def _add_receive(commands: Any) -> None:
    receive = commands.add_parser("receive", help="the station's end of deploy/push.sh: docs/guide/push.md")
    receive.add_argument("action", choices=("install", "rollback", "status", "list", "verify"))
    receive.add_argument(
        "name", nargs="?", default="", help="of the bundle to install, in the caller's folder"
    )
    receive.add_argument("--frames", type=int, default=5, help="live frames to judge; default: %(default)s")
    receive.add_argument("--wait", type=float, default=60.0, metavar="S", help="default: %(default)s")
    receive.add_argument("--json", action="store_true", help="one JSON object")
    receive.add_argument(
        "--config", type=Path, default=CONFIG_PATH, metavar="FILE", help="default: %(default)s"
    )
    receive.set_defaults(command=_receive)
    serve = commands.add_parser("serve-receive", help="`receive` for edgevision-receive@.service")
    serve.set_defaults(command=_serve_receive)


def _add_adapt(commands: Any) -> None:
    adapt = commands.add_parser("adapt", help="re-centre the bundle at work on good parts")
    adapt.add_argument("--images", type=Path, metavar="DIR", help="good parts, in place of the camera's")
    adapt.add_argument("--count", type=int, default=30, metavar="N", help="frames; default: %(default)s")
    adapt.add_argument(
        "--interval", type=float, default=1.0, metavar="S", help="seconds between two; default: %(default)s"
    )
    adapt.add_argument(
        "--known",
        type=Path,
        metavar="DIR",
        help="parts of known truth, good/ and bad/; default: <state>/known",
    )
    adapt.add_argument(
        "--false-rejects", type=float, default=0.01, metavar="R", help="wanted; default: %(default)s"
    )
    adapt.add_argument("--out", type=Path, metavar="DIR", help="where it goes; default: [bundle] path")
    adapt.add_argument(
        "--config", type=Path, default=CONFIG_PATH, metavar="FILE", help="default: %(default)s"
    )
    adapt.set_defaults(command=_adapt)


def _add_learn(commands: Any) -> None:
    learn = commands.add_parser("learn", help="learn good parts from the camera: docs/guide/good_only.md")
    learn.add_argument("--images", type=Path, metavar="DIR", help="learn from these in place of the camera's")
    learn.add_argument("--count", type=int, default=100, metavar="N", help="frames; default: %(default)s")
    learn.add_argument(
        "--interval", type=float, default=1.0, metavar="S", help="between two frames; default: %(default)g s"
    )
    learn.add_argument(
        "--false-rejects",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="of good parts that may be NG; default: %(default)g",
    )
    learn.add_argument(
        "--starter", type=Path, metavar="DIR", help="whose model sees; default: the one in use"
    )
    learn.add_argument("--name", default="", help="of the new bundle; default: <station>-learned")
    learn.add_argument("--out", type=Path, metavar="DIR", help="where it goes; default: [bundle] path")
    learn.add_argument(
        "--config", type=Path, default=CONFIG_PATH, metavar="FILE", help="default: %(default)s"
    )
    learn.set_defaults(command=_learn)


def _add_retake(commands: Any) -> None:
    retake = commands.add_parser("retake", help="golden and drift reference anew, from good parts")
    retake.add_argument("--images", type=Path, metavar="DIR", help="take these in place of the camera's")
    retake.add_argument("--count", type=int, default=40, metavar="N", help="frames; default: %(default)s")
    retake.add_argument(
        "--interval", type=float, default=1.0, metavar="S", help="between two frames; default: %(default)g s"
    )
    retake.add_argument("--out", type=Path, metavar="DIR", help="where it goes; default: [bundle] path")
    retake.add_argument(
        "--config", type=Path, default=CONFIG_PATH, metavar="FILE", help="default: %(default)s"
    )
    retake.set_defaults(command=_retake)


def _add_aim(commands: Any) -> None:
    aim = commands.add_parser("aim", help="a page to focus, light and frame the camera: docs/guide/aim.md")
    aim.add_argument("--host", default="127.0.0.1", help="address of the page; default: %(default)s")
    aim.add_argument("--port", type=int, default=0, help="default: a free one")
    aim.add_argument("--minutes", type=float, default=30.0, help="then it ends; default: %(default)g")
    snapshot = commands.add_parser("snapshot", help="one picture of the camera into a file")
    snapshot.add_argument("file", type=Path, metavar="FILE", help="to be written: .png or .jpg")
    for command, function in ((aim, _aim), (snapshot, _snapshot)):
        command.add_argument("--beside", action="store_true", help="also while the service runs")
        command.add_argument(
            "--config", type=Path, default=CONFIG_PATH, metavar="FILE", help="default: %(default)s"
        )
        command.set_defaults(command=function)


def _run(options: argparse.Namespace) -> int:
    from device import config, service
    from device.telemetry import journal

    loaded = config.load(options.config)
    journal.start(loaded.log_level, loaded.runtime)
    try:
        service.run(loaded)
    except EdgeVisionError as error:
        if not journal.is_used():
            raise
        logging.getLogger("device").critical("%s", error)  # within its budget: systemd starts it again
        return error.exit_code
    return 0


def _check(options: argparse.Namespace) -> int:
    from device.cli import check

    _log_to_stderr("warning")
    return check.check(options.config)


def _status(options: argparse.Namespace) -> int:
    from device import config
    from device.telemetry import status

    return status.status(config.load(options.config).runtime, as_json=options.json)


def _inspect(options: argparse.Namespace) -> int:
    from device.cli import inspect

    if options.heat_map and options.annotate is None:
        options.fail("--heat-map: needs --annotate DIR, where the pictures go")
    _log_to_stderr("warning")
    return inspect.inspect_images(
        options.images,
        options.bundle,
        as_json=options.json,
        annotated=options.annotate,
        heat_maps=options.heat_map,
    )


def _review(options: argparse.Namespace) -> int:
    from device import config
    from device.archive import review

    station = config.load(options.config)
    done = review.review(
        station.state,
        options.event_id,
        options.label,
        options.by or _login(),
        options.note,
        most_pinned_bytes=station.archive.most_pinned_bytes,
    )
    before = f" (before: {done.previous.label}, by {done.previous.by})" if done.previous else ""
    print(f"{done.review.event_id}: {done.review.label}, by {done.review.by}{before}; {done.image} is kept")
    return 0


def _show(options: argparse.Namespace) -> int:
    from device import config
    from device.cli import show

    return show.show(config.load(options.config), options.event, options.annotate)


def _login() -> str:
    """Who sits there: of `sudo`, who called it."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return str(os.getuid())


def _export(options: argparse.Namespace) -> int:
    from device import config
    from device.archive import reviewed_set

    _log_to_stderr("warning")
    print(reviewed_set.export(config.load(options.config).state, options.reviewed, options.apart))
    return 0


def _receive(options: argparse.Namespace) -> int:
    from device import config
    from device.rollout import receiver

    _log_to_stderr("warning")
    gate = receiver.Gate(options.frames, options.wait)
    result = receiver.receive(config.load(options.config), options.action, options.name, gate)
    print(json.dumps(result) if options.json else result["text"])
    return 0


def _serve_receive(options: argparse.Namespace) -> int:
    from device.rollout import handover

    handover.serve(lambda arguments: main(["receive", *arguments]))
    return 0


def _learn(options: argparse.Namespace) -> int:
    from device import config
    from device.learning import learn
    from device.learning.collect import CollectionPlan

    _log_to_stderr("warning")
    wanted = learn.LearnOptions(
        images=options.images,
        starter=options.starter,
        out=options.out,
        name=options.name,
        plan=CollectionPlan(options.count, options.interval),
        false_rejects=options.false_rejects,
    )
    return learn.learn(config.load(options.config), wanted)


def _retake(options: argparse.Namespace) -> int:
    from device import config
    from device.learning import retake
    from device.learning.collect import CollectionPlan

    _log_to_stderr("warning")
    asked = retake.RetakeOptions(options.images, options.out, CollectionPlan(options.count, options.interval))
    return retake.retake(config.load(options.config), asked)


def _aim(options: argparse.Namespace) -> int:
    from device import config
    from device.aim import aim

    _log_to_stderr("warning")
    asked = aim.AimOptions(options.host, options.port, options.minutes, options.beside)
    return aim.aim(config.load(options.config), asked)


def _snapshot(options: argparse.Namespace) -> int:
    from device import config
    from device.aim import snapshot

    _log_to_stderr("warning")
    return snapshot.snapshot(config.load(options.config), options.file, beside=options.beside)


def _adapt(options: argparse.Namespace) -> int:
    from device import config
    from device.learning import adapt
    from device.learning.collect import CollectionPlan

    _log_to_stderr("warning")
    wanted = adapt.AdaptOptions(
        images=options.images,
        known=options.known,
        out=options.out,
        plan=CollectionPlan(options.count, options.interval),
        false_rejects=options.false_rejects,
    )
    return adapt.adapt(config.load(options.config), wanted)


def _verify(options: argparse.Namespace) -> int:
    from device.bundle import bundle

    print(bundle.load(options.bundle).path)
    return 0


def _activate(options: argparse.Namespace) -> int:
    from device.rollout import activation

    return activation.activate(options.config, options.bundle)


def _rollback(options: argparse.Namespace) -> int:
    from device.rollout import activation

    return activation.rollback(options.config)


def _bench(options: argparse.Namespace) -> int:
    from device.cli import bench

    _log_to_stderr("warning")
    return bench.bench(options.bundle, options.threads, options.frames, as_json=options.json)


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def _leave(exit_code: int) -> None:
    """End. A thread that still runs had its time and hangs (in a camera's driver, say): it is left behind."""
    if threading.active_count() > 1:
        logging.shutdown()
        sys.stderr.flush()
        os._exit(exit_code)
    sys.exit(exit_code)


if __name__ == "__main__":
    _leave(main())
