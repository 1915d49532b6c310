"""Places from which a trained generator is taken."""

from pathlib import Path

import pytest

from sagan.run.build import build_generator
from sagan.run.config import Config, ModelConfig
from sagan.run.folder import Run
from sagan.run.places import MODEL, find_snapshot, pretrained_card, pretrained_names
from sagan.run.weights import Snapshot, load_snapshot, save_snapshot
from sagan.system.errors import UserError

CONFIG = Config(model=ModelConfig(imsize=16, z_dim=4, g_conv_dim=8, d_conv_dim=8))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    save_snapshot(tmp_path / "model" / MODEL, Snapshot(build_generator(CONFIG.model), CONFIG, 3))
    return tmp_path / "model"


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", CONFIG)


def snapshots(folder, *steps):
    (folder / "snapshots").mkdir(parents=True)
    for step in steps:
        Run(folder).snapshot_file(step).touch()


def test_the_newest_snapshot_or_that_of_a_step(run):
    snapshots(run.folder, 5, 10, 100)
    assert find_snapshot(run.folder) == run.snapshot_file(100)
    assert find_snapshot(run.folder, 10) == run.snapshot_file(10)
    with pytest.raises(UserError, match="no snapshot of step 7, only of 5, 10, 100"):
        find_snapshot(run.folder, 7)


def test_a_snapshot_file_is_itself(run):
    snapshots(run.folder, 5)
    assert find_snapshot(run.snapshot_file(5)) == run.snapshot_file(5)
    with pytest.raises(UserError, match="is one snapshot"):
        find_snapshot(run.snapshot_file(5), 3)


def test_an_import_without_a_run_has_snapshots_too(tmp_path):
    snapshots(tmp_path / "imported", 5)
    assert find_snapshot(tmp_path / "imported").stem == "00000005"


def test_a_run_without_snapshots_says_when_they_come(run):
    with pytest.raises(UserError, match="no snapshot yet"):
        find_snapshot(run.folder)


def test_an_exported_folder_is_its_snapshot(folder):
    assert find_snapshot(folder) == folder / MODEL == find_snapshot(folder / MODEL)
    with pytest.raises(UserError, match="is one snapshot: step chooses among those of a run's folder"):
        find_snapshot(folder, step=3)


@pytest.mark.parametrize("name", pretrained_names())
def test_a_model_of_the_package_is_small_and_has_a_card(name):
    path = find_snapshot(Path(f"pretrained:{name}"))
    assert path.stat().st_size < 4_000_000
    assert load_snapshot(path).step > 0
    assert pretrained_card(name).startswith("---\nlibrary_name: sagan")


def test_a_model_that_is_not_in_the_package_is_named():
    with pytest.raises(UserError, match=r"no pretrained model 'face64'; there is faces64: did you mean faces64\?"):
        find_snapshot(Path("pretrained:face64"))


# ---- the hub, by its cache alone

hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def keep(cache, name, file, commit="a" * 40):
    """Puts a file into the cache, as a download would."""
    place = cache / f"models--{name.replace('/', '--')}"
    (place / "blobs").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "snapshots" / commit).mkdir(parents=True)
    (place / "blobs" / "b").write_bytes(file.read_bytes())
    (place / "refs" / "main").write_text(commit)
    (place / "snapshots" / commit / MODEL).symlink_to("../../blobs/b")


def test_a_model_in_the_cache_needs_no_network(cache, folder):
    keep(cache, "me/faces", folder / MODEL)
    for name in ("hf:me/faces", f"hf:me/faces@{'a' * 40}"):
        assert load_snapshot(find_snapshot(Path(name))).step == 3


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("hf:me/other", "hf:me/other cannot be fetched: the hub cannot be reached, and it is not in its cache"),
        ("hf:no/such/name", "is no name of a model on the hub"),
        ("hf:", "is no name of a model on the hub"),
        ("hf:me/fa ces", "is no name of a model on the hub"),
    ],
)
def test_what_cannot_be_fetched_is_a_sentence(cache, name, sentence):
    with pytest.raises(UserError, match=sentence):
        find_snapshot(Path(name))


def errors():
    from huggingface_hub import errors as of_the_hub

    answer = type("Answer", (), {"headers": {}, "request": None, "status_code": 404})()
    yield of_the_hub.RepositoryNotFoundError("no", response=answer), "is not on the hub, or private"
    yield of_the_hub.RevisionNotFoundError("no", response=answer), "has no revision 'old'"
    yield of_the_hub.RemoteEntryNotFoundError("no", response=answer), "has no model.safetensors"
    yield ConnectionError("down"), "cannot be fetched: down"


@pytest.mark.parametrize(("error", "sentence"), list(errors()))
def test_answers_of_the_hub_are_sentences(error, sentence, monkeypatch):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(hub, "hf_hub_download", fail)
    with pytest.raises(UserError, match=sentence):
        find_snapshot(Path("hf:me/faces@old"))
