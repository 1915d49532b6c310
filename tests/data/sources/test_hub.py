"""Data sets on the hub, from its cache."""

from pathlib import Path

import pytest

from sagan.data import open_source
from sagan.run.config import Config, DataConfig, with_absolute_paths, without_places
from sagan.system.errors import UserError
from tests.data.sources.made import classes, encoded, make_tar, picture


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache, and no network."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def keep(cache: Path, name: str, files: dict[str, bytes], commit: str = "a" * 40) -> None:
    """Puts a data set into the cache, as a download would."""
    place = cache / f"datasets--{name.replace('/', '--')}"
    (place / "blobs").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    for number, (file, content) in enumerate(files.items()):
        (place / "blobs" / str(number)).write_bytes(content)
        link = place / "snapshots" / commit / file
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(place / "blobs" / str(number))


IMAGES = {f"{kind}/{number}.png": encoded(picture(number)) for number, kind in enumerate(("cat", "dog", "cat"))}


def test_the_images_of_a_data_set_in_the_cache(cache):
    keep(cache, "me/pets", {"README.md": b"pets", "pets.py": b"raise SystemExit", **IMAGES})
    for name in ("hf:me/pets", f"hf:me/pets@{'a' * 40}", Path("hf:me/pets")):
        source = open_source(name)
        assert classes(source) == ["cat", "cat", "dog"]
        assert source.identity.startswith("pets:")


def test_its_splits_and_its_packed_files(cache, tmp_path):
    keep(cache, "me/split", {f"{split}/{name}": data for split in ("train", "test") for name, data in IMAGES.items()})
    assert len(open_source("hf:me/split")) == 3
    tar = make_tar(tmp_path / "a.tar", IMAGES).read_bytes()
    keep(cache, "me/shards", {f"data/{name}.tar": tar for name in ("train-0", "train-1", "test-0")})
    source = open_source("hf:me/shards")
    assert (len(source), source.identity.partition(":")[0]) == (6, "shards")
    assert len(open_source("hf:me/shards", split="test")) == 3


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("hf:me/other", "hf:me/other cannot be fetched: the hub cannot be reached, and it is not in its cache"),
        ("hf:no/such/name", "is no name of a data set on the hub"),
        ("hf:me/fa ces", "is no name of a data set on the hub"),
        ("hf:me/text", "hf:me/text holds no images: looked for .parquet"),
    ],
)
def test_what_cannot_be_fetched_is_a_sentence(cache, name, sentence):
    keep(cache, "me/text", {"README.md": b"a text", "train.csv": b"x"})
    with pytest.raises(UserError, match=sentence):
        open_source(name)


def test_its_name_is_no_path():
    config = Config(data=DataConfig(data="hf:me/pets"))
    assert with_absolute_paths(config).data.data == without_places(config).data.data == "hf:me/pets"
