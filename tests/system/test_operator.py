"""The operator's work: a real browser, broker and station, from the page to the reviewed set."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from fixtures_broker import DEADLINE_S, Broker
from fixtures_camera import wait_until
from fixtures_daemon import REPOSITORY, STATION, Station, command_line, run_device
from fixtures_dashboard import Dashboard, stored
from playwright.sync_api import expect

ACL = REPOSITORY / "deploy" / "mosquitto" / "acl"
USERS = ("dashboard", "operator", STATION)
HERE = "127.0.0.2"  # an address of this machine that is not its usual loopback
LOOP = "loop = true\nrate_hz = 1"
MORE = (
    '[commands]\nenabled = true\nallow = ["review", "picture", "acknowledge"]\nrate_hz = 100.0\n'
    "[archive]\nmin_free_bytes = 0\npublish_image_max_bytes = 60000\n"
    "[health]\ndisk_warn_ratio = 1.0\ndisk_alert_ratio = 0.0\n"
)


@pytest.fixture
def guarded(tmp_path: Path, page_broker: Broker) -> Broker:
    """The broker with the example's access rules; every user's password is <user>-password."""
    passwords = tmp_path / "passwords"
    passwords.touch(0o644)
    for user in USERS:
        subprocess.run(("mosquitto_passwd", "-b", passwords, user, f"{user}-password"), check=True)
    page_broker.stop()
    others = tuple(line for line in page_broker.settings if not line.startswith("allow_anonymous"))
    rules = ("allow_anonymous false", f"password_file {passwords}", f"acl_file {ACL}")
    page_broker.settings = (*rules, *others)
    page_broker.start()
    return page_broker


@pytest.fixture
def station(guarded: Broker, make_station: Callable[..., Station]) -> Station:
    """One that finds a defect now and then (20 rows are a minute), and whose disk is never free enough."""
    made = make_station(guarded.port, "noo")
    (made.folder / "password").write_text(f"{STATION}-password\n")
    (made.folder / "password").chmod(0o600)
    made.configure(camera=LOOP, mqtt=f'username = "{STATION}"\npassword_file = "password"', more=MORE)
    made.start()
    return made


@pytest.fixture
def page(dashboard: Dashboard, station: Station) -> Any:
    """The page as `dashboard`, who may only read."""
    opened = dashboard.open(connected=False)
    opened.get_by_role("button", name="Settings").click()
    opened.get_by_label("User, where the broker asks for one").fill("dashboard")
    opened.get_by_label("Password", exact=True).fill("dashboard-password")
    opened.get_by_role("button", name="Connect", exact=True).click()
    opened.get_by_text("Connected", exact=True).wait_for()
    return opened


class Person:
    """Who counts what has to be done: a press, or a form that is filled and sent."""

    def __init__(self) -> None:
        self.actions = 0

    def press(self, what: Any) -> None:
        self.actions += 1
        what.click()

    def log_in(self, page: Any, user: str, password: str) -> None:
        self.actions += 1
        log_in(page, user, password)

    def type(self, field: Any, text: str) -> None:
        self.actions += 1
        field.fill(text)
        field.press("Enter")


def log_in(page: Any, user: str, password: str) -> None:
    form = page.get_by_role("dialog", name="Who are you?")
    expect(form).to_be_visible()
    assert Axe().run(page, "#login").response["violations"] == []
    form.get_by_label("User").fill(user)
    form.get_by_label("Password of the broker").fill(password)
    form.get_by_role("button", name="Log in").click()


def test_from_a_wrong_verdict_to_the_reviewed_set(page: Any, station: Station, tmp_path: Path) -> None:
    """Three actions from the page's start: the picture, what it was, who says so."""
    person = Person()
    person.press(page.get_by_role("button", name="Look at this defect"))
    view = page.locator("#defect")
    event_id = view.locator("[data-part=event]").text_content()
    wait_until(lambda: list((station.folder / "state" / "archive").glob(f"*/{event_id}.json")))
    person.press(view.get_by_role("button", name="Was OK"))
    log_in(page, "operator", "wrong")
    expect(page.get_by_role("dialog", name="Who are you?")).to_contain_text("may do this")
    person.log_in(page, "operator", "operator-password")
    expect(view.locator("[data-part=answer]")).to_have_text("Noted: was OK")
    assert person.actions == 3
    view.get_by_role("button", name="Unsure").click()
    expect(view.locator("[data-part=answer]")).to_have_text("Noted: unsure (before: was OK)")
    view.get_by_role("button", name="Was OK").click()
    expect(view.locator("[data-part=answer]")).to_have_text("Noted: was OK (before: unsure)")

    assert "password" not in page.url
    assert "operator" not in json.dumps(stored(page)), "kept"
    done = run_device("export", "--reviewed", tmp_path / "set", "--config", station.config)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "set" / "manifest.csv").open(newline="") as lines:
        [row] = list(csv.DictReader(lines))
    assert (row["path"], row["label"]) == (f"images/{event_id}.jpg", "ok")
    view.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Log out operator").click()
    expect(page.locator("#logout")).to_be_hidden()


