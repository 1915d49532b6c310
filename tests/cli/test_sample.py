"""`sagan sample`."""

import numpy as np
import pytest
from PIL import Image

from sagan.cli import main
from tests.cli.made import refused


def test_samples_are_numbered_and_never_mixed(run, capsys):
    assert main(["sample", str(run.folder), "--num", "5", "--out", "out", "--batch_size", "2"]) == 0
    names = [f"{number:06d}.png" for number in range(5)]
    assert sorted(path.name for path in (run.folder.parents[1] / "out").iterdir()) == names
    assert "is not empty" in refused(capsys, "sample", run.folder, "--num", "7", "--out", "out")
    assert sorted(path.name for path in (run.folder.parents[1] / "out").iterdir()) == names


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
