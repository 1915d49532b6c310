"""The figures and the page: what they show is what was measured; the page's script is run, where there is Node.js."""

import base64
import csv
import itertools
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

import sagan.viewing.page as page_module
from sagan.core.attention import ExcludeLocal
from sagan.viewing.figures import Exhibit, colours, draw_maps, draw_training, lay_over, light_of, write_table
from sagan.viewing.maps import MEASURES, LayerAttention, even_weight, layer_row
from sagan.viewing.page import as_light, query_step, write_page

PATTERNS = [
    ExcludeLocal(8, 8, 1),
    ExcludeLocal(16, 16, 2, "before"),
    ExcludeLocal(8, 8, "self", pool=2),
    ExcludeLocal(4, 4, 3),
    ExcludeLocal(8, 8, 0, pool=4),
]


PATTERN_16 = ExcludeLocal(16, 16, 1)


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
            light = decoded(look["light"], np.uint8).view(exact.shape) / 255
            for query, row in enumerate(light):
                wanted = light_of(exact[query], even_weight(looks.pattern, query))
                torch.testing.assert_close(row, wanted, atol=0.002, rtol=0)
            assert torch.equal(decoded(look["largest"], "<f4"), exact.amax(1))
            assert torch.equal(decoded(look["inside"], "<f4"), numbers["inside"][image])


def test_a_page_asks_nothing_of_a_network_and_survives_any_name(tmp_path):
    page = written(tmp_path / "page.html", [exhibit("</script><b>&amp; \u2028", PATTERNS[:1])])
    assert page.open == []
    assert set(page.addresses) == {"data:,", "", "layers.csv", "queries.csv"}, "files beside it, and nothing else"
    assert json.loads(page.data)["exhibits"][0]["name"].startswith("</script><b>&amp; \\u2028")  # written out
    text = (tmp_path / "page.html").read_text("utf-8")
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest|@data@", text)


def test_light_is_the_same_scale_for_every_map():
    weights = torch.tensor([[0.0, 0.01, 0.09], [0.0, 0.1, 0.9]])
    assert as_light(weights, torch.tensor([0.01, 0.1])).tolist() == [[0, 128, 230]] * 2


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
    shown = exhibit(patterns=[PATTERN_16, ExcludeLocal(8, 8, 1)])
    page = json.loads(written(tmp_path / "page.html", [shown]).data)
    large, small = page["exhibits"][0]["layers"]
    assert (large["step"], small["step"]) == (8, 2)
    light = [decoded(look["light"], np.uint8) for layer in (large, small) for look in layer["looks"]]
    assert sum(map(len, light)) <= 8_000
    queries = [y * 16 + x for y in (4, 12) for x in (4, 12)]
    even = torch.tensor([even_weight(PATTERN_16, query) for query in queries])
    assert torch.equal(light[0].view(4, 256), as_light(shown.layers[0].weights(0, queries), even))


# ---- the page's script

SAMPLED = 52  # pixels of a side that are looked at, of the 416 of a canvas, which would take long to hand over
LIGHT = (
    "(canvas, count) => { const { width, height } = canvas, found = [];"
    "const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);"
    "for (let y = 0; y < count; y++) for (let x = 0; x < count; x++) {"
    "const at = 4 * (Math.floor((y + 0.5) * height / count) * width + Math.floor((x + 0.5) * width / count));"
    "found.push(...data.subarray(at, at + 3)); } return found; }"
)


def said(page):
    """What stands below the picture and each map."""
    return page.locator(".said").all_text_contents()


def light(page, number):
    """Pixels of a panel, evenly spaced: (SAMPLED, SAMPLED, 3)."""
    canvas = page.locator(".panels canvas").nth(number)
    return np.array(canvas.evaluate(LIGHT, SAMPLED)).reshape(SAMPLED, SAMPLED, 3)


def expected_light(exhibit, layer, image, point, side):
    """A map with nothing drawn over it."""
    looks = exhibit.layers[layer]
    query = looks.query_at(point, exhibit.image_size)
    weights = looks.weights(image, [query])[0].view(looks.grid).numpy()
    lit = light_of(weights, even_weight(looks.pattern, query))
    found = lay_over(exhibit.pictures[image].permute(1, 2, 0).numpy(), lit)
    at = (np.arange(side) + 0.5) * len(found) / side
    return found[at.astype(int)][:, at.astype(int)] * 255


