"""The dashboard in a real headless Chromium against a real Mosquitto."""

from __future__ import annotations

import hashlib
import json
import re
import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import cv2
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from fixtures_broker import Broker, free_port
from fixtures_daemon import REPOSITORY
from fixtures_dashboard import PHONE, WIDE, Dashboard, Talker, heap, heat, picture, stored
from playwright.sync_api import expect

from benchmarks.simulated import SimulatedStation, compact
from deploy.serve import serving

PAGE = REPOSITORY / "deploy" / "dashboard"
FRAME = {"w": 128, "h": 128, "sha256": None, "path": None}
UNREACHABLE = "WebSocket connection to"  # Chromium's own line; no page can keep it from being written


def card(page: Any, name: str) -> Any:
    return page.get_by_role("article", name=name, exact=True)


def shows(page: Any, name: str, part: str, text: str | re.Pattern[str]) -> None:
    expect(card(page, name).locator(f"[data-part={part}]")).to_have_text(text)


@pytest.fixture
def station(talker: Talker) -> SimulatedStation:
    """A station that is online."""
    introduced = SimulatedStation("press-4")
    talker.introduce(introduced)
    return introduced


def test_a_verdict_appears_within_half_a_second(
    dashboard: Dashboard, talker: Talker, station: SimulatedStation
) -> None:
    page = dashboard.open()
    took_ms = []
    for _ in range(5):
        started = time.monotonic()
        part = talker.judge(station)["part_id"]
        page.get_by_text(part, exact=True).wait_for()
        took_ms.append((time.monotonic() - started) * 1000)
    assert statistics.median(took_ms) < 500, took_ms


def test_a_card_tells_all_of_its_station(
    dashboard: Dashboard, talker: Talker, station: SimulatedStation
) -> None:
    page = dashboard.open()
    talker.judge(station)
    verdict = talker.judge(station, "NG", score=0.9375, part_id="B-7", image=FRAME)
    talker.say(station.topic(f"image/{verdict['event_id']}"), picture())
    counters = {"schema": 1, "ok": 995, "ng": 4, "marginal": 1, "error": 2, "since": verdict["ts"]}
    talker.say(station.topic("counters"), compact(counters), retain=True)
    disk = {"state": "warn", "reason": "1.2 GB free"}
    health = {
        "schema": 1,
        "state": "degraded",
        "roles": {"disk": disk, "camera": {"state": "ok", "reason": ""}},
    }
    talker.say(station.topic("health"), compact(health), retain=True)

    shows(page, "press-4", "state", "Online")
    shows(page, "press-4", "word", "NG")
    shows(page, "press-4", "score", "0.938")
    shows(page, "press-4", "threshold", "0.600")
    shows(page, "press-4", "yield", "99.5 %")
    shows(page, "press-4", "count-OK", "995")
    shows(page, "press-4", "health", "degraded")
    shows(page, "press-4", "roles", "Warning: disk 1.2 GB free")
    shows(page, "press-4", "rows", re.compile(r"NG0\.938B-7$"))
    shows(page, "press-4", "p50", re.compile(r"^\d+\.\d$"))
    shows(page, "press-4", "model", "20261123T224313Z-cfcaac07")
    expect(card(page, "press-4").get_by_role("img", name="NG part, 2 regions")).to_be_visible()
    expect(card(page, "press-4").locator(".boxes rect.over")).to_have_count(2)
    expect(
        card(page, "press-4").get_by_role("img", name=re.compile("of the last 2 verdicts: 1 NG"))
    ).to_be_visible()


