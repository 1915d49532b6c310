import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from sagan.data.sources.decode import decode
from sagan.evaluation import curves, snapshots
from sagan.evaluation.snapshots import Scorer
from sagan.evaluation.tables import score_table
from sagan.run.build import build_generator
from sagan.run.config import override
from sagan.run.records import ScoreRecord
from sagan.run.scores import best_score, read_scores
from sagan.run.weights import Snapshot, save_snapshot
from sagan.system.console import Console
from sagan.system.errors import UserError
from tests.evaluation.conftest import CONFIG


@pytest.fixture
def scorer(extractor, reference):
    return Scorer(extractor, reference, samples=40, repeats=2)


def test_scores_go_into_the_records_with_their_card(run, scorer):
    scorer.score_snapshot(run, run.snapshot_file(10), Console(quiet=True))
    records = {record.metric: record for record in run.records()}
    assert {"frechet", "kernel", "precision", "recall", "density", "coverage"} <= set(records)
    score = records["frechet"]
    assert (score.card.samples, score.card.reference_count, score.card.extractor) == (40, 120, "random-conv")
    assert score.step == 10
    assert score.spread > 0
    assert score.floor > 0
    assert score.floor_samples == 60
    assert score.seconds > 0


def test_the_seconds_of_a_record_are_those_of_the_whole_score(run, scorer):
    def slow(images):
        time.sleep(0.1)
        return scorer.extractor.forward(images)

    patient = dataclasses.replace(scorer, extractor=dataclasses.replace(scorer.extractor, forward=slow, batch_size=10))
    began = time.monotonic()
    patient.score_snapshot(run, run.snapshot_file(10), Console(quiet=True))
    whole = time.monotonic() - began
    seconds = {record.seconds for record in run.records()}
    assert len(seconds) == 1
    assert 0.8 <= seconds.pop() <= whole  # two draws of 40 images, 10 at a time


def test_a_snapshot_scores_the_same_twice(run, scorer):
    one = scorer.score_snapshot(run, run.snapshot_file(10), Console(quiet=True))
    other = scorer.score_snapshot(run, run.snapshot_file(10), Console(quiet=True))
    assert one == other


def test_the_table_says_how_many_real_images_the_floor_is_of(run, scorer):
    table = score_table(scorer.score_snapshot(run, run.snapshot_file(10), Console(quiet=True)))
    assert table[0][2] == "real halves against each other (60 vs 60)"
    rows = {row[0]: row[2] for row in table}
    assert rows["Distance to the nearest of 120 real images, median (random-conv)"].endswith("(120 real images)")
    assert rows["Eyes found"].endswith("(40 real images)")


def test_what_is_scored_is_known(run, scorer):
    assert scorer.scored_steps(run) == set()
    scorer.score_snapshot(run, run.snapshot_file(10), Console(quiet=True))
    assert scorer.scored_steps(run) == {10}
    for change in ({"samples": 50}, {"seed": 5}, {"repeats": 3}):
        assert dataclasses.replace(scorer, **change).scored_steps(run) == set()


def test_other_weights_of_a_step_are_not_scored_yet(run, scorer):
    scorer.score_snapshot(run, run.snapshot_file(10), Console(quiet=True))
    save_snapshot(run.snapshot_file(10), Snapshot(build_generator(CONFIG.model, seed=99), CONFIG, 10))
    assert scorer.scored_steps(run) == set()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b'"repeats": 2, ', b"", "is damaged: repeats missing"),
        (b'"repeats"', b'"colour": 1, "repeats"', "was written by a newer sagan: this version does not know colour"),
    ],
)
def test_a_score_that_cannot_be_read_is_named_by_its_line(run, scorer, old, new, said):
    scorer.score_snapshot(run, run.snapshot_file(10), Console(quiet=True))
    lines = run.records_file.read_bytes().splitlines(keepends=True)
    run.records_file.write_bytes(b"".join([lines[0], lines[1].replace(old, new), *lines[2:]]))
    for use in (lambda: scorer.scored_steps(run), lambda: best_score(run).step):
        with pytest.raises(ValueError, match=rf"run/records\.jsonl, line 2, card, {said}$"):
            use()


def test_the_last_step_scored_with_more_samples_leaves_the_curve_whole(run, scorer, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        curves, "_draw", lambda group, notes, folder, name: drawn.update({name: [s.step for s in group]})
    )
    for step in (10, 20):
        scorer.score_snapshot(run, run.snapshot_file(step), Console(quiet=True))
    more = dataclasses.replace(scorer, samples=80)
    more.score_snapshot(run, run.snapshot_file(20), Console(quiet=True))
    assert drawn == {"frechet": [10, 20]}
    assert curves.draw_curves(run, run.folder) == ["not in this curve: 1 score of step 20 (samples 80, not 40)"]
    more.score_snapshot(run, run.snapshot_file(10), Console(quiet=True))
    assert drawn == {"frechet": [10, 20], "frechet-2": [10, 20]}