def test_after_a_reload_a_defect_is_there_with_its_picture_from_the_station(page: Any) -> None:
    page.get_by_role("button", name="Look at this defect").click()
    name = page.locator("#defect [data-part=event]").text_content()
    page.reload()
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("User, where the broker asks for one").fill("dashboard")
    page.get_by_label("Password", exact=True).fill("dashboard-password")
    page.get_by_role("button", name="Connect", exact=True).click()
    row = page.locator(f"tr[data-event='{name}']")
    row.get_by_role("button").click()
    page.get_by_role("button", name="Get the picture from the station").click()
    log_in(page, "operator", "operator-password")
    expect(page.locator("#defect .frame")).to_have_attribute("data-empty", "false")
    expect(page.locator("#defect .boxes rect.over")).not_to_have_count(0)
    page.locator("#defect").get_by_role("button", name="Heat map").click()
    expect(page.locator("#defect .heat")).to_be_visible()


def test_why_a_part_was_rejected_is_told_after_one_press_and_shown_after_two(page: Any) -> None:
    expect(page.locator(".card .boxes rect.over")).not_to_have_count(0)  # one that came to this page
    person = Person()
    person.press(page.get_by_role("button", name="Look at this defect"))
    expect(page.locator("#defect [data-part=why]")).to_contain_text(re.compile(r"reaches 0\.\d+, from which"))
    expect(page.locator("#defect .boxes rect.over")).not_to_have_count(0)
    person.press(page.locator("#defect").get_by_role("button", name="Heat map"))
    expect(page.locator("#defect .heat")).to_be_visible()
    assert person.actions == 2


def test_which_station_needs_somebody_is_told_without_a_press_and_found_with_one(page: Any) -> None:
    person = Person()
    needs = page.get_by_role("navigation", name="Stations that need somebody").get_by_role("button")
    expect(needs).to_contain_text(f"{STATION} degraded: disk")
    person.press(needs)
    expect(page.get_by_role("article", name=STATION)).to_be_focused()
    assert person.actions == 1


def test_a_lens_is_focused_two_actions_from_the_dashboard(
    dashboard: Dashboard, page_broker: Broker, make_station: Callable[..., Station], chromium: Any
) -> None:
    """The link on the card, and the code of the terminal: then the focus figure is there."""
    station = make_station(page_broker.port, "oon", camera=LOOP)
    page = dashboard.open()
    command = command_line("aim", "--host", HERE, "--config", station.config)
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as aim:
        code = next(line for line in aim.stderr if "type the code" in line).split()[-1]
        person = Person()
        link = page.get_by_role("link", name="Aim its camera: http://")
        with page.context.expect_page() as opened:
            person.press(link)
        with contextlib.closing(opened.value) as door:
            field = door.get_by_label("The code")
            expect(field).to_be_focused()
            assert Axe().run(door).response["violations"] == []
            person.type(field, code)
            expect(door.locator("#sharpness")).to_contain_text("Sharpness")
        assert person.actions == 2
        assert code not in str(page.content())
        aim.kill()
        expect(link).to_have_count(0)
        aim.wait(DEADLINE_S)


def test_a_worry_is_acknowledged_for_everybody(page: Any) -> None:
    worry = page.locator("[data-part=roles] li").filter(has_text="disk")
    expect(worry).to_contain_text("Warning: disk")
    page.get_by_role("button", name="I have seen it: disk").click()
    log_in(page, "operator", "operator-password")
    expect(worry).to_contain_text("seen by operator")
    expect(page.locator("#attention button").filter(has_text="disk")).to_have_count(0)
