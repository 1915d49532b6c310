"""The web page draws what Python draws. It is opened in Chromium, with ONNX Runtime Web from npm, where both are."""

import hashlib
import http.server
import io
import json
import re
import shutil
import subprocess
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sagan.cli import main
from sagan.core.latents import principal_directions, slerp, truncated_normal
from sagan.core.sampling import generate, numbered_images, numbered_latents
from sagan.export import runtime, web
from sagan.pages.render import asset
from sagan.run.build import build_generator
from sagan.run.config import Config, override
from sagan.run.weights import Snapshot, load_snapshot, save_snapshot
from sagan.system.errors import UserError
from sagan.system.images import grid
from sagan.system.randomness import derived_seed
from sagan.system.randomness import generator as random_generator
from sagan.viewing.maps import generator_attention

pytest.importorskip("onnxruntime")
CLASSES = ("<b>cat</b>", "it's", "2")


def save_run(folder, classes=CLASSES):
    changes = {"network": "resnet", "num_classes": 3, "span": 1, "pool": 2, "imsize": 16, "z_dim": 6, "g_conv_dim": 4}
    config = override(Config(), {**changes, "g_attention": (8, 16)})
    generator = build_generator(config.model, 1).eval()
    with torch.no_grad():
        for number, layer in enumerate(generator.attention.values()):
            layer.gamma.fill_(0.5 + number)
    save_snapshot(folder / "snapshots" / "00000003.safetensors", Snapshot(generator, config, 3, "0" * 64, classes))
    return folder


# ---- the folder


EMPTY = dict.fromkeys(runtime._FILES, b"")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("a run & more"))


def open_run(run):
    from sagan.export.subject import open_subject

    return open_subject(run)


def test_a_page_is_whole_and_names_no_folder(run, tmp_path):
    web.export_web(open_run(run), tmp_path / "page", EMPTY, place=run)
    page = (tmp_path / "page" / "index.html").read_text()
    assert "@" not in page
    assert "<h1>a run &amp; more0</h1>" in page
    text = "".join(path.read_text("latin-1") for path in (tmp_path / "page").rglob("*") if path.is_file())
    assert str(tmp_path.parent) not in text
    assert "http://localhost" in text
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", text)
    assert not list((tmp_path / "page").rglob("*.mjs")), "hosts without a type for .mjs are there"
    for named in re.findall(r"(?:src|href)=\"([\w.]+)\"|from \"\./([\w./]+)\"|Worker\(\"([\w.]+)\"", text):
        assert (tmp_path / "page" / "".join(named)).is_file()


def test_layers_with_too_many_weights_are_not_shown(run, tmp_path, monkeypatch):
    subject = open_run(run)
    sizes = {size: layer.pattern.queries * layer.pattern.keys for size, layer in subject.network.attention.items()}
    monkeypatch.setattr(web, "LARGEST_MAP", min(sizes.values()))
    web.export_web(subject, tmp_path / "page", EMPTY)
    shown = json.loads((tmp_path / "page" / "model.json").read_text())["layers"]
    assert [f"{layer['height']}" for layer in shown] == [min(sizes, key=sizes.get)]


def test_nothing_is_left_of_a_page_that_is_wrong(run, tmp_path, monkeypatch):
    def wrong(*args, **kwargs):
        raise UserError("the export's images differ")

    monkeypatch.setattr(web, "export_onnx", wrong)
    with pytest.raises(UserError, match="images differ"):
        web.export_web(open_run(run), tmp_path / "page", EMPTY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "web", "--network", "discriminator"], "--network is for safetensors, onnx, torchscript"),
        (["--to", "web", "--attention"], "--attention is for onnx"),
        (["--to", "onnx", "--runtime", "."], "--runtime is for web"),
        (["--to", "web", "--runtime", "."], "does not hold ort.wasm.min.mjs"),
        (["--to", "web", "--runtime", "nowhere"], "nowhere does not hold ort.wasm.min.mjs"),
    ],
)
def test_mistakes_are_a_sentence(run, tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run), "--out", "page", *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


# ---- the runtime


