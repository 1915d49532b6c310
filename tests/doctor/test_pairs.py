"""Near pairs: what is found is what comparing all with all finds."""

import numpy as np

from sagan.doctor.pairs import equal_groups, groups_of, near_pairs


def hashes(count, seed=0):
    return np.random.default_rng(seed).integers(1, 2**16, (count, 16)).astype(np.uint16)


def with_flips(rows, bits, seed=0):
    """Copies that differ in so many bits, at random."""
    random, words = np.random.default_rng(seed), np.unpackbits(rows.astype(">u2").view(np.uint8), axis=1)
    for word in words:
        word[random.choice(256, bits, replace=False)] ^= 1
    return np.packbits(words, axis=1).view(">u2").astype(np.uint16)


def brute(rows, most):
    apart = np.bitwise_count(rows[:, None] ^ rows[None]).sum(-1, dtype=int)
    return {(a, b) for a in range(len(rows)) for b in range(a + 1, len(rows)) if apart[a, b] <= most}


def test_every_pair_within_fewer_bits_than_rows_is_found():
    first = hashes(60)
    rows = np.concatenate([first, with_flips(first, 15), with_flips(first[:9], 3)])
    pairs, bits = near_pairs(rows, 15)
    assert {tuple(pair) for pair in pairs.tolist()} == brute(rows, 15)
    assert sorted(set(bits.tolist()))[-1] == 15
    assert len(pairs) >= (60 + 9)


def test_nearly_all_pairs_within_a_few_more_bits_are_found():
    first = hashes(500)
    pairs, bits = near_pairs(np.concatenate([first, with_flips(first, 18)]))
    assert len(pairs) >= 0.98 * 500
    assert (bits == 18).all()


def test_plain_rows_bring_no_pairs():
    """Half of each image is a plain ground, in which all agree."""
    rows = hashes(300)
    rows[:, :8] = 0
    assert len(near_pairs(rows)[0]) == 0


def test_a_crowd_takes_no_square_of_time(monkeypatch):
    monkeypatch.setattr("sagan.doctor.pairs._CROWD", 8)
    rows = hashes(400)
    rows[:, 3] = 77
    rows[200:] = with_flips(rows[:200], 2)
    assert len(near_pairs(rows)[0]) >= 190


def test_groups_are_what_pairs_connect():
    assert groups_of([(5, 1), (2, 3), (1, 9), (9, 4)]) == [[1, 4, 5, 9], [2, 3]]
    assert groups_of([]) == []


def test_equal_pixels_are_grouped():
    pixels = np.array([b"a" * 16, b"b" * 16, b"a" * 16, b"b" * 16, b"a" * 16, b"c" * 16]).view("V16")
    assert equal_groups(pixels, np.arange(6)) == [[0, 2, 4], [1, 3]]
    assert equal_groups(pixels, np.array([0, 1])) == []
