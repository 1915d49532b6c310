"""Images that are the same, or nearly: found without comparing each with each."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from sagan.doctor.figures import HASH_SIDE, Rows

NEAR = 18  # bits of 256 in which the hashes of near duplicates differ at most: see docs/doctor.md
_CROWD = 500  # images with one row in common that are compared with each other; of more, each with so many

Numbers = npt.NDArray[np.intp]


def near_pairs(rows: Rows, most: int = NEAR) -> tuple[Numbers, Numbers]:
    """The pairs of hashes, of shape (count, 16), that differ in ``most`` bits or fewer, of shape (pairs, 2) with the
    smaller number first; and in how many bits.

    Two hashes are compared where one of their rows is the same, and not plain. So all pairs are found that differ in
    fewer bits than there are rows with edges, and nearly all that differ in a few more: if 18 bits fall on 16 rows by
    chance, 99 pairs of 100 have a row without any.
    """
    found = [np.empty((0, 2), np.intp)]
    for row in range(HASH_SIDE):
        following = [rows[:, (row + after) % HASH_SIDE] for after in range(HASH_SIDE)]
        order = np.lexsort(following[::-1])  # in a crowd, those that are alike in the rows after it are neighbours
        order = order[rows[order, row] != 0]
        keys = rows[order, row]
        places = np.arange(len(order))
        for apart in range(1, _CROWD):
            places = places[places + apart < len(order)]
            places = places[keys[places] == keys[places + apart]]
            if not len(places):
                break
            pairs = np.stack([order[places], order[places + apart]], 1)
            found.append(pairs[_distance(rows, pairs) <= most])
    pairs = np.unique(np.sort(np.concatenate(found), 1), axis=0)
    return pairs, _distance(rows, pairs)


def _distance(rows: Rows, pairs: Numbers) -> Numbers:
    bits: Numbers = np.bitwise_count(rows[pairs[:, 0]] ^ rows[pairs[:, 1]]).sum(1, dtype=np.intp)
    return bits


def groups_of(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The numbers that pairs connect, the largest group first."""
    above: dict[int, int] = {}

    def top(number: int) -> int:
        while above.setdefault(number, number) != number:
            above[number] = number = above[above[number]]
        return number

    for one, other in pairs:
        first, second = sorted((top(one), top(other)))
        above[second] = first
    groups: dict[int, list[int]] = {}
    for number in sorted(above):
        groups.setdefault(top(number), []).append(number)
    return sorted(groups.values(), key=len, reverse=True)


def equal_groups(pixels: npt.NDArray[np.void], numbers: Numbers) -> list[list[int]]:
    """Of the images with these numbers, groups with the same digest of pixels, the largest first."""
    same: dict[bytes, list[int]] = {}
    for number in numbers.tolist():
        same.setdefault(pixels[number].tobytes(), []).append(number)
    return sorted((group for group in same.values() if len(group) > 1), key=len, reverse=True)