@pytest.mark.parametrize("inside", ["", "dist", "node_modules/onnxruntime-web/dist"])
def test_a_runtime_is_found_in_its_folders(tmp_path, monkeypatch, inside):
    place = tmp_path / inside
    place.mkdir(parents=True, exist_ok=True)
    for name in runtime._FILES:
        (place / name).write_text(name)
    with pytest.raises(UserError, match=r"ort.wasm.min.mjs in .* is not that of onnxruntime-web@"):
        runtime.runtime_files(tmp_path)
    known = {name: hashlib.sha256(name.encode()).hexdigest() for name in runtime._FILES}
    monkeypatch.setattr(runtime, "_FILES", known)
    assert runtime.runtime_files(tmp_path) == {name: name.encode() for name in known}


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "there is no npm to fetch it: on a machine with npm run"),
        ("echo 'npm error network' >&2; exit 1", r"npm cannot fetch onnxruntime-web@.* \(npm error network\)"),
        ("exit 0", "npm cannot fetch onnxruntime-web@"),
        ("echo > a; tar czf onnxruntime-web.tgz a", "from npm has no package/dist/ort.wasm.min.mjs"),
        ("echo > onnxruntime-web.tgz", "from npm cannot be read"),
    ],
)
def test_npm_may_be_missing_or_fail(tmp_path, monkeypatch, script, said):
    npm = tmp_path / "npm"
    if script is not None:
        npm.write_text(f"#!/bin/sh\n{script}\n")
        npm.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda name: str(npm) if script is not None else None)
    with pytest.raises(UserError, match=said):
        runtime.runtime_files(None)


# ---- its latents

NODE = shutil.which("node")
LATENTS = [(0, 0, 128, None), (5, 3, 128, 0.7), (2, 1, 6, None), (2, 1, 7, 0.5), (2**53 - 1, 9999999, 20, 1)]