def test_the_box_lies_over_the_defect(
    dashboard: Dashboard, talker: Talker, station: SimulatedStation
) -> None:
    """The picture came before its verdict, and is half as large as the frame."""
    page = dashboard.open()
    region = {"bbox_px": [64, 32, 128, 64], "bbox_norm": [0.25, 0.125, 0.5, 0.25], "area_px": 9, "score": 0.9}
    station.seq += 1
    talker.say(station.topic(f"image/{station.session}-{station.seq:08d}"), picture())
    station.seq -= 1
    image = {**FRAME, "w": 256, "h": 256}
    talker.judge(station, "NG", image=image, regions=[{**region, "method": "evidence"}])
    box = card(page, "press-4").locator(".boxes rect.over")
    expect(box).to_have_count(1)
    frame = card(page, "press-4").locator(".frame").bounding_box()
    drawn = box.bounding_box()
    side = min(frame["width"], frame["height"])
    left = frame["x"] + (frame["width"] - side) / 2
    top = frame["y"] + (frame["height"] - side) / 2
    assert drawn["x"] == pytest.approx(left + 0.25 * side, abs=4)
    assert drawn["y"] == pytest.approx(top + 0.125 * side, abs=4)
    assert drawn["width"] == pytest.approx(0.5 * side, abs=8)


def test_a_picture_that_was_cropped_has_no_box(
    dashboard: Dashboard, talker: Talker, station: SimulatedStation
) -> None:
    page = dashboard.open()
    verdict = talker.judge(station, "NG", image={**FRAME, "w": 640, "h": 480})
    talker.say(station.topic(f"image/{verdict['event_id']}"), picture(128, 32))
    expect(card(page, "press-4").locator("figcaption")).to_contain_text("boxes do not fit this picture")
    expect(card(page, "press-4").locator(".boxes rect")).to_have_count(0)


def test_what_was_retained_is_not_taken_for_news(
    dashboard: Dashboard, talker: Talker, station: SimulatedStation
) -> None:
    talker.say(station.topic("inspection/last"), compact(station.verdict("NG")), retain=True)
    page = dashboard.open(stale_s=2)
    shows(page, "press-4", "word", "NG")
    shows(page, "press-4", "when", re.compile("^before this page"))
    shows(page, "press-4", "state", "Data are old")
    expect(card(page, "press-4").locator("[data-part=notice]")).to_contain_text("Nothing was heard")


def test_repeats_gaps_and_late_verdicts(
    dashboard: Dashboard, talker: Talker, station: SimulatedStation
) -> None:
    page = dashboard.open()
    verdict = talker.judge(station)
    talker.say(station.topic("inspection"), compact(verdict))  # QoS 1 may deliver twice
    station.seq += 2  # two that nobody saw
    talker.judge(station, "NG", historical=True)
    talker.judge(station, "OK")
    shows(page, "press-4", "notes", "2 verdicts not received here · 1 verdict delivered late")
    talker.say(station.topic("counters"), "{}")  # not counters: ours are shown
    fresh = SimulatedStation("press-5")
    repeated = fresh.verdict()
    for _ in range(2):
        talker.say(fresh.topic("inspection"), compact(repeated))
    shows(page, "press-5", "count-OK", "1")


def test_offline_stopped_and_silent_stations_say_so(
    dashboard: Dashboard, talker: Talker, station: SimulatedStation
) -> None:
    page = dashboard.open(stale_s=2)
    talker.judge(station)
    shows(page, "press-4", "state", "Online")
    shows(page, "press-4", "state", "Data are old")
    talker.judge(station)
    shows(page, "press-4", "state", "Online")
    talker.say(station.topic("status"), "offline", retain=True)
    shows(page, "press-4", "state", "Offline")
    shows(page, "press-4", "notice", re.compile("gone: fault, power or network.*What is shown is old"))
    talker.say(station.topic("status"), "stopped", retain=True)
    shows(page, "press-4", "state", "Stopped")
    talker.say(station.topic("status"), "online", retain=True)
    shows(page, "press-4", "state", "Online")


