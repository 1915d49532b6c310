import shlex

import pytest

from sagan.system.console import Console
from sagan.system.errors import UserError, describe
from sagan.system.sentences import command, did_you_mean, plural


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [
        (1, "image", "1 image"),
        (0, "image", "0 images"),
        (2000, "real image", "2,000 real images"),
        (2, "class", "2 classes"),
    ],
)
def test_a_noun_agrees_with_its_count(count, noun, said):
    assert plural(count, noun) == said


@pytest.mark.parametrize("folder", ["runs/faces", "my run", "it's; rm -rf x", "$HOME", "caf\udce9", "a'b\"c"])
def test_a_command_can_be_pasted_into_a_shell(folder):
    assert shlex.split(command("resume", folder, "--total_step", 5)) == ["sagan", "resume", folder, "--total_step", "5"]


def test_the_nearest_name_is_found_in_any_case():
    assert did_you_mean("CelebA", ["celeb", "lsun"]) == ": did you mean celeb?"
    assert did_you_mean("mnist", ["celeb", "lsun"]) == ""


def test_settings_are_spelt_as_they_are_typed(capsys):
    error = UserError("`run_dir` is taken: give another `run_dir`, or `sagan resume runs/a` continues it")
    assert str(error) == "run_dir is taken: give another run_dir, or `sagan resume runs/a` continues it"
    Console(command=True).error(describe(error))
    assert "--run_dir is taken: give another --run_dir, or `sagan resume runs/a`" in capsys.readouterr().err
