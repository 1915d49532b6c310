"""The same bytes however often a preparation is interrupted, and nothing trusted that is damaged."""

import json
import os
from pathlib import Path

import pytest

import sagan.data.partial as module
from sagan.data.prepare import prepare
from sagan.data.recipe import Recipe
from sagan.data.sources.open import open_source
from tests.data.made import ANIMALS, Pictures, content, menagerie, pairs, quiet, reference


@pytest.mark.parametrize("stop_at", [0, 1, 3, 4, 7, 8, 17, 29])
def test_an_interrupted_preparation_goes_on_and_ends_in_the_same_bytes(stop_at, chunks, tmp_path):
    source = Pictures(bad=[2, 11])
    source.stop_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        prepare(source, Recipe(8), tmp_path / "store", workers=1, **quiet)
    assert not (tmp_path / "store").exists()
    assert (tmp_path / "store.partial").is_dir()
    source.stop_at, source.reads, said = None, 0, []
    prepare(source, Recipe(8), tmp_path / "store", warn=said.append)
    assert content(tmp_path / "store") == reference(tmp_path)
    assert source.reads == 30 - stop_at // 4 * 4  # whole chunks are not read again
    assert any("resuming an interrupted preparation" in sentence for sentence in said) == (stop_at >= 4)
    assert not (tmp_path / "store.partial").exists()


def test_it_may_be_interrupted_again_and_again(chunks, tmp_path):
    source = Pictures(bad=[2, 11])
    for source.stop_at in (5, 9, 9, 21, 28):
        with pytest.raises(KeyboardInterrupt):
            prepare(source, Recipe(8), tmp_path / "store", **quiet)
    source.stop_at = None
    prepare(source, Recipe(8), tmp_path / "store", **quiet)
    assert content(tmp_path / "store") == reference(tmp_path)


def test_labels_are_right_after_an_interruption_and_a_move(chunks, tmp_path):
    menagerie(tmp_path, "folder")

    def stop(done, total):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(open_source(tmp_path / "zoo"), Recipe(8), tmp_path / "store", progress=stop, **quiet)
    (tmp_path / "else").mkdir()
    moved = (tmp_path / "zoo").rename(tmp_path / "else" / "zoo")
    said = []
    store = prepare(open_source(moved), Recipe(8), tmp_path / "store", warn=said.append)
    assert said[0] == "resuming an interrupted preparation: 8 of 11 images done"
    assert pairs(store) == ANIMALS


def test_a_partial_of_an_earlier_version_is_not_gone_on_from(chunks, tmp_path):
    source, journal = Pictures(bad=[2, 11]), tmp_path / "store.partial" / "journal.jsonl"
    source.stop_at = 20
    with pytest.raises(KeyboardInterrupt):
        prepare(source, Recipe(8), tmp_path / "store", **quiet)
    first, *lines = map(json.loads, journal.read_text().splitlines())
    old = [first, *({key: value for key, value in line.items() if key != "unused"} for line in lines)]
    journal.write_text("".join(json.dumps(line) + "\n" for line in old))
    source.stop_at = None
    prepare(source, Recipe(8), tmp_path / "store", **quiet)
    assert content(tmp_path / "store") == reference(tmp_path)


