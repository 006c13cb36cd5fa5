"""How often the drift test of device/health/drift.py speaks without a drift, and how soon with one.

    .venv/bin/python benchmarks/drift.py [--limit 12] [--seed 0] [--observations 1e8]

About two minutes on one core. Prints the average run length (ARL: observations until the first word) of the
two-sided CUSUM, its slack and its cut being those of the device, three times over:

    exact       in control, for a reference that is exactly right: Markov chain after Brook and Evans,
                Biometrika 59 (1972)
    simulated   the same by simulation, where the ARL is short enough to be waited for
    uncertain   by simulation, the reference (mean and sd) itself estimated from N good images, as in a bundle

The device takes one observation a second at most, so an observation is a second on a line that never stops.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from device.health.drift import CUT, SLACK

SHIFTS_SD = (0.5, 0.75, 1.0, 2.0)
IMAGES = (50, 200)
STREAMS = 4000
MOST = 20_000  # observations after a shift
STATES = 1200  # of the Markov chain; twice as many change the third digit
YEAR_S = 365.25 * 86400


def exact_arl(limit: float, shift_sd: float = 0.0) -> float:
    """ARL of a one-sided CUSUM by a Markov chain over its sum, in STATES steps from 0 to the limit."""
    width = limit / (STATES - 0.5)
    centres = np.arange(STATES) * width  # the first state is [0, width/2]
    cdf = np.vectorize(lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2))))
    edges = np.arange(STATES + 1) * width - width / 2

    def below(bound: np.ndarray) -> np.ndarray:
        """P(min(max(z, -CUT), CUT) - SLACK <= bound), z normal about the shift."""
        inside = cdf(bound + SLACK - shift_sd)
        return np.where(bound + SLACK >= CUT, 1.0, np.where(bound + SLACK < -CUT, 0.0, inside))

    steps = np.arange(-STATES, STATES + 1) * width
    upper, lower = below(steps + width / 2), below(steps - width / 2)
    chances = upper - lower
    index = np.arange(STATES)
    moves = chances[index[None, :] - index[:, None] + STATES]
    moves[:, 0] = below(edges[1] - centres)  # and all that would fall below 0
    ones = np.ones(STATES)
    return float(np.linalg.solve(np.eye(STATES) - moves, ones)[0])


def two_sided(up: float, down: float) -> float:
    """1/ARL of both sides together (van Dobben de Bruyn, 1968): they cannot both be near their limit."""
    return 1 / (1 / up + 1 / down)


def run_lengths(
    limit: float,
    shift_sd: float,
    observations: float,
    random: np.random.Generator,
    images: int | None = None,
) -> tuple[int, float]:
    """(how often STREAMS independent charts spoke within so many observations in all, those observations).

    A chart that spoke begins anew. `images`: estimate each chart's mean and sd from so many; None: known.
    """
    steps = int(observations / STREAMS)
    mean, sd = np.zeros(STREAMS), np.ones(STREAMS)
    if images is not None:
        mean = random.normal(0, 1 / np.sqrt(images), STREAMS)
        sd = np.sqrt(random.chisquare(images - 1, STREAMS) / (images - 1))
    up, down = np.zeros(STREAMS), np.zeros(STREAMS)
    spoke = 0
    for _ in range(steps):
        z = np.clip((random.standard_normal(STREAMS) + shift_sd - mean) / sd, -CUT, CUT)
        up = np.maximum(0, up + z - SLACK)
        down = np.maximum(0, down - z - SLACK)
        over = np.maximum(up, down) > limit
        spoke += int(over.sum())
        up[over] = down[over] = 0
    return spoke, steps * float(STREAMS)


def delays(
    limit: float, shift_sd: float, random: np.random.Generator, images: int | None = None
) -> np.ndarray:
    """The observations from the shift to the word, for STREAMS charts that were in control for a while.

    A chart whose estimated mean hides the shift may never speak: it counts with the MOST that were tried.
    """
    mean, sd = np.zeros(STREAMS), np.ones(STREAMS)
    if images is not None:
        mean = random.normal(0, 1 / np.sqrt(images), STREAMS)
        sd = np.sqrt(random.chisquare(images - 1, STREAMS) / (images - 1))
    up, down = np.zeros(STREAMS), np.zeros(STREAMS)
    found = np.zeros(STREAMS)
    for step in range(-200, MOST):
        z = np.clip((random.standard_normal(STREAMS) + shift_sd * (step >= 0) - mean) / sd, -CUT, CUT)
        up = np.maximum(0, up + z - SLACK)
        down = np.maximum(0, down - z - SLACK)
        over = (np.maximum(up, down) > limit) & (step >= 0) & (found == 0)
        found[over] = step + 1
        if step >= 0 and (found > 0).all():
            break
    return np.where(found > 0, found, step + 1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print it all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=float, default=12.0, help="[health] drift_limit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--observations", type=float, default=1e8)
    options = parser.parse_args(arguments)
    random = np.random.default_rng(options.seed)
    print(f"CUSUM, two-sided, slack {SLACK:g} sd, cut {CUT:g} sd, limit {options.limit:g}\n")
    print("in control: observations between two false words")
    for limit in (4.0, 5.0, 6.0):
        exact = two_sided(*[exact_arl(limit)] * 2)
        spoke, seen = run_lengths(limit, 0.0, min(options.observations, 2e7), random)
        print(f"  limit {limit:4.1f}  exact {exact:12.0f}   simulated {seen / spoke:12.0f}   ({spoke} words)")
    exact = two_sided(*[exact_arl(options.limit)] * 2)
    print(
        f"  limit {options.limit:4.1f}  exact {exact:12.3g}   "
        f"= {exact / YEAR_S:.1f} years of one observation a second"
    )
    for images in (None, *IMAGES):
        spoke, seen = run_lengths(options.limit, 0.0, options.observations, random, images)
        known = "known" if images is None else f"from {images} images"
        rate = f"one in {seen / spoke:.3g}" if spoke else f"none in {seen:.3g}"
        print(f"  limit {options.limit:4.1f}  simulated, reference {known}: {rate}")
    print("\nafter a lasting shift: observations until the word (mean, 95 of 100 within)")
    for shift_sd in SHIFTS_SD:
        words = []
        for images in (None, *IMAGES):
            found = delays(options.limit, shift_sd, random, images)
            known = "known" if images is None else f"{images} images"
            words.append(f"{known}: {np.mean(found):6.0f}, {np.quantile(found, 0.95):6.0f}")
        print(f"  {shift_sd:4.2f} sd   " + "   ".join(words))
    return 0


if __name__ == "__main__":
    sys.exit(main())