def test_the_best_step_is_looked_for_among_most_like_scores(run, scorer):
    values = {}
    for step in (10, 20):
        values[step] = scorer.score_snapshot(run, run.snapshot_file(step), Console(quiet=True))[0].value
    worst = max(values, key=values.get)
    dataclasses.replace(scorer, samples=80).score_snapshot(run, run.snapshot_file(worst), Console(quiet=True))
    assert best_score(run).step == min(values, key=values.get)


def test_pictures_are_drawn(run, scorer):
    for step in (10, 20):
        scorer.score_snapshot(run, run.snapshot_file(step), Console(quiet=True))
    folder = run.folder / "evaluation"
    assert {path.name for path in folder.iterdir()} == {
        "10_nearest_random-conv.png",
        "20_nearest_random-conv.png",
        "frechet.png",
        "frechet.svg",
    }
    assert Image.open(folder / "10_nearest_random-conv.png").size == (8 * 18 + 2, 8 * 18 + 2 + 20), "with a line below"
    assert Image.open(folder / "frechet.png").size == (960, 600)
    for path in folder.glob("*.png"):
        with pytest.raises(UserError, match="it is a picture that sagan wrote"):  # wherever it is copied to
            decode(path.read_bytes(), "it")


def test_of_two_that_score_one_run_only_one_draws_its_curve(run, scorer, monkeypatch):
    inside, most = [], []

    def slowly(*arguments, **words):
        inside.append(1)
        time.sleep(0.2)
        most.append(len(inside))
        inside.pop()
        return []

    monkeypatch.setattr(snapshots, "draw_curves", slowly)
    with ThreadPoolExecutor(2) as pool:
        paths = [run.snapshot_file(step) for step in (10, 20)]
        list(pool.map(lambda path: scorer.score_snapshot(run, path, Console(quiet=True)), paths))
    assert most == [1, 1]
    assert scorer.scored_steps(run) == {10, 20}


@pytest.mark.parametrize("change", [{"g_conv_dim": 16}, {"seed": 7}, {"g_lr": 0.5}, {"crop": "squash"}])
def test_a_snapshot_of_another_run_is_refused(run, scorer, tmp_path, change):
    other = override(CONFIG, change)
    path = tmp_path / "other.safetensors"
    save_snapshot(path, Snapshot(build_generator(other.model), other, 5))
    with pytest.raises(ValueError, match=f"is not of the run in .*: it was trained with {next(iter(change))} "):
        scorer.score_snapshot(run, path, Console(quiet=True))


def test_a_snapshot_of_a_run_that_went_on_longer_is_its_own(run, scorer):
    longer = override(CONFIG, {"total_step": 7, "data": "elsewhere", "device": "cpu"})
    save_snapshot(run.snapshot_file(30), Snapshot(build_generator(CONFIG.model), longer, 30))
    scorer.score_snapshot(run, run.snapshot_file(30), Console(quiet=True))
    assert scorer.scored_steps(run) == {30}


def test_images_that_are_no_numbers_are_refused(run, scorer):
    generator = build_generator(CONFIG.model)
    for parameter in generator.parameters():
        parameter.data.mul_(1e30)  # finite, but what comes of them is not
    save_snapshot(run.snapshot_file(30), Snapshot(generator, CONFIG, 30))
    with pytest.raises(ValueError, match="the generator's images are NaN or infinite"):
        scorer.score_snapshot(run, run.snapshot_file(30), Console(quiet=True))
    assert run.records() == []


def test_of_several_that_score_a_snapshot_at_once_one_does(run, scorer):
    paths = [run.snapshot_file(10)] * 3
    scorer.score_once(run, paths[0], Console(quiet=True))
    assert scorer.score_once(run, paths[0], Console(quiet=True)) is None
    assert scorer.score_once(run, paths[0], Console(quiet=True), again=True) is not None
    assert len(read_scores(run, "frechet")) == 2
    with ThreadPoolExecutor(3) as pool:
        made = list(
            pool.map(lambda path: scorer.score_once(run, path, Console(quiet=True)), [run.snapshot_file(20)] * 3)
        )
    assert sum(scores is not None for scores in made) == 1


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_scores_of_which_a_killed_process_wrote_a_part_are_made_anew(run, scorer, share):
    scorer.score_once(run, run.snapshot(), Console(quiet=True))
    whole, scores = run.records_file.read_bytes(), run.records_of(ScoreRecord)
    before = whole.index(b'{"kind": "score"')
    run.records_file.write_bytes(whole[: before + int(share * (len(whole) - before))])
    scorer.score_once(run, run.snapshot(), Console(quiet=True))
    again = [dataclasses.replace(score, seconds=scores[0].seconds) for score in run.records_of(ScoreRecord)]
    assert again == scores