def test_the_page_shows_where_a_pixel_looks(tmp_path, open_page):
    shown = exhibit()
    written(tmp_path / "page.html", [shown, exhibit("other", PATTERNS[:1])])
    for image, point in ((0, (0, 0)), (1, (9, 14)), (1, (15, 7))):
        page = open_page((tmp_path / "page.html").as_uri() + f"#image={image}&y={point[0]}&x={point[1]}")
        words = said(page)
        assert words[0] == f"row {point[0]}, column {point[1]}"
        for number, looks in enumerate(shown.layers, 1):
            found = light(page, number)
            wanted = expected_light(shown, number - 1, image, point, len(found))
            assert (abs(found - wanted).max(2) <= 3).mean() > 0.7, (
                "but for the ring, the square and lines between cells"
            )
            query = looks.query_at(point, 16)
            largest = looks.weights(image, [query]).max().item()
            if largest:
                assert float(re.search(r"([\d.]+)%", words[number])[1]) / 100 == pytest.approx(largest, rel=0.06)
            inside = shown.measures[number - 1]["inside"][image, query].item()
            if inside:
                share = float(re.search(r"([\d.]+)% of the softmax", words[number])[1]) / 100
                assert share == pytest.approx(inside, abs=0.006)
        assert words[4].startswith("looks at nothing")
        assert "hidden square" not in words[5]
    assert page.locator("figure").count() == 1 + len(PATTERNS) + 2
    assert page.locator("#pictures button").count() == 2


def test_the_page_opens_at_the_first_point_and_follows_pointer_and_keys(tmp_path, open_page):
    shown = exhibit(patterns=PATTERNS[:1])  # of 16x16 pictures and an 8x8 map: a key moves by 2 pixels
    written(tmp_path / "page.html", [shown], [[(3, 4), (9, 9)], [(0, 15)]])
    page = open_page((tmp_path / "page.html").as_uri())
    pressed = "() => [...document.querySelectorAll('#points button')].map(each => each.getAttribute('aria-pressed'))"
    assert said(page)[0] == "row 3, column 4"
    assert page.evaluate(pressed) == ["true", "false"]
    page.focus("canvas[role=img]")
    for key in ("ArrowDown", "ArrowLeft", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    assert said(page)[0] == "row 5, column 0"
    assert page.evaluate(pressed) == ["false", "false"]
    box = page.locator(".panels canvas").nth(1).bounding_box()
    at = [box[side] + box[size] * share for side, size, share in (("x", "width", 0.95), ("y", "height", 0.4))]
    page.mouse.move(*at)
    assert said(page)[0] == "row 5, column 0", "the keys hold the point"
    page.mouse.click(*at)
    assert said(page)[0] == "row 6, column 15"
    page.mouse.move(at[0] - 40, at[1])
    assert said(page)[0] != "row 6, column 15"
    page.click("#points button:nth-child(2)")
    assert said(page)[0] == "row 9, column 9"
    page.click("#pictures button:nth-child(2)")
    assert said(page)[0] == "row 0, column 15"
    assert page.get_attribute("#figure", "href") == "image-0001.png"


def test_the_page_asks_the_nearest_query_where_it_has_a_grid_of_them(tmp_path, monkeypatch, open_page):
    monkeypatch.setattr(page_module, "LARGEST_MAP", 16 * 256)
    shown = exhibit(patterns=[ExcludeLocal(16, 16, 1)])
    written(tmp_path / "page.html", [shown])  # queries 2, 6, 10 and 14 along each side
    page = open_page((tmp_path / "page.html").as_uri() + "#y=5&x=15")
    found = light(page, 1)
    assert (abs(found - expected_light(shown, 0, 0, (6, 14), len(found))).max(2) <= 3).mean() > 0.8
    assert "one pixel in each 4x4" in page.locator("figcaption").nth(1).text_content()


def test_the_page_shows_the_table_of_layers(tmp_path, open_page):
    shown = exhibit(patterns=PATTERNS[:1])
    written(tmp_path / "page.html", [shown])
    page = open_page((tmp_path / "page.html").as_uri())
    heads, cells = (row.locator("th, td").all_text_contents() for row in page.locator("#layers tr").all())
    assert heads[-4:] == list(MEASURES.values())
    assert cells[:5] == ["one run", "1,000", "generator 8x8", "span 1", "+0.250"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_shows_two_columns(tmp_path, open_page, barriers, scheme):
    written(tmp_path / "page.html", [exhibit(), exhibit("other")])
    address = (tmp_path / "page.html").as_uri()
    page = open_page(address, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    lefts = {box["x"] for box in (each.bounding_box() for each in page.locator("figure").all())}
    assert len(lefts) == 2
    assert barriers(page) == []