def test_a_lost_broker_is_said_and_found_again(
    dashboard: Dashboard, page_broker: Broker, talker: Talker, station: SimulatedStation
) -> None:
    page = dashboard.open()
    talker.judge(station)
    shows(page, "press-4", "word", "OK")
    page_broker.stop()
    expect(page.locator("#banner")).to_contain_text(re.compile("not connected", re.IGNORECASE))
    expect(page.locator("#banner")).to_contain_text("what is shown is old")
    shows(page, "press-4", "state", "Not connected")
    page_broker.start()
    page.get_by_text("Connected", exact=True).wait_for()
    expect(page.locator("#banner")).to_be_hidden()
    shows(page, "press-4", "state", "Online")  # retained, and again on the new connection
    dashboard.faults[:] = [fault for fault in dashboard.faults if UNREACHABLE not in fault]


HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def test_hostile_payloads_are_text_or_nothing(
    dashboard: Dashboard, talker: Talker, station: SimulatedStation
) -> None:
    page = dashboard.open()
    page.on("dialog", lambda dialog: dashboard.faults.append(f"dialog: {dialog.message}"))
    talker.say("edgevision/<b>bold/inspection", compact(station.verdict(part_id=HOSTILE)))
    expect(card(page, "<b>bold").locator("[data-part=about]")).to_contain_text("<img src=x")
    assert page.locator(".card b b, .card img[src=x], .card script").count() == 0

    good = station.verdict("NG", part_id="the good one")
    wrong: list[bytes | str] = [
        "", "null", "[]", "{", "\udcff".encode("utf-8", "surrogatepass"), b"\xff\xfe", "[" * 100_000,
        *(compact(good | change) for change in (
            {"verdict": "FINE"}, {"score": 1e308}, {"score": "0.5"}, {"seq": -1}, {"seq": 1e300},
            {"event_id": 7},
        )),
    ]  # fmt: skip
    for payload in wrong:
        talker.say(station.topic("inspection"), payload)
    for topic in ("health", "counters", "model", "status", "stats", "birth"):
        talker.say(station.topic(topic), "[1]")
    talker.say(station.topic("image/x"), b"\xff\xd8 no picture")
    talker.say(station.topic("heat/x"), b"\x89PNG no picture")
    for address in ("javascript:alert(1)", "http://", 7):
        talker.say(station.topic("aim"), compact({"schema": 1, "address": address}))
    huge = {"ok": 9_007_199_254_740_991, "ng": 0, "marginal": 0, "error": 0, "since": "x" * 1000}
    talker.say(station.topic("counters"), compact(huge))
    talker.say(
        station.topic("health"), compact({"state": "alert", "roles": {HOSTILE: {"state": "x" * 9999}}})
    )
    boxes = [{"bbox_norm": [2, 0, 1, 1]}, {"bbox_norm": "no"}, 7, None]
    talker.say(station.topic("inspection"), compact(good | {"regions": boxes, "timing_ms": [], "image": 3}))

    shows(page, "press-4", "about", "the good one")
    shows(page, "press-4", "notes", f"{len(wrong) + 11} messages not understood")
    shows(page, "press-4", "count-OK", "9007.2T")
    shows(page, "press-4", "health", "alert")


def test_strangers_do_not_fill_the_page(dashboard: Dashboard, talker: Talker) -> None:
    page = dashboard.open()
    for number in range(70):
        talker.say(f"edgevision/s{number}/status", "online")
    expect(page.locator("#summary")).to_have_text("64 of 64 stations online · 6 more not shown")
    expect(page.get_by_role("article")).to_have_count(64)


def test_only_the_stations_that_were_asked_for(
    dashboard: Dashboard, talker: Talker, station: SimulatedStation
) -> None:
    talker.introduce(SimulatedStation("press-5"))
    page = dashboard.open(stations="press-5, press-6")
    shows(page, "press-5", "state", "Online")
    talker.judge(station)
    talker.say("edgevision/press-6/status", "online")
    expect(page.get_by_role("article")).to_have_count(2)


