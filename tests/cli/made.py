"""Command lines of tiny runs, and what is said of wrong ones."""

from pathlib import Path

from sagan.cli import main
from sagan.run.folder import Run
from sagan.run.scores import read_scores

TINY = {"imsize": 16, "z_dim": 4, "g_conv_dim": 8, "d_conv_dim": 8, "batch_size": 8, "log_step": 1, "sample_count": 4}


def tiny(**changes):
    """The words of a tiny run, with changes."""
    return ["train", *(f"--{name}={value}" for name, value in (TINY | changes).items())]


def refused(capsys, *words):
    """The sentence with which a command is refused: one line on standard error, status 2."""
    capsys.readouterr()
    assert main(list(map(str, words))) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    return lines[-1]


# ---- runs that are scored


FEW_FACES = [
    *("--imsize", "16", "--z_dim", "4", "--g_conv_dim", "8", "--d_conv_dim", "8"),
    *("--batch_size", "8", "--device", "cpu", "--sample_count", "8"),
]


def command(line):
    return main(line.split())


def train_on_faces(name, *flags):
    """A run of four steps with two snapshots."""
    assert main(["train", *FEW_FACES, "--total_step", "4", "--snapshot_every", "2", "--run_dir", name, *flags]) == 0
    return Run(Path(name))


def scores(run):
    return read_scores(run, "frechet")
