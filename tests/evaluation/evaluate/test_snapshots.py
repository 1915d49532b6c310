import pytest
import torch
from PIL import Image

from sagan.config import override, to_dict
from sagan.console import Console
from sagan.evaluation.card import Card
from sagan.evaluation.evaluate.snapshots import Scorer, scored_steps
from sagan.models.build import build_generator
from sagan.training.loop import save_generator
from tests.evaluation.evaluate.conftest import CONFIG


@pytest.fixture
def scorer(extractor, reference):
    return Scorer(extractor, reference, samples=40, repeats=2)


def test_scores_go_into_the_records_with_their_card(run, scorer):
    scorer.score_snapshot(run, run.snapshot_file(10), Console(quiet=True))
    records = {record["metric"]: record for record in run.records()}
    assert {"frechet", "kernel", "precision", "recall", "density", "coverage"} <= set(records)
    card = Card.from_dict(records["frechet"]["card"])
    assert (card.samples, card.reference_count, card.extractor) == (40, 120, "random-conv")
    assert records["frechet"]["step"] == 10
    assert records["frechet"]["spread"] > 0
    assert records["frechet"]["floor"] > 0


def test_a_snapshot_scores_the_same_twice(run, scorer):
    one = scorer.score_snapshot(run, run.snapshot_file(10), Console(quiet=True))
    other = scorer.score_snapshot(run, run.snapshot_file(10), Console(quiet=True))
    assert one == other


def test_what_is_scored_is_known(run, scorer):
    assert scored_steps(run, scorer.card()) == set()
    scorer.score_snapshot(run, run.snapshot_file(10), Console(quiet=True))
    assert scored_steps(run, scorer.card()) == {10}
    assert scored_steps(run, Scorer(scorer.extractor, scorer.reference, samples=50).card()) == set()


def test_pictures_are_drawn(run, scorer):
    for step in (10, 20):
        scorer.score_snapshot(run, run.snapshot_file(step), Console(quiet=True))
    folder = run.folder / "evaluation"
    assert {path.name for path in folder.iterdir()} == {
        "10_nearest.png",
        "20_nearest.png",
        "frechet.png",
        "frechet.svg",
    }
    assert Image.open(folder / "10_nearest.png").size == (8 * 18 + 2, 8 * 18 + 2)
    assert "generator steps" in (folder / "frechet.svg").read_text() or (folder / "frechet.svg").stat().st_size > 1000


def test_a_snapshot_of_another_run_is_refused(run, scorer, tmp_path):
    other = override(CONFIG, {"g_conv_dim": 16})
    path = tmp_path / "other.safetensors"
    save_generator(path, build_generator(other.model).eval(), other, 5)
    with pytest.raises(ValueError, match="is not of the run in"):
        scorer.score_snapshot(run, path, Console(quiet=True))
    assert to_dict(other) != run.config()


def test_images_that_are_no_numbers_are_refused(run, scorer):
    generator = build_generator(CONFIG.model).eval()
    torch.nn.init.constant_(generator.last.weight, float("nan"))
    save_generator(run.snapshot_file(30), generator, override(CONFIG, {}), 30)
    with pytest.raises(ValueError, match="the generator's images are NaN or infinite"):
        scorer.score_snapshot(run, run.snapshot_file(30), Console(quiet=True))
    assert run.records() == []
