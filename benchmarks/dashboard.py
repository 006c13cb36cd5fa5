"""The dashboard under load: many stations, many verdicts, one page in a real browser on a real Mosquitto.

    .venv/bin/python -m benchmarks.dashboard [--stations 10] [--rate 30] [--seconds 300]

Prints what arrived, how long a verdict takes to be seen, the page's memory after garbage collection every
five seconds with its slope, and the frames that the browser drew, but for those in which this program had the
garbage collected. Needs `apt install mosquitto chromium`.
Ends with 1 when a verdict did not arrive or memory grows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from playwright.sync_api import Page

from benchmarks.browser import launched
from benchmarks.mosquitto import mosquitto
from benchmarks.simulated import SimulatedStation, compact
from deploy.serve import serving

SAMPLE_S = 5.0
WARM_S = 190.0  # the buffers fill: at 30/s 300 verdicts of a station take 10 s, its 200 defects about 170 s
GROWTH_KB_PER_MIN = 500.0  # more than this over the steady part is called growth
FRAMES = """() => {
    window.frames_ms = [];
    let before = performance.now();
    const note = (now) => {
        if (!window.is_collected) window.frames_ms.push(now - before);
        before = now;
        requestAnimationFrame(note);
    };
    requestAnimationFrame(note);
}"""
COLLECTED = "() => { window.is_collected = true; }"
FRAME_AFTER = (
    """() => requestAnimationFrame(() => requestAnimationFrame(() => { window.is_collected = false; }))"""
)


def main() -> int:
    """Run it; returns the exit code."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder, mosquitto(Path(folder)) as broker, serving() as address:
        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        with launched() as browser:
            page = browser.new_page(viewport={"width": 1920, "height": 1080})
            faults: list[str] = []
            page.on(
                "console", lambda message: faults.append(message.text) if message.type == "error" else None
            )
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.goto(f"{address}/?{urlencode({'broker': f'ws://127.0.0.1:{broker.websockets}'})}")
            page.get_by_text("Connected", exact=True).wait_for()
            well = measure(client, page, options) and not faults
            print(f"console errors: {len(faults)} {faults[:3] or ''}")
        client.loop_stop()
    return 0 if well else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Load the dashboard and watch its memory and frames.")
    parser.add_argument("--stations", type=int, default=10)
    parser.add_argument("--rate", type=float, default=30.0, help="verdicts a second of each station")
    parser.add_argument("--seconds", type=float, default=300.0)
    return parser.parse_args()


def measure(client: Client, page: Page, options: argparse.Namespace) -> bool:
    """Print the figures; returns whether all verdicts arrived and memory is steady."""
    stations = [SimulatedStation(f"press-{number}") for number in range(1, options.stations + 1)]
    for station in stations:
        for topic, payload in station.retained().items():
            if "counters" not in topic:  # so that the page counts by itself
                client.publish(topic, payload, 1, retain=True).wait_for_publish(10)
    page.evaluate(FRAMES)
    samples = list(sampling(client, page, stations, options.rate, options.seconds))
    arrived = received(page, stations)
    sent = sum(station.seq + 1 for station in stations)
    print(f"verdicts: {sent} sent, {arrived} received by the page, {sent / options.seconds:.0f}/s")
    print_latency(client, page, stations[0])
    print_frames(page)
    slope = growth(samples)
    print("heap after collection, kB: " + " ".join(f"{kb:.0f}" for _, kb in samples))
    print(f"slope after {WARM_S:g} s: {slope:+.0f} kB/min")
    return arrived == sent and slope < GROWTH_KB_PER_MIN


def sampling(
    client: Client, page: Page, stations: list[SimulatedStation], rate_hz: float, seconds: float
) -> Iterator[tuple[float, float]]:
    """Publish at a steady rate; yields (s since the start, kB of heap) every SAMPLE_S."""
    started, sampled_s, turn = time.monotonic(), 0.0, 0
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    while (now_s := time.monotonic() - started) < seconds:
        while turn < now_s * rate_hz:
            for station in stations:
                verdict = station.verdict(station.any_word())
                client.publish(station.topic("inspection"), compact(verdict), 1)
            turn += 1
        if now_s - sampled_s >= SAMPLE_S:
            sampled_s = now_s
            page.evaluate(COLLECTED)
            session.send("HeapProfiler.collectGarbage")
            page.evaluate(FRAME_AFTER)
            metrics = session.send("Performance.getMetrics")["metrics"]
            used = next(metric["value"] for metric in metrics if metric["name"] == "JSHeapUsedSize")
            yield now_s, used / 1000
        time.sleep(max(0.0, started + turn / rate_hz - time.monotonic()))


def received(page: Page, stations: list[SimulatedStation]) -> int:
    """What the cards have counted, once the last verdicts are there."""
    for station in stations:
        page.get_by_role("article", name=station.name, exact=True).get_by_text(
            f"A-{station.seq:06d}", exact=True
        ).first.wait_for()
    counts = page.locator("[data-part^=count-]").all_text_contents()
    return sum(int(count.replace(",", "")) for count in counts)


def print_latency(client: Client, page: Page, station: SimulatedStation) -> None:
    """From the publish to the document, as a waiting script sees it."""
    took_ms = []
    for _ in range(20):
        verdict = station.verdict()
        started = time.monotonic()
        client.publish(station.topic("inspection"), compact(verdict), 1)
        page.get_by_text(verdict["part_id"], exact=True).wait_for()
        took_ms.append((time.monotonic() - started) * 1000)
        time.sleep(0.1)
    print(f"publish to document: median {statistics.median(took_ms):.0f} ms, longest {max(took_ms):.0f} ms")


def print_frames(page: Page) -> None:
    """How evenly the browser drew."""
    frames = sorted(page.evaluate("window.frames_ms"))
    late = sum(ms > 50 for ms in frames)
    p50, p99 = frames[len(frames) // 2], frames[int(0.99 * len(frames))]
    print(
        f"frames: {len(frames)} drawn, p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {frames[-1]:.0f} ms, ",
        end="",
    )
    print(f"{late} longer than 50 ms ({100 * late / len(frames):.2f} %)")


def growth(samples: list[tuple[float, float]]) -> float:
    """KB a minute, by least squares over the samples after WARM_S; 0 where there are too few."""
    steady = [(at_s, kb) for at_s, kb in samples if at_s >= WARM_S]
    if len(steady) < 3:
        return 0.0
    return statistics.linear_regression(*zip(*steady, strict=True)).slope * 60


if __name__ == "__main__":
    sys.exit(main())
