"""The published data sets are found where their downloads unpack."""

import pytest

from sagan.data import find_dataset, open_source
from tests.data.sources.made import SHARED, picture, put


@pytest.mark.parametrize(
    ("dataset", "image_path", "expected", "file"),
    [
        ("celeb", "data", "data/CelebA/img_align_celeba/img_align_celeba", "1.jpg"),
        ("celeb", "data", "data/CelebA/img_align_celeba", "1.jpg"),
        ("celeb", "data", "data/CelebA", "1.jpg"),
        ("celeb", "data", "data/celeba", "faces/1.jpg"),
        ("celeb", "data", "data/img_align_celeba", "1.jpg"),
        ("celeb", "data/img_align_celeba", "data/img_align_celeba", "1.jpg"),
        ("celeb", "photos", "photos", "1.jpg"),
        ("celeb", "data", "data/CelebA/celeba-dataset.zip", ""),
        ("lsun", "data", "data/LSUN/church_outdoor_train_lmdb", "data.mdb"),
        ("lsun", "data", "data/church_outdoor_train_lmdb", "data.mdb"),
        ("lsun", "data/church_outdoor_train_lmdb", "data/church_outdoor_train_lmdb", "data.mdb"),
        ("lsun", "data", "data/CelebA/church_outdoor_train_lmdb", "data.mdb"),
        ("lsun", "data", "data/lsunchurch/in/train_lmdb", "data.mdb"),
        ("lsun", "data", "data/LSUN", "data.mdb"),
        ("lsun", "data", "data/LSUN", "any/1.webp"),
        ("lsun", "data", "data/lsunchurch", "a/1.jpg"),
        ("lsun", "data/LSUN", "data/LSUN", "a/1.jpg"),
    ],
)
def test_a_known_data_set_is_found_where_its_download_unpacks(dataset, image_path, expected, file, tmp_path):
    (tmp_path / expected / file).parent.mkdir(parents=True)
    (tmp_path / expected / file).write_bytes(b"x")
    assert find_dataset(dataset, tmp_path / image_path).samefile(tmp_path / expected)


def test_lsun_takes_the_training_set(tmp_path):
    for name in ("church_outdoor_train_lmdb", "a_val_lmdb"):
        (tmp_path / "lsun" / name).mkdir(parents=True)
        (tmp_path / "lsun" / name / "data.mdb").write_bytes(b"x")
    assert find_dataset("lsun", tmp_path).name == "church_outdoor_train_lmdb"


def test_one_data_set_is_not_taken_for_the_other(tmp_path):
    put(tmp_path / "LSUN" / "church" / "1.png", picture(0))
    put(tmp_path / "CelebA" / "transformed_images" / "1.png", picture(0))
    with pytest.raises(
        ValueError, match=r"not found .looked at .*img_align_celeba.* jessicali9530/celeba-dataset .*data PATH"
    ):
        find_dataset("celeb", tmp_path)


def test_unknown_data_sets_are_answered_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="one of celeb, lsun, got 'cifar'"):
        find_dataset("cifar", tmp_path)


@pytest.mark.skipif(not (SHARED / "CelebA").is_dir(), reason="no CelebA photographs beside the repository")
def test_the_kaggle_layout_of_celeba():
    source = open_source(find_dataset("celeb", SHARED))
    assert len(source) == 2000
    assert source.read(1999).size == (178, 218)
    assert "2,000 JPEG files" in source.description


@pytest.mark.skipif(not (SHARED / "LSUN").is_dir(), reason="no LSUN photographs beside the repository")
def test_the_lmdb_of_lsun():
    pytest.importorskip("lmdb", reason="the lmdb package is not installed")
    source = open_source(find_dataset("lsun", SHARED))
    assert len(source) == 1350
    assert source.read(0).size == (224, 224)
