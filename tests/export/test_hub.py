"""Folders for the hub."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import sagan
from sagan.export.hub import export_hub, push
from sagan.run.records import ScoreRecord
from sagan.system.console import Console
from sagan.system.errors import UserError
from tests.evaluation.conftest import *  # noqa: F403 - a run, a reference and an extractor

hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def scored(run, extractor, reference):
    from sagan.evaluation.snapshots import Scorer

    Scorer(extractor, reference, samples=40).score_snapshot(run, run.snapshot_file(20), Console(quiet=True))
    return run


def test_the_folder_draws_what_the_run_draws(run, tmp_path):
    export_hub(run.folder, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "samples.png",
    ]
    np.testing.assert_array_equal(sagan.load(tmp_path / "out").sample(5), sagan.load(run.folder).sample(5))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["model_type"], config["step"], config["model"]["imsize"]) == ("sagan", 20, 16)
    assert Image.open(tmp_path / "out" / "samples.png").size[0] >= 8 * 16


def test_half_precision_is_half_the_size_and_nearly_the_same(run, tmp_path):
    whole, half = (export_hub(run.folder, tmp_path / name, half=name == "half") for name in ("whole", "half"))
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert 0.4 < sizes[1] / sizes[0] < 0.6
    z = torch.randn(4, 4)
    torch.testing.assert_close(half.generator(z), whole.generator(z), atol=0.02, rtol=0)
    assert all(value.dtype != torch.half for value in half.generator.state_dict().values())


def test_the_card_says_what_is_known(scored, tmp_path):
    export_hub(scored.folder, tmp_path / "out", license="mit", name="my | <faces>")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith('---\nlibrary_name: sagan\npipeline_tag: unconditional-image-generation\nlicense: "mit"\n')
    assert "# my \\| &lt;faces\\>" in card
    assert "* discriminator 8x8: span 0, a query sees 100% of the keys" in card
    (score,) = (each for each in scored.records_of(ScoreRecord) if each.metric == "frechet")
    assert f"| {score.value:.4g} | {score.floor:.4g} | 40 | 120 | random-conv |" in card
    assert str(tmp_path) not in card


def test_scores_of_another_snapshot_are_not_its_own(scored, tmp_path):
    export_hub(scored.folder, tmp_path / "out", step=10)
    assert "None yet" in (tmp_path / "out" / "README.md").read_text()


def test_nothing_is_left_where_it_cannot_be_written(run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="is there already"):
        export_hub(run.folder, tmp_path / "full")
    with pytest.raises(UserError, match="no snapshot of step 15"):
        export_hub(run.folder, tmp_path / "new", step=15)
    assert sorted(tmp_path.rglob("*")) == before


class Api:
    """Takes what is pushed."""

    pushed: list = []  # noqa: RUF012

    def __init__(self, **options):
        pass

    def create_repo(self, name, **options):
        return f"https://hub/{name}"

    def upload_folder(self, folder_path, repo_id, **options):
        self.pushed.append((repo_id, sorted(path.name for path in folder_path.iterdir())))


def test_a_folder_is_pushed(run, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "HfApi", Api)
    export_hub(run.folder, tmp_path / "out")
    assert push(tmp_path / "out", "me/faces") == "https://hub/me/faces"
    assert Api.pushed[-1] == ("me/faces", ["README.md", "config.json", "model.safetensors", "samples.png"])


def test_a_push_that_fails_is_a_sentence(tmp_path, monkeypatch):
    def fail(*args, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr(Api, "create_repo", fail)
    monkeypatch.setattr(hub, "HfApi", Api)
    with pytest.raises(UserError, match=r"the hub cannot be reached \(no route\)"):
        push(tmp_path, "me/faces")