def test_ten_stations_at_thirty_a_second_are_all_received(dashboard: Dashboard, talker: Talker) -> None:
    """A short form of benchmarks/dashboard.py, which takes a minute and counts frames too."""
    stations = [SimulatedStation(f"press-{number}") for number in range(10)]
    page = dashboard.open()
    counts = []
    for seconds in (2, 2):  # the first fills the buffers
        send(talker, stations, seconds)
        for station in stations:
            shows(page, station.name, "about", f"A-{station.seq:06d}")
        counts.append(heap(page))
    for station in stations:
        shows(page, station.name, "notes", "")
    assert counts[1]["JSHeapUsedSize"] < counts[0]["JSHeapUsedSize"] + 1.5e6
    assert counts[1]["Nodes"] < counts[0]["Nodes"] + 400


def send(talker: Talker, stations: list[SimulatedStation], seconds: float, rate_hz: float = 30) -> None:
    """Verdicts of every station at a steady rate; the last of each is OK and acknowledged."""
    started = time.monotonic()
    for turn in range(int(seconds * rate_hz)):
        time.sleep(max(0.0, started + turn / rate_hz - time.monotonic()))
        for station in stations:
            word = "NG" if turn % 30 == 1 else "OK"
            talker.client.publish(station.topic("inspection"), compact(station.verdict(word)), 1)
    for station in stations:
        talker.judge(station)


def test_the_document_changes_at_most_ten_times_a_second(
    dashboard: Dashboard, talker: Talker, station: SimulatedStation
) -> None:
    page = dashboard.open()
    talker.judge(station)
    shows(page, "press-4", "word", "OK")
    page.evaluate("""() => {
        window.changes = 0;
        const part = document.querySelector('[data-part=score]');
        new MutationObserver(() => { window.changes += 1; }).observe(part, {childList: true});
    }""")
    send(talker, [station], 2, rate_hz=60)
    shows(page, "press-4", "about", f"A-{station.seq:06d}")
    assert 4 <= page.evaluate("window.changes") <= 26  # two seconds and what surrounds them


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (WIDE, "dark"), (PHONE, "light")])
def test_nothing_for_axe_to_find(
    dashboard: Dashboard, talker: Talker, size: tuple[int, int], scheme: str
) -> None:
    """Every verdict and every state on one page; then the settings."""
    page = dashboard.open(size, scheme, stale_s=600)
    words = {"a": "OK", "b": "NG", "c": "MARGINAL", "d": "ERROR", "e": "NG", "f": "OK"}
    for name, word in words.items():
        station = SimulatedStation(name)
        talker.introduce(station)
        verdict = talker.judge(station, word, image=FRAME)
        if word == "NG":
            talker.say(station.topic(f"image/{verdict['event_id']}"), picture())
    roles = {"disk": {"state": "warn", "reason": "full"}, "camera": {"state": "alert", "reason": "gone"}}
    talker.say("edgevision/a/health", compact({"state": "degraded", "roles": roles}))
    talker.say("edgevision/b/health", compact({"state": "alert", "roles": {}}))
    talker.say("edgevision/e/status", "offline")
    talker.say("edgevision/f/status", "stopped")
    shows(page, "f", "state", "Stopped")
    assert accessible(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "scrolls sideways"
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_role("dialog", name="Settings")).to_be_visible()
    assert accessible(page, "#settings") == []
    page.keyboard.press("Escape")
    if size == PHONE:
        unfold(page, "b")
    card(page, "b").get_by_role("button", name="Look at this defect").click()
    expect(page.get_by_role("dialog", name=re.compile("^b: NG"))).to_be_visible()
    assert accessible(page, "#defect") == []


def test_nothing_for_axe_to_find_without_a_broker(dashboard: Dashboard, talker: Talker) -> None:
    page = dashboard.open(broker=f"ws://127.0.0.1:{free_port()}", connected=False)
    expect(page.locator("#connection-word")).to_have_text("Not connected")
    assert accessible(page) == []
    dashboard.faults[:] = [fault for fault in dashboard.faults if UNREACHABLE not in fault]


def unfold(page: Any, name: str) -> None:
    page.get_by_role("button", name=f"Show all of {name}", exact=True).click()


