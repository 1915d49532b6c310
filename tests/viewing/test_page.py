"""The figures and the page: what they show is what was measured; the page's script is run, where there is Node.js."""

import base64
import csv
import itertools
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sagan.viewing.page as page_module
from sagan.core.attention import ExcludeLocal
from sagan.viewing.figures import Exhibit, colours, draw_maps, draw_training, lay_over, write_table
from sagan.viewing.maps import MEASURES, LayerAttention, average_if_even, layer_row
from sagan.viewing.page import quantise, query_step, write_page

PATTERNS = [
    ExcludeLocal(8, 8, 1),
    ExcludeLocal(16, 16, 2, "before"),
    ExcludeLocal(8, 8, "self", pool=2),
    ExcludeLocal(4, 4, 3),
    ExcludeLocal(8, 8, 0, pool=4),
]


def exhibit(name="one run", patterns=PATTERNS, images=2, size=16):
    random = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (images, 3, size, size), generator=random).to(torch.uint8)
    looks = []
    for pattern in patterns:
        q, k = (torch.randn(images, 1, count, 3, generator=random) for count in (pattern.queries, pattern.keys))
        looks.append(LayerAttention("generator", 1000, pattern, 0.25, 2 * q, k))
    return Exhibit(name, pictures, looks, [each.measure() for each in looks])


def rows_of(*exhibits):
    return [layer_row(each.run, *pair) for each in exhibits for pair in zip(each.layers, each.measures, strict=True)]


# ---- figures


def test_light_grows_with_the_weight_whatever_the_picture():
    """Also in black and white: the luminance of each place rises with its weight."""
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    shown = [lay_over(picture, np.full((4, 4), weight)) @ (0.299, 0.587, 0.114) for weight in np.linspace(0, 1, 32)]
    assert all((later > earlier).all() for earlier, later in itertools.pairwise(shown))
    assert np.isclose(shown[0], picture @ (0.299, 0.587, 0.114) * 0.4 / 255).all()


def test_a_weight_lies_on_its_cell_and_nowhere_else():
    weights = np.zeros((4, 4))
    weights[1, 2] = 1
    black = np.zeros((8, 8, 3), np.uint8)
    light = lay_over(black, weights)
    assert light.shape == (8, 8, 3)
    assert (light[2:4, 4:6] == colours()[255] / 255).all()
    light[2:4, 4:6] = 0
    assert not light.any()
    assert lay_over(black, np.zeros((16, 16))).shape == (16, 16, 3)


def test_a_figure_of_two_runs_side_by_side_is_drawn(tmp_path):
    pair = [exhibit("full", [ExcludeLocal(8, 8, 0)]), exhibit("sparse", [ExcludeLocal(8, 8, 2), ExcludeLocal(4, 4, 3)])]
    draw_maps(tmp_path / "pair.png", pair, 1, [(9, 5)])
    draw_maps(tmp_path / "one.png", pair[:1], 1, [(0, 0), (9, 5)])
    wide, high = Image.open(tmp_path / "pair.png"), Image.open(tmp_path / "one.png")
    assert wide.width > 2 * high.width
    assert wide.height < high.height
    assert np.asarray(wide).std() > 10


def test_curves_over_a_training_are_drawn_with_what_there_is(tmp_path):
    measured = rows_of(exhibit(patterns=[ExcludeLocal(8, 8, 1), ExcludeLocal(4, 4, 3)]))
    rows = [{**row, "step": step, "run": run} for row in measured for step in (10, 20) for run in "ab"]
    rows += [{"run": "a", "step": step, "network": "discriminator", "map": 8, "gamma": 0.1} for step in (5, 15)]
    draw_training(tmp_path, rows)
    assert np.asarray(Image.open(tmp_path / "training.png")).std() > 10
    assert (tmp_path / "training.svg").read_text().count("<path") > 50


