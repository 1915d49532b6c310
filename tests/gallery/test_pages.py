"""The pages in Chromium: they show what Python computes, follow what changes, and can be used by everybody."""

import csv
import http.server
import itertools
import shutil
import socket
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image

from sagan.core.sampling import numbered_images, numbered_latents
from sagan.gallery.app import make_app
from sagan.gallery.site import write_site
from sagan.run.folder import Run
from sagan.run.weights import load_snapshot
from sagan.system.errors import UserError
from sagan.viewing.maps import generator_attention
from tests import records
from tests.gallery.made import make_run

CPU = torch.device("cpu")
NAME = "a <b> & c"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    run = make_run(root / NAME)
    run.append(records.look(4, verdict="D winning", reason="it has won"), records.score(2, 50.0))
    make_run(root / "other", seed=5, span=0)
    return root


@pytest.fixture(scope="module")
def site(root):
    """The address of a server over the runs."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    app = make_app(root, CPU, frozenset({"127.0.0.1"}))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sagan.gallery.watching.BETWEEN", 0.2)
        yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


PAGES = {
    "/": "#runs .card",
    f"/run/{NAME}/": ".curve path",
    "/studio": "main[aria-busy=false] .stage",
    "/nothing": "h1",
}


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_everybody_can_use_every_page(site, open_page, barriers, path, width, scheme):
    page = open_page("about:blank", viewport={"width": width, "height": 900}, color_scheme=scheme)
    if path == "/nothing":
        page.on("console", lambda message: None)
        answer = page.request.get(site + path)
        assert answer.status == 404
        return
    page.goto(site + path)
    page.wait_for_selector(PAGES[path])
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert barriers(page) == []


def test_runs_are_listed_filtered_and_appear_by_themselves(site, root, open_page):
    page = open_page(site + "/")
    page.wait_for_selector(".card")
    assert sorted(page.locator(".card .name").all_text_contents()) == [NAME, "other"]
    assert "FID 30.5 at step 4" in page.locator(".card[data-name=other]").text_content()
    page.fill("#filter", "span 0")
    assert page.locator(".card .name").all_text_contents() == ["other"]
    page.fill("#filter", "")
    make_run(root / "new")
    page.wait_for_selector(".card >> text=new", timeout=15_000)
    for box in page.locator(".card input").all()[:2]:
        box.check()
    assert "run=" in page.get_attribute("#compare", "href")
    shutil.rmtree(root / "new")
    page.wait_for_function("() => document.querySelectorAll('.card').length === 2", timeout=15_000)


def test_a_run_shows_its_samples_and_curves_and_follows_its_training(site, root, open_page):
    page = open_page(f"{site}/run/{NAME}/")
    page.wait_for_selector(".curve path")
    titles = page.locator(".curve figcaption").all_text_contents()
    assert {"FID, 100 samples, random-conv", "Losses", "Logits of D"} <= set(titles)
    assert page.text_content("#at") == "step 4"
    page.focus("#step")
    page.keyboard.press("ArrowLeft")
    assert page.text_content("#at") == "step 2"
    assert page.get_attribute("#grid", "src").partition("?")[0].endswith("/grid/2.png")
    figure = page.locator(".curve", has_text="Losses")
    figure.scroll_into_view_if_needed()
    box = figure.locator("svg").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 20)
    assert "D loss 1.5, G loss -0.25" in figure.locator(".said").text_content()
    page.select_option("#clock", "hours")
    page.check("#log")
    assert page.locator("svg title", has_text="D winning: it has won").count() > 0
    Run(root / NAME).append(records.train(9))
    page.wait_for_selector("#facts >> text=step 9", timeout=15_000)


@pytest.mark.parametrize("kind", ["PNG", "SVG", "CSV"])
def test_figures_can_be_kept(site, open_page, kind):
    page = open_page(f"{site}/run/{NAME}/", color_scheme="dark")
    page.wait_for_selector(".curve path")
    with page.expect_download() as waiting:
        page.click(f"button[aria-label='Losses as {kind}']")
    data = Path(waiting.value.path()).read_bytes()
    if kind == "CSV":
        assert data.decode().splitlines()[:2] == ["series,step,value,spread", "D loss,1,1.5,"]
    if kind == "SVG":
        assert b"var(" not in data
        assert b"<path" in data
    if kind == "PNG":
        assert data.startswith(b"\x89PNG")


PIXELS = (
    "canvas => { const {width, height} = canvas; const size = 16, small = new OffscreenCanvas(size, size);"
    "const context = small.getContext('2d'); context.imageSmoothingEnabled = false;"
    "context.drawImage(canvas, 0, 0, size, size); return Array.from(context.getImageData(0, 0, size, size).data); }"
)


def shown(page, number=0):
    found = np.array(page.locator(".stage canvas").nth(number).evaluate(PIXELS)).reshape(16, 16, 4)
    return found[:, :, :3]


def ready(page):
    page.wait_for_timeout(50)
    page.wait_for_selector("main[aria-busy=false]")
    assert page.text_content("#status") == ""


def test_the_studio_draws_two_runs_at_one_z_with_one_pointer(site, root, open_page):
    page = open_page(f"{site}/studio#run=other&other={NAME}&seed=3".replace(" ", "%20").replace("&%20", "%26%20"))
    page.wait_for_selector("main[aria-busy=false] .stage")
    ready(page)
    for number, name in enumerate(("other", NAME)):
        generator = load_snapshot(root / name / "snapshots" / "00000004.safetensors").generator
        (_, wanted), *_ = numbered_images(generator, 3, range(1), device=CPU)
        assert (shown(page, number) == wanted.permute(1, 2, 0).numpy()).all()
    box = page.locator(".stage canvas").first.bounding_box()
    page.mouse.click(box["x"] + 9.5 * box["width"] / 16, box["y"] + 4.5 * box["height"] / 16)
    page.wait_for_selector("figcaption >> text=generator 8x8")
    said = page.locator(".panels").nth(1).locator(".said").all_text_contents()
    assert said[0] == "row 4, column 9, held"
    _, layers = generator_attention(generator, 4, *numbered_latents(generator, 3, range(1)))
    for words, layer in zip(said[1:], layers, strict=True):
        largest = layer.weights(0, [layer.query_at((4, 9), 16)]).max().item()
        assert float(words.split("strongest key ")[1].split("%")[0]) == pytest.approx(100 * largest, rel=0.06)
        assert "of the softmax was in the hidden square" in words
    before = shown(page, 1)
    page.focus("#along0")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    ready(page)
    assert abs(shown(page, 1) - before).max() > 2
    page.click("#reset")
    page.focus("#step")
    page.keyboard.press("ArrowLeft")
    ready(page)
    assert "step 2" in page.locator(".stage figcaption").first.text_content()
    assert "step=2" in page.evaluate("location.hash")
    assert "--step 2" in page.text_content("#words")


def test_pinned_pictures_are_walked_through(site, root, open_page):
    page = open_page(f"{site}/studio#run=other&number=5")
    ready(page)
    page.click("#pin")
    assert page.text_content("#status") == "pinned: a walk needs a second one"
    page.click("#next")
    ready(page)
    page.click("#pin")
    page.click("[data-view=walk]")
    ready(page)
    assert page.input_value("#pins") == "5 6"
    generator = load_snapshot(root / "other" / "snapshots" / "00000004.safetensors").generator
    (_, wanted), *_ = numbered_images(generator, 0, range(5, 6), device=CPU)
    assert (shown(page) == wanted.permute(1, 2, 0).numpy()).all()


def test_a_server_that_ends_is_said_and_the_page_goes_on(root, browser):
    def start(port):
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        port = listening.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(make_app(root, CPU), log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        return port, server, thread

    port, server, thread = start(0)
    page = browser.new_context().new_page()
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_selector(".card")
    server.should_exit = True
    thread.join()
    page.wait_for_selector("#status.wrong", timeout=10_000)
    _, server, thread = start(port)
    deadline = time.monotonic() + 20
    while page.text_content("#status") and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    assert page.text_content("#status") == ""
    page.close()
    server.should_exit = True
    thread.join()


@pytest.fixture
def written(root, tmp_path):
    """The address of the pages as files, on a plain web server."""
    (root / "other" / "web").mkdir(exist_ok=True)
    for name in ("index.html", "model.json", "model.onnx"):
        (root / "other" / "web" / name).write_text('<link rel="icon" href="data:,">exported')
    assert write_site(root, tmp_path / "site" / "below") == 2

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/below/"
    server.shutdown()
    shutil.rmtree(root / "other" / "web")


def test_the_pages_as_files_show_the_same(written, open_page):
    page = open_page(written)
    page.wait_for_selector(".card img[src]")
    assert sorted(page.locator(".card .name").all_text_contents()) == [NAME, "other"]
    assert page.locator(".card input:visible").count() == 0, "nothing draws two side by side"
    page.click(f".card .name >> text={NAME}")
    page.wait_for_selector(".curve path")
    assert page.text_content("#at") == "step 4"
    assert page.evaluate("document.getElementById('grid').naturalWidth") > 0
    assert not page.is_visible("#studio")
    page.click("nav >> text=Runs")
    page.click(".card .name >> text=other")
    page.wait_for_selector("#studio:visible")
    page.click("#studio")
    page.wait_for_selector("body >> text=exported")


def test_a_figure_says_alone_what_it_is(site, open_page):
    page = open_page(f"{site}/run/{NAME}/", viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.wait_for_selector(".curve path")
    page.check("#log")
    with page.expect_download() as download:
        page.click("[aria-label='Losses as SVG']")
    assert download.value.suggested_filename == "a-b-c-losses.svg"
    drawing = download.value.path().read_text()
    for text in (
        "a &lt;b&gt; &amp; c: Losses<",
        ">D loss<",
        ">G loss<",
        ">loss<",
        ">step<",
        ": D winning: it has won<",
    ):
        assert text in drawing
    assert "not on a logarithmic axis: G loss (all of" in drawing
    assert "var(--" not in drawing
    with page.expect_download() as download:
        page.click("[aria-label^='FID'][aria-label$='as SVG']")
    assert "half of the real images against the other half: 4" in download.value.path().read_text()
    with page.expect_download() as download:
        page.click("[aria-label='Losses as PNG']")
    assert Image.open(download.value.path()).text == {"Software": "sagan"}, "it never becomes a training image"


CHART = """async shown => {
  const { chart } = await import('/static/chart.js');
  const main = document.querySelector('main'), found = [];
  for (const { what, width } of shown) {
    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg'), { group, height } = chart(what, width);
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    svg.style = `display: block; max-width: none; width: ${width}px; height: ${height}px`;
    svg.append(group);
    main.replaceChildren(svg);
    const box = svg.getBoundingClientRect();
    const place = ({ left, right, top, bottom }) => [left, right, top, bottom];
    const boxes = names => [...svg.querySelectorAll(names)].map(each => (
      { text: each.textContent, box: place(each.getBoundingClientRect()) }));
    found.push({ svg: place(box), texts: boxes('text'), ticks: boxes('.tick'), intervals: boxes('.interval'),
      bottom: Math.max(0, ...boxes('line').map(each => each.box[3])),
      size: parseFloat(getComputedStyle(svg.querySelector('text')).fontSize) * svg.getScreenCTM().a });
  }
  return found;
}"""


def charts(page, *shown, **common):
    """What the charts of some series, (x, y) or with more, have where, at two widths."""
    about = {"xLabel": "step", "yLabel": "loss", "whole": True} | common
    asked = [
        {"what": about | {"series": [{"label": "a", "colour": 0} | each for each in series]}, "width": width}
        for series in shown
        for width in (320, 900)
    ]
    return page.evaluate(CHART, asked)


def test_no_label_of_an_axis_is_cut_or_covers_another(site, open_page):
    page = open_page(f"{site}/")
    ranges = [(1, 3000), (1, 3), (5, 5), (999_990, 1_000_000), (1, 12_345_678), (4, 6e9)]
    values = [
        (1.31, 1.89),
        (-12_345.6, 99_999),
        (1e-9, 3e-9),
        (3000.2, 3000.4),
        (0, 0),
        (1e-6, 1e9),
        (2.1, 9.9),
        (7, 7),
    ]
    for log in (False, True):
        shown = [[{"x": list(x), "y": list(y)}] for x in ranges for y in values if not log or y[0] > 0]
        for each in charts(page, *shown, log=log):
            bottom = each["svg"][3]
            assert each["size"] >= 11.9
            for text in each["texts"]:
                inside = zip(text["box"], (1, -1, 1, -1), each["svg"], strict=True)
                assert all(sign * (own - end) >= 0 for own, sign, end in inside), text["text"]
            rows = [tick for tick in each["ticks"] if tick["box"][3] < bottom - 36]
            columns = [tick for tick in each["ticks"] if tick not in rows]
            assert len(rows) >= 2
            assert columns
            for kind in (rows, columns):
                assert len({tick["text"] for tick in kind}) == len(kind), "each says another number"
            columns.sort(key=lambda tick: tick["box"][0])
            for one, other in itertools.pairwise(columns):
                assert one["box"][1] < other["box"][0]
            rows.sort(key=lambda tick: tick["box"][2])
            for one, other in itertools.pairwise(rows):
                assert one["box"][3] < other["box"][2] + 3


def test_intervals_stand_beside_each_other_and_end_where_no_value_can_be(site, open_page):
    page = open_page(f"{site}/")
    arms = [{"x": [1, 2], "y": [5 + i, 4], "spread": [60, 1], "dots": True, "label": str(i)} for i in range(4)]
    for log in (False, True):
        for each in charts(page, arms, least=0, log=log):
            places = [line["box"] for line in each["intervals"]]
            assert len(places) == 8
            assert len({round(place[0]) for place in places}) == 8
            assert all(place[2] >= each["svg"][2] and place[3] <= each["bottom"] + 0.5 for place in places)


def test_of_many_records_the_file_has_means_and_extremes(site, root, open_page):
    run = make_run(root / "long", steps=(2,))
    run.append(*(records.train(step, d_loss=50.0 if step % 100 == 0 else 1.0) for step in range(5, 3001)))
    page = open_page(f"{site}/run/long/")
    page.wait_for_selector(".curve .band")
    assert "mean of 3 records" in page.text_content("#records")
    with page.expect_download() as download:
        page.click("button[aria-label='Losses as CSV']")
    rows = list(csv.DictReader(download.value.path().read_text().splitlines()))
    peaks = [row for row in rows if row["series"] == "D loss" and float(row["high"]) == 50]
    assert len(peaks) == 30
    assert {(row["low"], round(float(row["mean"]), 3)) for row in peaks} == {("1", 17.333)}
    shutil.rmtree(root / "long")


def test_values_are_read_by_keys_and_what_a_logarithmic_axis_lacks_is_said(site, open_page):
    page = open_page(f"{site}/run/{NAME}/")
    page.wait_for_selector(".curve path")
    figure = page.locator(".curve", has_text="D loss")
    figure.locator("svg").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert figure.locator(".said").text_content().startswith("step 2: D loss 1.5")
    page.check("#log")
    assert "not on a logarithmic axis: G loss" in figure.text_content()


def test_the_studio_follows_its_address(site, open_page):
    from playwright.sync_api import expect

    page = open_page(f"{site}/studio#run=other&seed=5&point=3,4&judge=1")
    page.wait_for_selector("main[aria-busy=false] .stage")
    assert page.input_value("#run") == "other"
    assert page.is_checked("#judge")
    assert "row 3, column 4, held" in page.text_content(".stage .said")
    page.wait_for_selector("#judged:has-text('no checkpoint')")
    assert page.locator(".panels figure").count() > 1, "the generator's layers are there all the same"
    page.evaluate(f"location.hash = 'seed=7&run=' + encodeURIComponent({NAME!r})")
    expect(page.locator("#run")).to_have_value(NAME)
    expect(page.locator("#seed")).to_have_value("7")
    assert "run=other" not in page.url


def test_runs_are_sorted_by_score_where_the_cards_are_equal(site, root, open_page):
    for name, value, extractor in (("b", 90.0, "random-conv"), ("c", 3.0, "of another kind")):
        make_run(root / "cards" / name).append(records.score(5, value, extractor=extractor))
    page = open_page(f"{site}/#")
    page.wait_for_selector(".card")
    page.fill("#filter", "cards")
    page.select_option("#order", "score")
    assert page.locator(".card .name").all_text_contents() == ["cards/b", "cards/c"]
    first, second = page.locator(".group").all_text_contents()
    assert "by random-conv" in first, "the most common card"
    assert "by of another kind" in second, "whose scores are no better than others"
    shutil.rmtree(root / "cards")


def seen(page, is_seen):
    """The page is hidden, or looked at again."""
    page.evaluate(
        f"Object.defineProperty(document, 'hidden', {{ configurable: true, get: () => {str(not is_seen).lower()} }})"
    )
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_many_pages_may_be_open_and_each_is_told(site, root, browser):
    context = browser.new_context()
    pages = [context.new_page() for _ in range(8)]
    for page in pages:
        page.goto(f"{site}/", timeout=10_000)
        page.wait_for_selector(".card", timeout=10_000)
    make_run(root / "fresh", steps=(2,))
    for page in (pages[0], pages[-1]):
        page.wait_for_selector(".card[data-name=fresh]", timeout=15_000)
    pages[0].close()
    shutil.rmtree(root / "fresh")
    pages[1].wait_for_selector(".card[data-name=fresh]", state="detached", timeout=15_000)
    context.close()


def test_a_hidden_page_does_not_listen_and_is_right_when_it_is_seen(site, root, open_page):
    page = open_page(f"{site}/")
    page.wait_for_selector(".card")
    asked = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    seen(page, False)
    make_run(root / "meanwhile", steps=(2,))
    page.wait_for_timeout(600)
    assert asked == []
    seen(page, True)
    page.wait_for_selector(".card >> text=meanwhile")
    assert "events" in asked
    assert page.text_content("#status") == ""
    shutil.rmtree(root / "meanwhile")


def test_the_studio_follows_the_snapshots(site, root, open_page):
    from playwright.sync_api import expect

    run = make_run(root / "live a")
    page = open_page(f"{site}/studio#run=live a")
    ready(page)
    assert "step=4" in page.evaluate("location.hash"), "a link shows the same later"
    assert "--step 4" in page.text_content("#words")
    newest = run.snapshot_file(4)
    anew = make_run(root.parent / "anew", seed=9).snapshot_file(4)
    (_, wanted), *_ = numbered_images(load_snapshot(anew).generator, 0, range(1), device=CPU)
    anew.replace(newest)
    deadline = time.monotonic() + 10
    while (shown(page) != wanted.permute(1, 2, 0).numpy()).any() and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    assert (shown(page) == wanted.permute(1, 2, 0).numpy()).all(), "of the file as it is now"
    newest.unlink()
    expect(page.locator(".note")).to_have_text("live a has no snapshot of step 4: the nearest is drawn, of step 2.")
    expect(page.locator(".stage figcaption").first).to_contain_text("step 2")
    make_run(root.parent / "later", steps=(6,)).snapshot_file(6).replace(run.snapshot_file(6))
    expect(page.locator("#stepped")).to_have_text("6")
    expect(page.locator(".stage figcaption").first).to_contain_text("step 6")
    assert page.text_content(".note") == ""
    assert page.get_attribute("#step", "max") == "1"
    page.evaluate("location.hash = 'run=live a&step=3&point=1,2'")
    expect(page.locator(".note")).to_contain_text("no snapshot of step 3")
    expect(page.locator(".stage .said").first).to_have_text("row 1, column 2, held")
    page.evaluate("location.hash = 'run=live a'")
    expect(page.locator(".stage .said").first).to_have_text("")
    page.evaluate("location.hash = 'run=nobody'")
    expect(page.locator("#status")).to_contain_text("nobody cannot be drawn from")
    assert page.locator(".stage").count() == 0
    shutil.rmtree(root / "live a")


def test_a_site_is_whole_or_not_there(root, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="contains no run"):
        write_site(tmp_path, tmp_path / "site")
    monkeypatch.setattr("sagan.gallery.site.details", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_site(root, tmp_path / "site")
    assert not list(tmp_path.iterdir())
