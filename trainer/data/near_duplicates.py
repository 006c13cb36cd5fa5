"""Images that show the same thing: the same part again, its other exposures, frames of one video.

Told from the pixels alone, so that a split does not test on what it trained on. Each image is glanced at,
small and gray; what all glances have in common (a fixture, a ground) is taken away. Images whose spectra
are alike are candidates: the amplitudes of a spectrum do not care where in the frame the thing lies. Of two
candidates the correlation at their best shift decides, each frequency weighed by the root of its amplitude:
between the plain correlation, which takes two parts of one shape for one, and that of the phases alone
(Kuglin and Hines, 1975), which drowns in noise. A glance takes 16 kB at most; what is computed from one, 66
kB, is kept of KEPT at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from device.image.geometry import Size

SIDE_PX = 128  # of a glance
COARSE_PX = 64  # of the glances whose spectra are compared
DETAIL_PX = 1.5  # sigma of what counts as detail
LEAST_PX = 1024  # of a glance: a smaller one says too little
FAINTEST = 2.0  # gray levels: fainter detail is not blown up to the size of the rest
NEIGHBOURS = 8  # of an image: as many have spectra most like its own
ALIKE = 0.15  # correlation of two spectra; of different things it is 0, give or take 0.04
SAME = 0.55  # correlation of two glances: from here on they show the same thing,
ELSEWHERE = 0.35  # if it is at least so great without the quarter of the places that speak for it most
PLACES = 8  # on a side, that speak for it or do not
EMPTY = 0.02  # of the power of the greatest place: where there is less, nothing is shown
MOST_TOGETHER = 2 / 3  # of the images: where more would be one group, what is alike is the kind of part
STEP = 0.05  # by which two glances must then correlate better
BLOCK = 256  # rows, or pairs, that are compared at a time
KEPT = 2048
COMMON_OF = 512  # images that what all have in common is averaged over

Glance = NDArray[np.uint8]  # (h, w)
Maps = NDArray[np.float32]
Pairs = NDArray[np.intp]  # (m, 2), the lesser index first


def scale_for(sizes: Sequence[Size]) -> float:
    """Of the glances at images of such sizes: the typical greater side becomes SIDE_PX."""
    return min(1.0, SIDE_PX / float(np.median([max(size.width, size.height) for size in sizes])))


def glance(image: NDArray[np.uint8] | NDArray[np.uint16], scale: float) -> Glance:
    """The middle of an image (H, W, 3) at the scale, gray, at most SIDE_PX on a side.

    Of more than 8 bits it is brought to 8 by the greatest level in that part.
    """
    rows, columns = (min(side, round(SIDE_PX / scale)) for side in image.shape[:2])
    top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
    middle = cv2.cvtColor(image[top : top + rows, left : left + columns], cv2.COLOR_RGB2GRAY)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    small = cv2.resize(middle, size, interpolation=cv2.INTER_AREA)
    if small.dtype != np.uint8:
        small = cv2.convertScaleAbs(small.astype(np.float32), alpha=255 / max(1.0, float(small.max())))
    return np.asarray(small, np.uint8)


def groups(glances: Sequence[Glance]) -> NDArray[np.intp]:
    """(n,): images of the same number show the same thing; the glances are all of one scale."""
    telling = np.array([number for number, one in enumerate(glances) if one.size >= LEAST_PX], np.intp)
    pairs = telling[_candidates([glances[number] for number in telling])]
    return _joined(len(glances), pairs, _correlations(glances, pairs))


def _candidates(glances: Sequence[Glance]) -> Pairs:
    """Pairs of images whose spectra are alike, each image with its nearest NEIGHBOURS at most."""
    found: set[tuple[int, int]] = set()
    rows = _fingerprints(glances) if len(glances) > 1 else np.empty((0, 0), np.float32)
    count = min(NEIGHBOURS, len(rows) - 1)
    for start in range(0, len(rows), BLOCK):
        likeness = rows[start : start + BLOCK] @ rows.T
        own = np.arange(len(likeness))
        likeness[own, start + own] = -1.0
        nearest = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
        row, column = np.nonzero(np.take_along_axis(likeness, nearest, axis=1) > ALIKE)
        for one, other in zip(start + row, nearest[row, column], strict=True):
            found.add((int(min(one, other)), int(max(one, other))))
    return np.array(sorted(found), np.intp).reshape(-1, 2)


def _fingerprints(glances: Sequence[Glance]) -> Maps:
    """(n, frequencies): logarithms of amplitudes, less the mean of all images, each row of unit length."""
    rows = np.stack([_fingerprint(one) for one in glances])
    rows -= rows.mean(0)
    rows /= rows.std(0) + 1e-6
    rows -= rows.mean(1, keepdims=True)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6
    return rows


def _fingerprint(one: Glance) -> Maps:
    share = COARSE_PX / SIDE_PX
    height, width = (max(1, round(side * share)) for side in one.shape)
    small = cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return np.asarray(np.log(np.abs(_spectrum(small, COARSE_PX)) + 1e-2).ravel(), np.float32)


def _spectrum(one: Glance, side: int) -> NDArray[np.complex64]:
    """(side, side // 2 + 1) of the glance's detail, evened out and faded towards the edges."""
    from scipy.fft import rfft2

    values = one.astype(np.float32)
    detail = values - cv2.GaussianBlur(values, (0, 0), DETAIL_PX)
    detail /= np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 2 * DETAIL_PX)) + FAINTEST
    height, width = detail.shape
    faded = (detail - detail.mean()) * np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    return np.asarray(rfft2(faded.astype(np.float32), (side, side)))


