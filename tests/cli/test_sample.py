"""`sagan sample`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sagan.viewing.samples
from sagan.cli import main
from sagan.data.recipe import Recipe, prepare_image
from sagan.data.sources.folder import FolderSource
from tests.cli.made import refused


def test_samples_are_numbered_and_never_mixed(run, capsys):
    assert main(["sample", str(run.folder), "--num", "5", "--out", "out", "--batch_size", "2"]) == 0
    names = [f"{number:06d}.png" for number in range(5)]
    assert sorted(path.name for path in (run.folder.parents[1] / "out").glob("*.png")) == names
    assert "is not empty" in refused(capsys, "sample", run.folder, "--num", "7", "--out", "out")
    assert sorted(path.name for path in (run.folder.parents[1] / "out").glob("*.png")) == names


def test_samples_need_no_images_and_are_the_same_from_the_file(run):
    assert main(["sample", str(run.folder), "--num", "2", "--out", "a"]) == 0
    assert main(["sample", str(run.snapshot()), "--num", "2", "--out", "b", "--batch_size", "1"]) == 0
    for name in ("000000.png", "000001.png"):
        images = [np.asarray(Image.open(run.folder.parents[1] / out / name)).astype(int) for out in "ab"]
        assert abs(images[0] - images[1]).max() <= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--step", "7"], "no snapshot of step 7, only of 4"),
        (["--num", "0"], "num must be 1 or more"),
        (["--num", "1.5"], "--num must be a whole number"),
        (["--batch_size", "0"], "batch_size must be 1 or more"),
        (["--device", "gpu"], "device must be"),
    ],
)
def test_samples_that_cannot_be_drawn(run, capsys, words, said):
    assert said in refused(capsys, "sample", run.folder, "--out", "out", *words)
    assert not (run.folder.parents[1] / "out").exists()


def test_a_torn_snapshot_is_refused(run, capsys):
    run.snapshot().write_bytes(run.snapshot().read_bytes()[:1000])
    assert "is not a whole" in refused(capsys, "sample", run.folder, "--out", "out")


def test_a_name_that_ends_in_png_gets_one_grid(run, capsys):
    assert main(["sample", str(run.folder), "--num", "10", "--out", "x.png"]) == 0
    assert Image.open("x.png").size == (8 * 18 + 2, 2 * 18 + 2)
    assert "is there already" in refused(capsys, "sample", run.folder, "--out", "x.png")
    assert main(["sample", str(run.folder), "--num", "2", "--out", "y.png"]) == 0  # another grid is no person's image


def test_a_grid_among_a_persons_images_is_none_of_them(run):
    (run.folder.parents[1] / "photos").mkdir()
    Image.new("RGB", (20, 20)).save("photos/a.png")
    assert main(["sample", str(run.folder), "--num", "2", "--out", "photos/x.png"]) == 0
    source = FolderSource(Path("photos"))
    assert prepare_image(source, 0, Recipe(16)).pixels is not None
    assert "picture that sagan wrote" in prepare_image(source, 1, Recipe(16)).reason


def test_samples_that_were_stopped_go_on(run, monkeypatch, capsys):
    words = ["sample", str(run.folder), "--num", "9", "--batch_size", "2"]
    assert main([*words, "--out", "whole"]) == 0
    real = sagan.viewing.samples.save_png

    def dying(picture, path):
        if path.name == "000005.png":
            raise KeyboardInterrupt
        real(picture, path)

    with monkeypatch.context() as patch:
        patch.setattr(sagan.viewing.samples, "save_png", dying)
        assert main([*words, "--out", "cut"]) == 130
    Path("cut/000003.png").write_bytes(Path("cut/000003.png").read_bytes()[:-9])  # as a power failure tears it
    assert "the command that was stopped there goes on" in refused(capsys, *words, "--out", "cut", "--seed", "1")
    assert main([*words, "--out", "cut"]) == 0
    whole, cut = ({path.name: path.read_bytes() for path in Path(out).iterdir()} for out in ("whole", "cut"))
    assert cut == whole
    assert "is not empty" in refused(capsys, *words, "--out", "cut")


@pytest.mark.parametrize("out", ["grid.jpg", ".png", "x.webp"])
def test_a_picture_of_another_kind_is_refused(run, capsys, out):
    assert "a grid is a PNG with a name, such as grid.png" in refused(capsys, "sample", run.folder, "--out", out)
    assert not Path(out).exists()
