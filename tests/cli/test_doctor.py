"""`sagan doctor`: what it prints and writes, its exit status, and that nothing ends in a traceback."""

import json
import re

import numpy as np
import pytest

from sagan.cli import main
from tests.cli.made import refused
from tests.doctor.made import sound


@pytest.fixture
def photos(home):
    """A folder of sound images with one that is torn, and one twice."""
    for number, image in enumerate(sound(110)):
        (home / "photos").mkdir(exist_ok=True)
        image.save(home / "photos" / f"{number:03}.png")
    whole = (home / "photos" / "000.png").read_bytes()
    (home / "photos" / "copy.png").write_bytes(whole)
    (home / "photos" / "torn.png").write_bytes(whole[:200])
    return home / "photos"


def test_the_machine_alone(home, capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "verdict: sound" in out
    assert "next: sagan train --preset quick" in out
    assert [path.name for path in home.iterdir()] == ["photos.npy"]


def test_images_as_text_json_and_a_page(photos, home, capsys):
    assert main(["doctor", "photos", "--quick", "--out", "d.html", "--json", "d.json"]) == 1
    out = capsys.readouterr().out
    lines = [
        line.split()[0] for line in out.splitlines() if line.startswith("  ") and line.split()[0] in ("warning", "note")
    ]
    images = lines[: lines.index("note")]
    assert images == ["warning"] * len(images)  # the worst first
    assert re.search(r"next: sagan train --data photos --preset \w+ --augment color translation cutout --flip\n", out)
    found = json.loads((home / "d.json").read_text())
    assert found["status"] == 1
    kinds = {each["kind"]: each for each in found["sections"][0]["findings"]}
    assert kinds["unreadable"]["names"][0].startswith("torn.png (")
    assert kinds["duplicates"]["names"] == ["000.png = copy.png"]
    page = (home / "d.html").read_text()
    assert "000.png = copy.png" in page
    assert str(home) not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)  # it needs no other file


def test_json_alone_is_all_that_is_printed(photos, capsys):
    assert main(["doctor", "photos", "--quick", "--json", "-"]) == 1
    assert json.loads(capsys.readouterr().out)["title"] == "images: photos"


def test_the_command_that_is_suggested_trains(photos, capsys, configs):
    main(["doctor", "photos", "--quick"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    assert main(line.removeprefix("next: sagan ").split()) == 0
    assert configs[0].data.data == "photos"


def test_what_is_measured_is_in_the_advice(photos, capsys, monkeypatch):
    monkeypatch.setattr("sagan.doctor.advice._measured", lambda config, device: (config, ["time: an hour"]))
    main(["doctor", "photos"])
    assert "time: an hour" in capsys.readouterr().out


def test_images_that_were_held_out(photos, home, capsys):
    (home / "heldout").mkdir()
    (home / "heldout" / "a.png").write_bytes((photos / "004.png").read_bytes())
    assert main(["doctor", "photos", "--quick", "--against", "heldout"]) == 1
    assert "004.png = a.png" in capsys.readouterr().out


def test_classes_are_learned_where_each_has_enough(home, capsys):
    for number, image in enumerate(sound(120)):
        folder = home / "set" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{number}.png")
    assert main(["doctor", "set", "--quick"]) == 0
    assert "--num_classes auto" in capsys.readouterr().out


def test_prepared_images_keep_their_size(home, capsys):
    np.save("some.npy", np.random.default_rng(0).integers(0, 256, (120, 40, 40, 3)).astype(np.uint8))
    assert main(["prepare", "some.npy", "--imsize", "32"]) == 0
    (store,) = [path for path in (home / "prepared").iterdir() if path.name.startswith("some-")]
    capsys.readouterr()
    assert main(["doctor", f"prepared/{store.name}", "--quick"]) in (0, 1)
    assert "smaller than" not in capsys.readouterr().out


def test_a_run(run, capsys):
    assert main(["doctor", str(run.folder)]) == 0
    out = capsys.readouterr().out
    assert "sound    1 snapshot and 1 checkpoint are whole" in out
    assert f"next: sagan evaluate {run.folder}" in out
    run.checkpoint_file.write_bytes(b"torn")
    assert main(["doctor", str(run.folder), "--out", "run.html"]) == 2


def test_no_image_can_be_read(home, capsys):
    (home / "bad").mkdir()
    for name in ("a.png", "b.jpg", "c.webp", "d.tif"):
        (home / "bad" / name).write_bytes(name.encode() * 50)
    assert main(["doctor", "bad", "--out", "d.html"]) == 2
    out = capsys.readouterr().out
    assert "no image can be read: a.png (" in out
    assert "next:" not in out


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (3, 700), (64, 64)])
def test_few_and_odd_images_are_no_trouble(home, size, count):
    (home / "odd").mkdir()
    for number, image in enumerate(sound(count, width=size[0], height=size[1])):
        image.save(home / "odd" / f"{number}.png")
    assert main(["doctor", "odd", "--quick", "--out", "odd.html"]) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["photos.npy", "--imsize", "17"], "doubling both sides"),
        (["photos.npy", "--out", "."], "--out must be a file"),
        (["photos.npy", "--data", "photos.npy"], "give one thing"),
        (["--against", "photos.npy"], "--against compares images"),
        (["photos.npy", "--against", "nowhere", "--quick"], "nowhere does not exist"),
        (["photos.npy", "--device", "tpu"], "--device must be"),
        (["empty"], "no images found"),
    ],
)
def test_what_is_wrong_is_one_sentence(home, capsys, words, said):
    (home / "empty").mkdir()
    assert said in refused(capsys, "doctor", *words)


def test_a_sweep_is_not_looked_at_as_a_whole(home, capsys):
    (home / "sweep" / "runs").mkdir(parents=True)
    (home / "sweep" / "plan.json").write_text("{}")
    assert "holds a sweep of sagan" in refused(capsys, "doctor", "sweep")


def test_images_are_read_once(photos, monkeypatch, capsys):
    main(["doctor", "photos", "--quick"])
    monkeypatch.setattr("sagan.doctor.looks._look", None)
    assert main(["doctor", "photos", "--quick"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_in_a_browser(photos, home, open_page, barriers, width):
    main(["doctor", "photos", "--quick", "--out", "d.html"])
    page = open_page(f"file://{home}/d.html", viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(each => each.naturalWidth > 0)")
    assert barriers(page) == []