def _correlations(glances: Sequence[Glance], pairs: Pairs) -> NDArray[np.float64]:
    """(m,): of the two glances of each pair at their best shift; 0 where it comes from a few places only.

    Then one detail is alike, and not the thing: the same defect at the same place of different parts.
    """
    from scipy.fft import irfft2

    @lru_cache(maxsize=KEPT)
    def weighed(index: int) -> NDArray[np.complex64]:
        spectrum = _spectrum(glances[index], SIDE_PX) - common
        spectrum /= np.sqrt(np.abs(spectrum)) + 1e-6
        return np.asarray(spectrum / _length(spectrum), np.complex64)

    if not len(pairs):
        return np.empty(0)
    some = range(0, len(glances), -(-len(glances) // COMMON_OF))
    common = np.mean([_spectrum(glances[index], SIDE_PX) for index in some], axis=0)
    found = []
    for start in range(0, len(pairs), BLOCK):
        ones, others = (
            np.stack([weighed(int(index)) for index in side]) for side in pairs[start : start + BLOCK].T
        )
        shifted = irfft2(ones * np.conj(others)) * SIDE_PX**2
        best = shifted.max(axis=(1, 2))
        for number in np.flatnonzero(best >= SAME):
            shift = np.unravel_index(int(shifted[number].argmax()), shifted[number].shape)
            one, other = irfft2(ones[number]), np.roll(irfft2(others[number]), shift, (0, 1))
            if _without_its_best_places(one, other) < ELSEWHERE:
                best[number] = 0.0
        found.append(best)
    return np.concatenate(found)


def _without_its_best_places(one: Maps, other: Maps) -> float:
    """The correlation of two glances as they lie, without the quarter of places where it is greatest.

    Of the places where either shows anything: a narrow part fills few.
    """
    common, power, other_power = (_by_place(part) for part in (one * other, one * one, other * other))
    shown = np.flatnonzero(power + other_power > EMPTY * (power + other_power).max())
    kept = shown[np.argsort(-common[shown])[len(shown) // 4 :]]
    return float(common[kept].sum() / np.sqrt(power[kept].sum() * other_power[kept].sum() + 1e-12))


def _by_place(values: Maps) -> Maps:
    """The sums over PLACES x PLACES places."""
    side = SIDE_PX // PLACES
    return np.asarray(values.reshape(PLACES, side, PLACES, side).sum((1, 3)).ravel(), np.float32)


def _length(spectrum: NDArray[np.complex64]) -> float:
    """Of the whole spectrum, of which the half that mirrors the other is not kept."""
    power = np.square(np.abs(spectrum))
    return float(np.sqrt(2 * power.sum() - power[:, 0].sum() - power[:, -1].sum())) + 1e-6


def _joined(count: int, pairs: Pairs, correlations: NDArray[np.float64]) -> NDArray[np.intp]:
    """(n,) numbers of groups, whose members correlate one with the next."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    bar = SAME
    while True:
        ones, others = pairs[correlations >= bar].T
        graph = coo_array((np.ones(len(ones)), (ones, others)), shape=(count, count))
        number = connected_components(graph, directed=False)[1]
        if bar >= 1 or np.bincount(number).max() <= max(1, MOST_TOGETHER * count):
            return np.asarray(number, np.intp)
        bar += STEP