def test_a_table_has_a_column_for_each_key_and_no_nan(tmp_path):
    write_table(tmp_path / "t.csv", [{"a": 1, "b": float("nan")}, {"a": 2, "c": "x, y"}])
    with (tmp_path / "t.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"a": "1", "b": "", "c": ""}, {"a": "2", "b": "", "c": "x, y"}]


# ---- the page's data


class Parsed(HTMLParser):
    """The tags, the addresses asked for, and the data of a page."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.data, self.inside = [], "", False
        self.open = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.addresses += [value for name, value in attributes.items() if name in ("src", "href")]
        self.inside = attributes.get("id") == "data"
        if tag in ("script", "style", "table", "div", "p"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        self.inside = False
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.data += data if self.inside else ""


def written(path, exhibits, points=(((3, 4),), ((0, 15),))):
    write_page(path, exhibits, points, rows_of(*exhibits))
    return Parsed(path.read_text("utf-8"))


def decoded(text, kind):
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), kind).copy())


def test_a_page_holds_the_weights_of_every_pixel(tmp_path):
    shown = exhibit()
    page = json.loads(written(tmp_path / "page.html", [shown]).data)
    assert page["points"] == [[[3, 4]], [[0, 15]]]
    assert torch.equal(decoded(page["colours"], np.uint8), torch.from_numpy(colours().flatten()))
    for image, pixels in enumerate(page["exhibits"][0]["pictures"]):
        assert torch.equal(decoded(pixels, np.uint8).view(16, 16, 3), shown.pictures[image].permute(1, 2, 0))
    for layer, looks, numbers in zip(page["exhibits"][0]["layers"], shown.layers, shown.measures, strict=True):
        assert (layer["step"], layer["first"]) == (1, 0)
        for image, look in enumerate(layer["looks"]):
            exact = looks.weights(image, range(looks.pattern.queries))
            largest = decoded(look["largest"], "<f4")
            found = decoded(look["weights"], np.uint8).view(exact.shape) / 255 * largest[:, None]
            assert torch.equal(largest, exact.amax(1))
            assert ((found - exact).abs() <= largest[:, None] / 500).all()
            assert torch.equal(decoded(look["inside"], "<f4"), numbers["inside"][image])


def test_a_page_asks_nothing_of_a_network_and_survives_any_name(tmp_path):
    page = written(tmp_path / "page.html", [exhibit("</script><b>&amp; \u2028", PATTERNS[:1])])
    assert page.open == []
    assert page.addresses == []
    assert json.loads(page.data)["exhibits"][0]["name"].startswith("</script><b>&amp; \\u2028")  # written out
    text = (tmp_path / "page.html").read_text("utf-8")
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest|@data@", text)


def test_bytes_are_off_by_half_a_step_at_most():
    weights = torch.rand(50, 40, generator=torch.Generator().manual_seed(0)) ** 8
    weights[3] = 0
    numbers, largest = quantise(weights)
    assert numbers.dtype == torch.uint8
    assert ((numbers / 255 * largest[:, None] - weights).abs() <= largest[:, None] * (1 / 510 + 1e-6)).all()
    assert (numbers[3] == 0).all()
    assert largest[3] == 0


@pytest.mark.parametrize(
    ("pattern", "limit", "step"),
    [
        (ExcludeLocal(32, 32, 1), 2**20, 1),
        (ExcludeLocal(64, 64, 1), 2**20, 4),
        (ExcludeLocal(64, 64, 1, pool=2), 2**20, 2),
        (ExcludeLocal(128, 128, 1), 2**20, 16),
        (ExcludeLocal(8, 8, 1), 1, 8),
    ],
)
def test_large_maps_are_asked_on_a_grid(pattern, limit, step):
    assert query_step(pattern, limit) == step
    queries = len(range(step // 2, pattern.height, step)) ** 2
    assert queries * pattern.keys <= limit or queries == 1


def test_a_page_of_many_maps_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "PAGE_BYTES", 8_000)
    shown = exhibit(patterns=[ExcludeLocal(16, 16, 1), ExcludeLocal(8, 8, 1)])
    page = json.loads(written(tmp_path / "page.html", [shown]).data)
    large, small = page["exhibits"][0]["layers"]
    assert (large["step"], small["step"]) == (8, 2)
    weights = [decoded(look["weights"], np.uint8) for layer in (large, small) for look in layer["looks"]]
    assert sum(map(len, weights)) <= 8_000
    queries = [y * 16 + x for y in (4, 12) for x in (4, 12)]
    assert torch.equal(weights[0].view(4, 256), quantise(shown.layers[0].weights(0, queries))[0])


# ---- the page's script


def shown_by_node(path, fragment="", *keys):
    if (node := shutil.which("node")) is None:
        pytest.skip("needs Node.js to run the page's script")
    script = Path(__file__).with_name("page_in_node.js")
    done = subprocess.run([node, script, path, fragment, *keys], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def lit(exhibit, layer, image, point):
    """The colours that a map must have: RGBA of each key's cell."""
    looks = exhibit.layers[layer]
    weights = looks.weights(image, [looks.query_at(point, exhibit.image_size)])
    rgb = colours()[quantise(weights)[0][0].numpy()]
    return np.concatenate([rgb, np.full((len(rgb), 1), 255, np.uint8)], 1).flatten().tolist()


def test_the_page_shows_where_a_pixel_looks(tmp_path):
    shown = exhibit()
    written(tmp_path / "page.html", [shown, exhibit("other", PATTERNS[:1])])
    for image, point in ((0, (0, 0)), (1, (9, 14)), (1, (15, 7))):
        seen = shown_by_node(tmp_path / "page.html", f"#image={image}&y={point[0]}&x={point[1]}")
        assert seen["said"][0] == f"row {point[0]}, column {point[1]}"
        for number, looks in enumerate(shown.layers, 1):
            assert seen["light"][number]["image"] == lit(shown, number - 1, image, point)
            assert seen["light"][number]["width"] == looks.grid[1]
            inside = shown.measures[number - 1]["inside"][image, looks.query_at(point, 16)].item()
            if inside:
                share = float(re.search(r"([\d.]+)% fell inside", seen["said"][number])[1]) / 100
                assert share == pytest.approx(inside, abs=0.006)
        assert seen["said"][4].startswith("looks at nothing")
        assert "inside" not in seen["said"][5]
    assert len(seen["titles"]) == 1 + len(PATTERNS) + 2
    assert seen["pictures"] == 2


def test_the_page_opens_at_the_first_point_and_follows_the_keys(tmp_path):
    shown = exhibit(patterns=PATTERNS[:1])  # of 16x16 pictures and an 8x8 map: a key moves by 2 pixels
    written(tmp_path / "page.html", [shown])
    assert shown_by_node(tmp_path / "page.html")["said"][0] == "row 3, column 4"
    moved = shown_by_node(tmp_path / "page.html", "", "ArrowDown", "ArrowLeft", "ArrowLeft", "ArrowLeft")
    assert moved["said"][0] == "row 5, column 0"
    assert moved["light"][1]["image"] == lit(shown, 0, 0, (5, 0))


def test_the_page_asks_the_nearest_query_where_it_has_a_grid_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "LARGEST_MAP", 16 * 256)
    shown = exhibit(patterns=[ExcludeLocal(16, 16, 1)])
    written(tmp_path / "page.html", [shown])  # queries 2, 6, 10 and 14 along each side
    seen = shown_by_node(tmp_path / "page.html", "#y=5&x=15")
    assert seen["light"][1]["image"] == lit(shown, 0, 0, (6, 14))
    assert "one pixel in each 4x4" in seen["titles"][1]


def test_the_page_shows_the_table_of_layers(tmp_path):
    shown = exhibit(patterns=PATTERNS[:1])
    written(tmp_path / "page.html", [shown])
    heads, cells = shown_by_node(tmp_path / "page.html")["table"]
    row = layer_row("one run", shown.layers[0], shown.measures[0])
    assert heads[-4:] == list(MEASURES.values())
    assert cells[:5] == ["one run", "1,000", "generator 8x8", "span 1", "+0.250"]
    assert float(cells[5]) == pytest.approx(row["entropy"], abs=0.005)
    even = average_if_even(PATTERNS[0])
    assert row["entropy_if_even"] == even["entropy"] > row["entropy"]


def test_chromium_shows_the_page_without_a_server(tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("needs Chromium")
    shown = exhibit(patterns=PATTERNS[:2])
    written(tmp_path / "page.html", [shown])
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    address = (tmp_path / "page.html").as_uri() + "#image=1&y=9&x=14"
    dom = subprocess.run([browser, *flags, address], capture_output=True, text=True, check=True, timeout=120).stdout
    assert "row 9, column 14" in dom
    assert dom.count("fell inside the square") >= 2