def accessible(page: Any, within: str | None = None) -> list[str]:
    """What axe finds on the page or in a part of it, best practices included."""
    found = Axe().run(page, context=within).response["violations"]
    return [f"{rule['id']}: {[node['html'][:120] for node in rule['nodes']]}" for rule in found]


def test_the_keyboard_reaches_everything(
    dashboard: Dashboard, talker: Talker, station: SimulatedStation
) -> None:
    page = dashboard.open(scheme="dark")
    talker.judge(station, "NG")
    card(page, "press-4").locator("tr[data-event]").wait_for()
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.ariaLabel"))
    assert reached[:3] == ["fit", "theme", "open-settings"]
    assert reached[3:5] == ["Look at this defect", "Recent defects of press-4"]
    page.keyboard.press("Enter")  # the row's
    expect(page.get_by_role("dialog", name="press-4: NG, part A-000000")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Settings").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Settings")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert page.evaluate("document.activeElement.id") == "open-settings"
    page.get_by_role("button", name="Theme: auto").press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")


def test_news_for_a_screen_reader_come_seldom(
    chromium: Any, dashboard: Dashboard, talker: Talker, station: SimulatedStation
) -> None:
    with chromium.new_context() as turned:  # its clock is the test's from now on
        page = turned.new_page()
        page.clock.install()
        page.goto(f"{dashboard.address}/?broker=ws://127.0.0.1:{dashboard.websockets}")
        page.get_by_text("Connected", exact=True).wait_for()
        shows(page, "press-4", "state", re.compile("."))
        page.clock.run_for(10_500)
        talker.say(station.topic("status"), "offline", retain=True)
        for _ in range(20):
            talker.judge(station, "NG")
        page.clock.run_for(10_500)
        expect(page.locator("#spoken")).to_have_text(
            re.compile(r"^press-4: offline\. press-4: NG at \d\d:\d\d:\d\d\.$")
        )


@pytest.fixture
def guarded(tmp_path: Path, page_broker: Broker) -> Broker:
    """The same broker, now with a password: reader/secret."""
    import subprocess

    passwords = tmp_path / "passwords"
    subprocess.run(("mosquitto_passwd", "-c", "-b", str(passwords), "reader", "secret"), check=True)
    page_broker.stop()
    others = tuple(line for line in page_broker.settings if not line.startswith("allow_anonymous"))
    page_broker.settings = ("allow_anonymous false", f"password_file {passwords}", *others)
    page_broker.start()
    return page_broker


def test_user_and_password_stay_with_their_broker(dashboard: Dashboard, guarded: Broker) -> None:
    page = dashboard.open(connected=False)
    expect(page.locator("#banner")).to_contain_text("not authorized")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("User, where the broker asks for one").fill("reader")
    page.get_by_label("Password", exact=True).fill("secret")
    page.get_by_role("button", name="Connect", exact=True).click()
    page.get_by_text("Connected", exact=True).wait_for()
    assert "?" not in page.url
    assert "login" not in stored(page), "kept without having been asked to"

    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Keep user and password in this browser").check()
    page.get_by_role("button", name="Connect", exact=True).click()
    page.get_by_text("Connected", exact=True).wait_for()
    page.reload()
    page.get_by_text("Connected", exact=True).wait_for()
    page.goto(f"{dashboard.address}/?broker=ws://127.0.0.1:{free_port()}")  # a link from a stranger
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_label("Password", exact=True)).to_have_value("")
    dashboard.faults[:] = [fault for fault in dashboard.faults if UNREACHABLE not in fault]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"broker": "http://127.0.0.1:1"}, "must begin with ws:// or wss://"),
        ({"broker": "nonsense"}, "must look like ws://host:9001"),
        ({"broker": "ws://reader:secret@127.0.0.1:1"}, "leave them out of the address"),
        ({"prefix": "a/#"}, "without + or #"),
    ],
)
def test_a_wrong_address_is_explained(dashboard: Dashboard, query: dict[str, str], said: str) -> None:
    page = dashboard.open(connected=False, **query)
    expect(page.locator("#banner")).to_contain_text(said)


