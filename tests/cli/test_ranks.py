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


def by_rank(rank, commands):
    return main(commands[rank])


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        ("sample RUN --out OUT", "sample RUN --out OUT --step 1", "rank 1 has step 1, and rank 0 none"),
        ("sample RUN --out OUT --num 10", "sample RUN --out OUT --num 20", "rank 1 has num 20, and rank 0 10"),
        ("sample RUN --out OUT", "sample RUN --out OUT.png", "rank 1 has out OUT.png, and rank 0 OUT"),
        ("evaluate RUN", "evaluate RUN --truncation 0.5 1", "rank 1 has truncation (0.5, 1.0), and rank 0 ()"),
        ("evaluate RUN", "sample RUN --out OUT", "rank 1 has command sample, and rank 0 evaluate"),
        ("report RUN", "sample RUN --out OUT", "rank 1 has command sample, and rank 0 report"),
        ("sample RUN --out OUT", "report RUN", "rank 1 has command report, and rank 0 sample"),
        ("evaluate RUN", "evaluate .", "rank 1 has target images, and rank 0 a run"),
        ("train --run_dir OUT", "train --run_dir OUT --span 3", "rank 1 has span 3, and rank 0 0"),
        ("train --run_dir OUT", "resume RUN", "rank 1 has command resume, and rank 0 train"),
        ("sample RUN --out OUT", "sample --help", "rank 1 has command help, and rank 0 sample"),
        ("help", "sample RUN --out OUT", "rank 1 has command sample, and rank 0 help"),
        ("resume RUN --total_step 9", "resume RUN", "rank 1 has total_step none, and rank 0 9"),
    ],
)
def test_processes_with_other_words_are_refused_at_once(made, tmp_path, monkeypatch, first, second, sentence):
    def words(line):
        return [word.replace("RUN", str(made / "run")).replace("OUT", str(tmp_path / "OUT")) for word in line.split()]

    ended = ranks.finish(ranks.start(2, by_rank, [words(first), words(second)]), timeout=30)
    assert ended.results == [2, 2]
    assert ended.said == [f"error: {sentence}: all need the same\n", ""]
    assert not list(tmp_path.glob("OUT*"))


def test_spelling_order_and_places_of_flags_may_differ(made, tmp_path):
    one = ["sample", str(made / "run"), "--num", "4", "--out", str(tmp_path / "out")]
    shutil.copytree(made / "run", tmp_path / "elsewhere")
    other = ["sample", "--out=" + str(tmp_path / "out"), "--seed=0", "--num=4", str(tmp_path / "elsewhere")]
    assert ranks.finish(ranks.start(2, by_rank, [one, other])).results == [0, 0]
    assert len(contents(tmp_path / "out")) == 4


def test_what_one_process_does_not_understand_is_said_once(made):
    ended = carry_out(2, ["evaluate", made / "run"], ["--sede", "1"])
    assert ended.results == [2, 2]
    assert ended.said[0].startswith("error: rank 1: there is no flag --sede")
    assert ended.said[1] == ""


def test_images_go_into_one_folder(made, tmp_path, monkeypatch):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    each = [
        ["sample", str(made / "run"), "--num", "4", "--out", str(tmp_path / name / "out")] for name in ("one", "other")
    ]
    ended = ranks.finish(ranks.start(2, by_rank, each))
    assert ended.results == [2, 2]
    assert "is not the folder that rank 0 writes into: --out must be one that all share" in ended.said[0]
    assert not list((tmp_path / "other").iterdir())
