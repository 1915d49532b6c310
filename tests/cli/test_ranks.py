"""Commands that several processes carry out together: what they write is that of one process."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from sagan.cli import main
from tests import ranks
from tests.evaluation.conftest import make_run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are forked")


def command(rank, words, others):
    return main([*words, *others] if rank else words)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run and real images."""
    folder = tmp_path_factory.mktemp("made")
    make_run(folder / "run")
    (folder / "real").mkdir()
    for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (70, 16, 16, 3)).astype(np.uint8)):
        Image.fromarray(image).save(folder / "real" / f"{number}.png")
    return folder


def carry_out(size, words, others=()):
    return ranks.finish(ranks.start(size, command, [str(word) for word in words], list(others)))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def scores(run):
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def test_scores_are_those_of_one_process(made, tmp_path):
    for size in (1, 3):
        place = tmp_path / str(size)
        shutil.copytree(made / "run", place / "run")
        what = ["--reference", made / "real", "--extractor", "random-conv", "--num", 70, "--repeats", 2]
        ended = carry_out(size, ["evaluate", place / "run", *what, "--prepared", place / "prepared"])
        assert ended.results == [0] * size
    assert scores(tmp_path / "1" / "run") == scores(tmp_path / "3" / "run")
    assert len({record["step"] for record in scores(tmp_path / "3" / "run")}) == 2
    assert contents(tmp_path / "1" / "run") == contents(tmp_path / "3" / "run")


def test_images_are_those_of_one_process(made, tmp_path):
    for size in (1, 3):
        what = ["--out", tmp_path / str(size), "--num", 10, "--batch_size", 2, "--seed", 1]
        assert carry_out(size, ["sample", made / "run", *what]).results == [0] * size
    assert contents(tmp_path / "1") == contents(tmp_path / "3")
    assert len(contents(tmp_path / "3")) == 10


def test_processes_that_would_mix_images_are_refused(made, tmp_path):
    words = ["sample", made / "run", "--out", tmp_path / "out"]
    ended = carry_out(2, words, ["--seed", "1"])
    assert ended.results == [2, 2]
    assert ended.said == ["error: rank 1 has seed 1, and rank 0 0: all need the same\n", ""]
    assert not (tmp_path / "out").exists()


def test_processes_that_would_mix_scores_are_refused(made, tmp_path):
    words = ["evaluate", made / "run", "--reference", made / "real", "--prepared", tmp_path, "--num", 40]
    ended = carry_out(2, [*words, "--extractor", "random-conv"], ["--seed", "1"])
    assert ended.results == [2, 2]
    assert ended.said == ["error: rank 1 has seed 1, and rank 0 0: all need the same\n", ""]


def test_what_one_process_does_not_understand_is_said_once(made):
    ended = carry_out(2, ["evaluate", made / "run"], ["--sede", "1"])
    assert ended.results == [2, 2]
    assert ended.said[0].startswith("error: rank 1: there is no flag --sede")
    assert ended.said[1] == ""