@pytest.mark.skipif(NODE is None, reason="there is no Node.js")
def test_latents_of_the_page_are_those_of_python(tmp_path):
    source = asset("latents.js")
    (tmp_path / "latents.mjs").write_text(source.read_text())
    (tmp_path / "ask.mjs").write_text(
        """import { derivedSeed, numberedLatent, slerp } from "./latents.mjs";
        const asked = JSON.parse(process.argv[2]), ways = [0, 1, 2].map(i => numberedLatent(7, i, 128, null));
        console.log(JSON.stringify({
          seeds: asked.map(([seed, number]) => String(derivedSeed(seed, "sample", number))),
          latents: asked.map(one => Array.from(numberedLatent(...one))),
          ways: [0, 0.3, 1].map(share => Array.from(slerp(ways[0], ways[1], share))),
          straight: [Array.from(slerp(ways[0], ways[0].map(value => -value), 0.25))],
        }));"""
    )
    done = subprocess.run([NODE, tmp_path / "ask.mjs", json.dumps(LATENTS)], capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert found["seeds"] == [str(derived_seed(seed, "sample", number)) for seed, number, *_ in LATENTS]
    for (seed, number, dim, truncation), z in zip(LATENTS, found["latents"], strict=True):
        expected = truncated_normal((1, dim), random_generator(seed, "sample", number), truncation)[0]
        torch.testing.assert_close(torch.tensor(z), expected, atol=2e-6, rtol=0)
    one, other = (truncated_normal((128,), random_generator(7, "sample", number)) for number in (0, 1))
    for share, z in zip((0, 0.3, 1), found["ways"], strict=True):
        torch.testing.assert_close(torch.tensor(z), slerp(one, other, share), atol=4e-6, rtol=0)
    torch.testing.assert_close(torch.tensor(found["straight"][0]), slerp(one, -one, 0.25), atol=4e-6, rtol=0)


# ---- in a browser

ONLY_GREY = 1  # levels between the page's pixels and Python's


@pytest.fixture(scope="module")
def site(run, browser_runtime, tmp_path_factory):
    """The address at which the page of the run is served."""
    if not browser_runtime:
        pytest.skip("npm cannot fetch ONNX Runtime Web")
    folder = tmp_path_factory.mktemp("site") / "page"
    web.export_web(open_run(run), folder, browser_runtime, place=run)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture
def opened(site, open_page):
    """A function that opens the page, which asks nothing of another server, at a fragment of its address."""
    elsewhere = []

    def opened(fragment="", **options):
        page = open_page("about:blank", **options)
        page.on("request", lambda asked: asked.url.startswith((site, "blob:", "data:")) or elsewhere.append(asked.url))
        page.goto(site + fragment)
        wait(page)
        return page

    yield opened
    assert not elsewhere


def wait(page):
    page.wait_for_timeout(50)
    page.wait_for_selector("main[aria-busy=false]")
    assert page.text_content("#status") == ""


def downloaded(page):
    with page.expect_download() as waiting:
        page.click("#download")
    picture = Image.open(io.BytesIO(Path(waiting.value.path()).read_bytes()))
    assert picture.info["Software"] == "sagan"
    return np.asarray(picture.convert("RGB")).astype(int)


def generator_of(run):
    return load_snapshot(run / "snapshots" / "00000003.safetensors").generator


def drawn(run, z, label):
    return generate(generator_of(run), z, torch.tensor([label]))[0].permute(1, 2, 0).numpy()


def numbered(run, number, seed=0, **options):
    cpu = torch.device("cpu")
    _, image = next(iter(numbered_images(generator_of(run), seed, range(number, number + 1), device=cpu, **options)))
    return image.permute(1, 2, 0).numpy()


def same(found, expected):
    return found.shape == expected.shape and abs(found - expected).max() <= ONLY_GREY


def test_pixels_are_those_of_python(run, opened):
    page = opened()
    assert same(downloaded(page), numbered(run, 0))
    page.fill("#seed", "7")
    page.fill("#number", "4")
    page.press("#number", "Enter")
    wait(page)
    assert same(downloaded(page), numbered(run, 4, 7)), "of the class whose turn it is"
    assert page.text_content(".stage figcaption") == "seed 7, picture 4, class 1 ('it's')"
    assert page.text_content("#words").endswith("--seed 7 --num 5 --out pictures")
    page.select_option("#label", "0")
    wait(page)
    assert same(downloaded(page), numbered(run, 4, 7, label=0))
    assert page.evaluate("location.hash") == "#seed=7&number=4&label=0"
    page.evaluate("location.hash = '#seed=7&number=4&label=0&truncation=0.5'")
    wait(page)
    assert same(downloaded(page), numbered(run, 4, 7, label=0, truncation=0.5))
    assert "--truncation 0.5 --label='<b>cat</b>'" in page.text_content("#words")
    assert not same(downloaded(page), numbered(run, 4, 7, label=0))


def test_sliders_move_along_the_main_directions(run, opened):
    page = opened("#along=0,1.5")
    rows, _ = principal_directions(generator_of(run), 2)
    z, _ = numbered_latents(generator_of(run), 0, range(1))
    assert same(downloaded(page), drawn(run, z + 1.5 * rows[1], 0))
    assert not page.is_visible("#command"), "no command draws it"
    page.focus("#along0")
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    wait(page)
    assert page.text_content("#amount0") == "-1.0"
    moved = downloaded(page)
    assert same(moved, drawn(run, z - rows[0] + 1.5 * rows[1], 0))
    page.click("#reset")
    wait(page)
    assert same(downloaded(page), numbered(run, 0))
    assert not same(moved, numbered(run, 0))


def test_a_grid_is_that_of_sample_and_opens_its_pictures(run, opened):
    page = opened("#view=grid&rows=2&columns=3&seed=3")
    images = [torch.from_numpy(numbered(run, number, 3)).permute(2, 0, 1) for number in range(6)]
    assert same(downloaded(page), grid(torch.stack(images), columns=3))
    assert page.text_content("#words").endswith("--seed 3 --grid 2 3 --out grid.png")
    box = page.locator(".sheet").bounding_box()
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 0.7 * box["height"])
    wait(page)
    assert page.text_content(".stage figcaption").startswith("seed 3, picture 5")


def test_a_walk_is_that_of_the_command(run, opened):
    page = opened("#view=walk&pins=0,1&at=30")
    z, _ = numbered_latents(generator_of(run), 0, range(2))
    expected = slerp(z[1:], z[:1], 6 / 24)
    assert same(downloaded(page), drawn(run, expected, 0))
    page.click("#play")
    page.wait_for_function("() => document.getElementById('at').value < 30")
    page.click("#play")
    wait(page)
    at = int(page.input_value("#at"))
    assert page.text_content(".stage figcaption") == f"frame {at} of 48"
    share = at % 24 / 24
    expected = slerp(z[:1], z[1:], share) if at < 24 else slerp(z[1:], z[:1], share)
    assert same(downloaded(page), drawn(run, expected, 0))