def test_labels_of_a_partial_do_not_stay_for_another_source(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(Pictures(), Recipe(8), tmp_path / "store", **quiet)
    assert (tmp_path / "store.partial" / "labels.npy").exists()
    store = prepare(Pictures(identity="others:1", kinds=()), Recipe(8), tmp_path / "store", **quiet)
    assert set(content(store.folder)) == {"images.npy", "meta.json", "names.json"}
    assert store.labels is None


@pytest.mark.parametrize("step", ["write_all", "rename", "replace", "fsync"])
@pytest.mark.parametrize("after", range(0, 20, 3))
def test_a_stop_at_any_write_loses_nothing(step, after, chunks, tmp_path, monkeypatch):
    """The power fails at the n-th write, flush or rename; a write may also have reached the disk by half."""
    owner = {"write_all": module, "rename": Path, "replace": Path, "fsync": os}[step]
    real, calls = getattr(owner, step), []

    def failing(*arguments):
        calls.append(None)
        if len(calls) > after:
            if step == "write_all":
                real(arguments[0], arguments[1][: len(arguments[1]) // 2])
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, failing)
        try:
            prepare(Pictures(bad=[2, 11]), Recipe(8), tmp_path / "store", **quiet)
        except KeyboardInterrupt:
            assert not (tmp_path / "store").exists()
    prepare(Pictures(bad=[2, 11]), Recipe(8), tmp_path / "store", **quiet)
    assert content(tmp_path / "store") == reference(tmp_path)


def spoil_pixels(partial):
    data = bytearray((partial / "images.npy").read_bytes())
    data[128 + 5 * 192] ^= 1  # in the second chunk
    (partial / "images.npy").write_bytes(data)


def shorten_pixels(partial):
    data = (partial / "images.npy").read_bytes()
    (partial / "images.npy").write_bytes(data[: 128 + 5 * 192])


def tear_journal(partial):
    data = (partial / "journal.jsonl").read_bytes()
    (partial / "journal.jsonl").write_bytes(data[:-20])


def tear_last_byte(partial):
    data = (partial / "journal.jsonl").read_bytes()
    (partial / "journal.jsonl").write_bytes(data[:-1])


def add_pixels(partial):
    with (partial / "images.npy").open("ab") as file:
        file.write(b"half a chunk")


def remove_pixels(partial):
    (partial / "images.npy").unlink()


def blank_journal(partial):
    (partial / "journal.jsonl").write_bytes(b"\0" * 600)


@pytest.mark.parametrize(
    "damage", [spoil_pixels, shorten_pixels, tear_journal, tear_last_byte, add_pixels, remove_pixels, blank_journal]
)
def test_a_damaged_partial_is_trusted_only_as_far_as_it_is_whole(damage, chunks, tmp_path):
    source = Pictures(bad=[2, 11])
    source.stop_at = 25
    with pytest.raises(KeyboardInterrupt):
        prepare(source, Recipe(8), tmp_path / "store", **quiet)
    damage(tmp_path / "store.partial")
    source.stop_at = 29  # a second time, so that what the repair leaves behind is gone on from too
    with pytest.raises(KeyboardInterrupt):
        prepare(source, Recipe(8), tmp_path / "store", **quiet)
    source.stop_at, source.reads = None, 0
    prepare(source, Recipe(8), tmp_path / "store", **quiet)
    assert source.reads == 2
    assert content(tmp_path / "store") == reference(tmp_path)


@pytest.mark.parametrize(
    ("identity", "recipe"), [("pictures:2", Recipe(8)), ("pictures:1", Recipe(4)), ("pictures:1", Recipe(8, "12"))]
)
def test_a_partial_of_another_source_or_recipe_is_started_over(identity, recipe, chunks, tmp_path):
    source = Pictures()
    source.stop_at = 20
    with pytest.raises(KeyboardInterrupt):
        prepare(source, Recipe(8), tmp_path / "store", **quiet)
    said, other = [], Pictures(identity=identity)
    prepare(other, recipe, tmp_path / "store", warn=said.append)
    assert other.reads == 30
    assert "another source or recipe, or damaged: starting over" in said[0]
    assert content(tmp_path / "store") == content(prepare(other, recipe, tmp_path / "straight").folder)


GOOD = {"read": 9, "count": 8, "enlarged": 0, "skipped": [{"name": "x", "reason": "y"}], "unused": [3], "sha256": "0"}
BAD = [
    5, float("nan"), True, "unused", ["unused"], {}, {"unused": []}, GOOD | {"read": None}, GOOD | {"count": "x"},
    GOOD | {"count": 5.5}, GOOD | {"count": 10**30}, GOOD | {"count": -1}, GOOD | {"read": 999}, GOOD | {"read": -5},
    GOOD | {"enlarged": -5}, GOOD | {"unused": 5}, GOOD | {"unused": [-1]}, GOOD | {"unused": [99]},
    GOOD | {"unused": []},
    GOOD | {"skipped": [{"a": 1}]}, GOOD | {"skipped": [{"name": 5, "reason": []}]}, GOOD | {"sha256": None},
]  # fmt: skip


@pytest.mark.parametrize("line", [*map(json.dumps, BAD), "[" * 100_000, '{"a":' * 100_000], ids=lambda line: line[:40])
def test_a_journal_line_that_makes_no_sense_is_where_the_work_starts_again(line, chunks, tmp_path):
    whole = prepare(Pictures(30, bad=[4]), Recipe(8), tmp_path / "whole", **quiet)
    source = Pictures(30, bad=[4])
    source.stop_at = 25
    with pytest.raises(KeyboardInterrupt):
        prepare(source, Recipe(8), tmp_path / "store", **quiet)
    source.stop_at = None
    journal = tmp_path / "store.partial" / "journal.jsonl"
    first, second, *rest = journal.read_text().splitlines(keepends=True)
    for lines in ([first, line + "\n", second], [first, second, line + "\n", *rest]):
        journal.write_text("".join(lines))
        store = prepare(source, Recipe(8), tmp_path / "store", **quiet)
        assert content(store.folder) == content(whole.folder)
        store.folder.rename(tmp_path / "store.partial")
        (tmp_path / "store.partial" / "meta.json").unlink()
