"""A sweep under way: its curves, and what they allow to say."""

import pytest
from starlette.testclient import TestClient

from sagan.gallery.app import make_app
from sagan.gallery.library import Library
from sagan.gallery.sweeps import sweep_details
from sagan.system.devices import choose_device
from tests.experiments.made import begun, made_sweep, scored


@pytest.fixture
def root(tmp_path):
    sweep = made_sweep(tmp_path / "faces", span=(0, 1), seed=(0, 1, 2))
    for seed, value in ((0, 30.0), (1, 34.0)):
        scored(begun(sweep, f"span0-seed{seed}"), {100: value + 10, 200: value})
        scored(begun(sweep, f"span1-seed{seed}"), {100: value, 200: value - 10})
    return tmp_path


def test_means_have_intervals_where_there_are_seeds(root):
    library = Library(root)
    about = sweep_details(library.get("faces", sweep=True))
    assert (about["arms"], about["seeds"], about["baseline"]) == (["span 0", "span 1"], [0, 1, 2], "span 0")
    (group,) = about["groups"]
    points = group["curves"][0]["points"]
    assert [(point["step"], point["value"], point["seeds"]) for point in points] == [(100, 42.0, 2), (200, 32.0, 2)]
    assert points[0]["half"] == pytest.approx(12.706 * 2.828 / 2**0.5, rel=1e-3), "Student's, one degree of freedom"
    assert len(group["findings"]) == 1
    assert sum(run["begun"] for run in about["runs"]) == 4
    assert set(library.find()) == {
        "faces",
        *(f"faces/runs/span{span}-seed{seed}" for span in (0, 1) for seed in (0, 1)),
    }


def test_a_sweep_is_answered_and_a_damaged_plan_is_a_sentence(root):
    with TestClient(make_app(root, choose_device("cpu")), base_url="http://localhost:8017") as client:
        assert client.get("/api/sweep/faces.json").json()["name"] == "faces"
        assert "faces" in client.get("/sweep/faces/").text
        (root / "faces" / "plan.json").write_text("{")
        answer = client.get("/api/sweep/faces.json")
        assert answer.status_code == 422
        assert str(root) not in answer.json()["error"]
        assert client.get("/api/sweep/nothing.json").status_code == 404
