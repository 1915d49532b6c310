"""The figure of scores over truncation."""

import matplotlib.figure
import pytest

from sagan.evaluation.curves import draw_truncation
from tests import records


@pytest.fixture(name="drawn")
def make_drawn(monkeypatch):
    """The figures that are saved."""
    figures = []
    save = matplotlib.figure.Figure.savefig

    def keep(figure, *given, **how):
        figures.append(figure)
        save(figure, *given, **how)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", keep)
    return figures


def test_truncated_scores_stand_beside_the_one_without_whatever_else_was_scored(run, drawn):
    for value, changes in ((30.0, {}), (50.0, {"truncation": 0.5}), (35.0, {"truncation": 1.0})):
        run.append(records.score(20, value / 100, "recall", **changes), records.score(20, value, **changes))
    for changes in ({}, {"truncation": 0.5}):  # later, by another extractor
        run.append(records.score(20, 7.0, extractor="another", **changes))
    path = draw_truncation(run, run.folder / "evaluation", 20, records.CARD)
    assert path.is_file()
    distance = drawn[0].axes[0]
    (curve, *_), *_ = distance.containers
    assert (list(curve.get_xdata()), list(curve.get_ydata())) == ([0.5, 1.0], [50.0, 35.0])
    handles, labels = distance.get_legend_handles_labels()
    levels = {label: line.get_ydata()[0] for line, label in zip(handles, labels, strict=True)}
    assert levels == {"without truncation": 30.0, "half of the real images against the other half": 4.0}
