"""`sagan compare-metrics`."""

import pytest

from tests.cli.made import command, train_on_faces

pytestmark = pytest.mark.usefixtures("few_faces")


def test_runs_are_compared_only_when_their_cards_are_alike(capsys):
    for name in ("one", "other"):
        train_on_faces(name)
        assert command(f"evaluate {name} --num 30 --last --extractor random-conv") == 0
    assert command("compare-metrics one other") == 0
    assert "one" in capsys.readouterr().out
    assert command("evaluate other --num 40 --last --extractor random-conv") == 0
    assert command("compare-metrics one other") == 2
    assert "their cards differ in samples: 30 and 40" in capsys.readouterr().err