def test_pointing_shows_where_each_layer_looks(run, opened):
    page = opened()
    _, layers = generator_attention(generator_of(run), 3, *numbered_latents(generator_of(run), 0, range(1)))
    assert page.locator(".panels .said").all_text_contents() == [""]
    box = page.locator(".stage canvas").bounding_box()
    for y, x, held in ((3, 9, False), (12, 2, True)):
        place = box["x"] + (x + 0.5) * box["width"] / 16, box["y"] + (y + 0.5) * box["height"] / 16
        (page.mouse.click if held else page.mouse.move)(*place)
        wait(page)
        said = page.locator(".panels .said").all_text_contents()
        assert said[0] == f"row {y}, column {x}" + ", held" * held
        for layer, text in zip(layers, said[1:], strict=True):
            largest = layer.weights(0, [layer.query_at((y, x), 16)])[0].max().item()
            assert float(re.search(r"([\d.]+)%", text)[1]) == pytest.approx(
                100 * largest, abs=0.5 if largest >= 0.1 else 0.05
            )
    page.mouse.move(box["x"] + 1, box["y"] + 1)
    assert page.text_content(".stage .said") == "row 12, column 2, held", "a click holds the point"
    page.keyboard.press("Tab")
    page.focus(".stage canvas")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.text_content(".stage .said") == "row 13, column 3, held"
    page.keyboard.press("Escape")
    assert page.text_content(".stage .said") == ""
    assert page.locator(".panels .said").all_text_contents() == ["", *["point at the picture"] * len(layers)]


def test_what_is_pointed_at_while_it_draws_is_shown(opened):
    page = opened()
    box = page.locator(".stage canvas").bounding_box()
    places = [(box["x"] + share * box["width"], box["y"] + share * box["height"]) for share in (0.1, 0.8)]
    for delay in (0, 20, 60):
        page.mouse.move(*places[0])
        wait(page)
        page.evaluate(
            "() => { const s = document.getElementById('along1'); s.value = s.value > 0 ? -2 : 2; "
            "s.dispatchEvent(new Event('input')); }"
        )
        page.wait_for_timeout(delay)
        page.mouse.move(*places[1])
        wait(page)
        page.wait_for_timeout(300)
        shown = page.locator(".panels .said").all_text_contents()
        page.mouse.move(*places[0])
        wait(page)
        page.mouse.move(*places[1])
        page.wait_for_timeout(300)
        assert page.locator(".panels .said").all_text_contents() == shown


def test_a_walk_stops_with_its_view(opened):
    page = opened("#view=walk")
    page.click("#play")
    page.click("[data-view=picture]")
    page.fill("#seed", "77")
    page.press("#seed", "Enter")
    wait(page)
    address = page.evaluate("location.hash")
    assert "seed=77" in address
    assert "view" not in address
    page.click("[data-view=walk]")
    wait(page)
    assert page.text_content("#play") == "Play"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_shows_all_of_it(opened, scheme):
    page = opened(viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for view in ("grid", "walk", "picture"):
        page.click(f"[data-view={view}]")
        wait(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.tap(".stage canvas")
    wait(page)
    assert page.text_content(".stage .said").endswith(", held")
    background, text = page.evaluate(
        "() => [getComputedStyle(document.documentElement), getComputedStyle(document.querySelector('button'))]"
        ".map(style => style.color)"
    )
    assert (int(background.split(",")[1]) > 128) == (scheme == "dark")
    assert text == background


def test_every_control_has_a_name(opened):
    page = opened()
    names = page.evaluate(
        "() => [...document.querySelectorAll('input, select, button, canvas, a')].map(each => [each.id, "
        "(each.getAttribute('aria-label') || each.labels?.[0]?.textContent || each.textContent).trim()])"
    )
    assert all(name for _, name in names), names


@pytest.mark.parametrize(
    "fragment",
    [
        "#seed=-1&number=x&label=99&truncation=nan&along=9e9,x,,,,,,,,,,1",
        "#view=<b>&at=-3&pins=1&rows=0&columns=999",
    ],
)
def test_addresses_of_others_are_checked(run, opened, fragment):
    page = opened(fragment)
    assert page.input_value("#seed") == "0"
    assert page.input_value("#rows") in ("1", "4")
    assert int(page.input_value("#columns")) <= 12
    assert abs(float(page.input_value("#along0"))) <= 3
    assert page.input_value("#label") in ("", "2")


def test_a_model_that_is_missing_is_said(site, browser):
    page = browser.new_context().new_page()
    page.route("**/model.onnx", lambda route: route.fulfill(status=404))
    page.goto(site)
    page.wait_for_selector("#status.wrong")
    assert page.text_content("#status") == "nothing is drawn: model.onnx is missing (404)"