@pytest.mark.parametrize("size", [(1440, 900), (1920, 1080), (3840, 2160)])
@pytest.mark.parametrize("count", [1, 6, 10])
def test_all_stations_fill_the_screen_when_asked(
    dashboard: Dashboard, talker: Talker, size: tuple[int, int], count: int
) -> None:
    """Columns and size of letters together: nothing is cut off, and little of the screen is left."""
    page = dashboard.open(size, fit=1)
    for number in range(count):
        talker.introduce(SimulatedStation(f"press-{number}"))
    expect(page.get_by_role("article")).to_have_count(count)
    shows(page, f"press-{count - 1}", "state", "Online")
    assert page.evaluate("document.documentElement.scrollHeight <= window.innerHeight")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    used = page.evaluate("""() => {
        const boxes = [...document.querySelectorAll('article')].map((card) => card.getBoundingClientRect());
        const area = boxes.reduce((sum, box) => sum + box.width * box.height, 0);
        return area / (window.innerWidth * window.innerHeight);
    }""")
    assert used > 0.75, f"{used:.0%} of the screen"
    cut_off = page.evaluate("""() => [...document.querySelectorAll('.facts dd, .numbers dd')]
        .filter((part) => part.scrollWidth > part.clientWidth + 1 && !part.closest('.wide'))
        .map((part) => part.textContent)""")
    assert cut_off == []


# ---- one defect, large


def history(station: SimulatedStation, defects: int, share: float = 0.02) -> bytes:
    """Hours with this share of defects, and so many of them before anybody looked."""
    now = datetime.now(UTC)
    trend = [
        {"from": utc(now - timedelta(minutes=10 * (40 - step))), "ok": 300, "ng": round(300 * share)}
        | {"marginal": 0, "error": 0, "score_median": 0.1}
        for step in range(40)
    ]
    template = station.verdict("NG", image=FRAME)
    known = ("score", "threshold", "part_id", "regions", "image")
    told = [
        {"event_id": f"before-{number:08d}", "ts": utc(now - timedelta(minutes=number)), "verdict": "NG"}
        | {name: template[name] for name in known}
        | {"part_id": f"B-{number}", "model": {"version": "v1"}, "review": "ok" if number == 1 else None}
        for number in range(1, defects + 1)
    ]
    return compact({"schema": 1, "step_s": 600, "trend": trend, "defects": told})


def utc(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_a_defect_is_seen_large_with_all_that_is_known(
    dashboard: Dashboard, talker: Talker, station: SimulatedStation
) -> None:
    page = dashboard.open()
    verdict = talker.judge(station, "NG", score=0.9375, part_id="B-7", image=FRAME)
    talker.say(station.topic(f"image/{verdict['event_id']}"), picture())
    card(page, "press-4").get_by_role("button", name="Look at this defect").click()
    view = page.get_by_role("dialog", name="press-4: NG, part B-7")
    expect(view.locator(".boxes rect.over")).to_have_count(2)
    expect(view.locator("[data-part=why]")).to_contain_text("Its score 0.938 reaches 0.600")
    expect(view.locator("[data-part=why]")).to_contain_text("the strongest of 2 regions is at the top left")
    for part, text in (("part_id", "B-7"), ("regions", "2"), ("event", verdict["event_id"])):
        expect(view.locator(f"[data-part={part}]")).to_have_text(text)
    bar = view.locator(".bar").bounding_box()
    mark = view.locator(".bar b").bounding_box()
    assert mark["x"] - bar["x"] == pytest.approx(0.6 * bar["width"], abs=3)
    view.get_by_role("button", name="Boxes").click()
    expect(view.locator(".boxes")).to_be_hidden()
    expect(view.get_by_role("button", name="Heat map")).to_be_disabled()
    talker.say(station.topic(f"heat/{verdict['event_id']}"), heat())
    view.get_by_role("button", name="Heat map").click()
    left, right = halves(view.locator(".frame"))
    assert left[2] > left[0] + 60, "red over gray, where the model saw something"
    assert max(right) - min(right) < 6


def halves(frame: Any) -> tuple[Any, Any]:
    """The colours (BGR) left and right of the middle of a square picture."""
    shown = cv2.imdecode(np.frombuffer(frame.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    height, width = shown.shape[:2]
    off = min(height, width) // 4
    return tuple(shown[height // 2, width // 2 + side].astype(int) for side in (-off, off))


def test_why_a_picture_cannot_be_judged_is_said_also_after_a_reload(
    dashboard: Dashboard, talker: Talker, station: SimulatedStation
) -> None:
    """Its score is below the threshold: that is not why."""
    doubt = {"score": 0.1, "reason": "brightness is 0.20, good images had 0.51"}
    verdict = talker.judge(station, "MARGINAL", **doubt)
    known = {name: verdict[name] for name in ("event_id", "ts", "verdict", "threshold", "part_id", "image")}
    entry = known | doubt | {"model": {"version": "v1"}, "regions": [], "review": None}
    content = {"schema": 1, "step_s": 600, "trend": [], "defects": [entry]}
    talker.say(station.topic("history"), compact(content), retain=True)
    page = dashboard.open()
    card(page, "press-4").locator("tr[data-event]").click()
    expect(page.locator("#defect [data-part=why]")).to_have_text(
        "It cannot be judged by its score: brightness is 0.20, good images had 0.51."
    )


def test_the_last_200_defects_survive_a_reload(
    dashboard: Dashboard, talker: Talker, station: SimulatedStation
) -> None:
    talker.say(station.topic("history"), history(station, 200), retain=True)
    page = dashboard.open()
    shows(page, "press-4", "all", "200 in all")
    for _ in range(2):
        page.get_by_role("button", name=re.compile("^[0-9]")).first.click()
        view = page.get_by_role("dialog", name="press-4: NG, part B-1")
        expect(view.locator("[data-part=place]")).to_have_text("1 of 200, the newest first")
        expect(view.get_by_role("button", name="Was OK")).to_have_attribute("aria-pressed", "true")
        page.reload()
        page.get_by_text("Connected", exact=True).wait_for()
    page.get_by_role("button", name=re.compile("^[0-9]")).first.click()
    for part in ("B-2", "B-3"):
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("dialog", name=f"press-4: NG, part {part}")).to_be_visible()
    page.get_by_role("button", name="← Newer").click()
    expect(page.get_by_role("dialog", name="press-4: NG, part B-2")).to_be_visible()


def test_a_station_without_pictures_says_why(
    dashboard: Dashboard, talker: Talker, station: SimulatedStation
) -> None:
    birth = json.loads(station.retained()[station.topic("birth")]) | {"capabilities": ["history"]}
    talker.say(station.topic("birth"), compact(birth), retain=True)
    page = dashboard.open()
    caption = card(page, "press-4").locator("figcaption")
    expect(caption).to_contain_text("[archive] publish_image_max_bytes is 0")
    talker.say(station.topic("birth"), compact(birth | {"capabilities": ["history", "image"]}), retain=True)
    expect(caption).to_have_text("No defect yet")


# ---- which station needs somebody


def test_the_header_names_the_stations_that_need_somebody(dashboard: Dashboard, talker: Talker) -> None:
    stations = {name: SimulatedStation(name) for name in ("calm", "gone", "streak", "worse", "disk")}
    page = dashboard.open(stale_s=600)
    for station in stations.values():
        talker.introduce(station)
        talker.say(station.topic("history"), history(station, 0), retain=True)
        talker.judge(station)
    for _ in range(3):
        talker.judge(stations["streak"], "NG")
    for number in range(40):
        talker.judge(stations["worse"], "NG" if number % 5 == 1 else "OK")
    roles = {"disk": {"state": "warn", "reason": "disk_low", "text": "1 GB free", "mend": "Make room"}}
    worry = {"schema": 1, "state": "degraded", "roles": roles}
    talker.say(stations["disk"].topic("health"), compact(worry), retain=True)
    talker.say(stations["gone"].topic("status"), "offline", retain=True)
    attention = page.get_by_role("navigation", name="Stations that need somebody")
    expect(attention.get_by_role("button")).to_have_count(4)
    told = attention.get_by_role("button").all_text_contents()
    assert told[0] == "gone offline"
    assert "streak 3 NG in a row" in told
    assert told[-1] == "disk degraded: disk"
    assert any(re.fullmatch(r"worse \d\d\.\d % defective, usually 1\.9 %", line) for line in told)
    expect(page.locator("#summary")).to_have_text("4 of 5 stations online · 1 down")
    attention.get_by_role("button", name="disk degraded").click()
    expect(card(page, "disk")).to_be_focused()
    seen = {"by": "ann", "ts": utc(datetime.now(UTC))}
    worry = worry | {"roles": {"disk": roles["disk"] | {"acknowledged": seen}}}
    talker.say(stations["disk"].topic("health"), compact(worry), retain=True)
    expect(attention.get_by_role("button")).to_have_count(3)
    expect(card(page, "disk").locator("[data-part=roles]")).to_contain_text("seen by ann")


def test_the_border_tells_the_health_and_the_face_the_verdict(
    dashboard: Dashboard, talker: Talker, station: SimulatedStation
) -> None:
    page = dashboard.open(stale_s=2)
    talker.judge(station, "NG")
    talker.say(station.topic("health"), compact({"state": "ready", "roles": {}}))
    expect(card(page, "press-4")).to_have_attribute("data-health", "ready")
    expect(card(page, "press-4")).to_have_attribute("data-verdict", "NG")
    shows(page, "press-4", "state", "Data are old")
    expect(card(page, "press-4")).to_have_attribute("data-health", "none")
    shows(page, "press-4", "health", "was ready")


def test_on_a_phone_a_station_is_a_line_that_unfolds(dashboard: Dashboard, talker: Talker) -> None:
    page = dashboard.open(PHONE)
    for name in ("press-4", "press-5"):
        station = SimulatedStation(name)
        talker.introduce(station)
        talker.judge(station, "NG", score=0.75)
    expect(card(page, "press-5").locator(".compact")).to_contain_text("NG 0.750")
    expect(card(page, "press-5").locator(".big")).to_be_hidden()
    assert card(page, "press-5").bounding_box()["height"] < 90
    unfold(page, "press-5")
    expect(card(page, "press-5").locator(".big")).to_be_visible()
    expect(card(page, "press-4").locator(".big")).to_be_hidden()


def test_the_library_is_the_one_that_is_named() -> None:
    readme = (PAGE / "vendor" / "README.md").read_text()
    [(digest, name)] = re.findall(r"^([0-9a-f]{64})  (\S+)$", readme, re.MULTILINE)
    content = (PAGE / "vendor" / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest
    licences = (PAGE / "vendor" / "LICENSES.txt").read_text()
    bundled = re.findall(r"\(\*! ([\w-]+)\. [\w-]+ License", content.decode("utf-8"))
    assert {"ieee754", "safe-buffer"} <= set(bundled)
    for package in bundled:
        assert re.search(rf"^{package} \d", licences, re.MULTILINE), package


def test_no_code_of_the_page_writes_markup() -> None:
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
    for file in sorted((PAGE / "js").glob("*.js")):
        assert re.findall(markup, file.read_text()) == [], file.name


def test_the_files_are_served_with_their_types() -> None:
    with serving() as address:
        for name, kind in (("", "text/html"), ("js/main.js", "text/javascript"), ("style.css", "text/css")):
            with urlopen(f"{address}/{name}") as answer:  # noqa: S310 (our own server)
                assert answer.headers.get_content_type() == kind
                assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
