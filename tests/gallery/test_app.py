"""What the server answers: to its own pages, and to strangers."""

import asyncio
import base64
import threading

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from sagan.core.latents import principal_directions, slerp
from sagan.core.sampling import generate, numbered_images, numbered_latents
from sagan.data import prepared_store
from sagan.gallery.app import make_app
from sagan.gallery.drawing import MOST_PICTURES
from sagan.gallery.library import Library
from sagan.gallery.watching import Watch
from sagan.run.config import DataConfig
from sagan.run.folder import Run
from sagan.run.weights import load_discriminator, load_snapshot
from sagan.system.console import Console
from sagan.viewing.figures import light_of
from sagan.viewing.maps import discriminator_attention, even_weight, generator_attention
from tests.gallery.made import CLASSES, finished, make_run

CPU = torch.device("cpu")
NAME = "a <b> & c"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    make_run(root / NAME)
    make_run(root / "other", seed=5, span=0)
    return root


@pytest.fixture(scope="module")
def client(root):
    with TestClient(make_app(root, CPU), base_url="http://localhost:8017") as client:
        yield client


def generator_of(root, step=4):
    return load_snapshot(root / NAME / "snapshots" / f"{step:08d}.safetensors").generator


def draw(client, step=None, **ask):
    answer = client.post("/api/draw", json={"run": NAME, "step": step, "ask": ask})
    assert answer.status_code == 200, answer.text
    return np.frombuffer(answer.content, np.uint8).reshape(-1, 16, 16, 3)


# ---- what it answers


def test_pages_show_names_as_text(client):
    assert [each["name"] for each in client.get("/api/runs.json").json()] in ([NAME, "other"], ["other", NAME])
    page = client.get(f"/run/{NAME}/")
    assert page.status_code == 200
    assert "a &lt;b&gt; &amp; c" in page.text
    assert "<b>" not in page.text


def test_grids_and_curves_are_there(client, root):
    about = client.get(f"/api/run/{NAME}/facts.json").json()
    assert about["grids"] == [2, 4]
    grid = client.get(f"/api/run/{NAME}/grid/4.png")
    assert grid.content == (root / NAME / "samples" / "4_fake.png").read_bytes()
    assert client.get(f"/api/run/{NAME}/curves.json").json()["train"]["step"] == [1, 2, 3, 4]
    assert client.get(f"/api/run/{NAME}/model.json").json()["classes"] == list(CLASSES)


@pytest.mark.parametrize("step", [None, 2])
def test_it_draws_what_sample_draws(client, root, step):
    wanted = numbered_images(generator_of(root, step or 4), 7, range(3, 8), device=CPU, truncation=0.8)
    assert (draw(client, step, seed=7, number=3, count=5, truncation=0.8) == pictures(wanted)).all()
    wanted = numbered_images(generator_of(root, step or 4), 7, range(3, 4), device=CPU, label=1)
    assert (draw(client, step, seed=7, number=3, label=1) == pictures(wanted)).all()


def pictures(numbered):
    return np.stack([image.permute(1, 2, 0).numpy() for _, image in numbered])


def test_it_walks_and_moves_along_directions(client, root):
    generator = generator_of(root)
    z, _ = numbered_latents(generator, 0, range(6))
    rows, _ = principal_directions(generator, 2)
    wanted = generate(generator, slerp(z[5:6], z[2:3], 0.25) + 1.5 * rows[1], torch.tensor([1]))
    found = draw(client, pins=[2, 5], at=1.25, along=[0, 1.5], label=1)
    assert (found[0] == wanted[0].permute(1, 2, 0).numpy()).all()


def test_looking_gives_the_weights_of_python(client, root):
    generator = generator_of(root)
    _, layers = generator_attention(generator, 4, *numbered_latents(generator, 3, range(1)))
    asked = {"run": NAME, "ask": {"seed": 3}}
    for y, x in ((0, 0), (9, 14)):
        found = client.post("/api/look", json={"draw": asked, "y": y, "x": x}).json()["layers"]
        assert len(found) == len(layers) == 2
        for answer, layer in zip(found, layers, strict=True):
            query = layer.query_at((y, x), 16)
            weights = layer.weights(0, [query])[0]
            light = np.frombuffer(base64.b64decode(answer["light"]), np.uint8) / 255
            wanted = light_of(weights.numpy(), even_weight(layer.pattern, query))
            np.testing.assert_allclose(light, wanted, atol=0.003)
            assert answer["largest"] == pytest.approx(weights.max().item())
            inside = layer.measure()["inside"][0, query].item()
            assert answer["inside"] == pytest.approx(inside, abs=1e-6)
            assert answer["radius"] == 1


def test_requests_of_many_clients_are_drawn_together(client, root):
    found = {}

    def one(seed):
        found[seed] = draw(client, seed=seed)

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(100, 120)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, drawn in found.items():
        assert (drawn == pictures(numbered_images(generator_of(root), seed, range(1), device=CPU))).all()


# ---- mistakes and strangers


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"run": NAME, "ask": {"count": 1000}}, f"count must be from 1 to {MOST_PICTURES} pictures at once, got 1,000"),
        ({"run": NAME, "ask": {"count": 0}}, "count must be from 1"),
        ({"run": NAME, "ask": {"seed": -1}}, "seed must be 0 or more, got -1"),
        ({"run": NAME, "ask": {"seed": 1e300}}, "seed"),
        ({"run": NAME, "ask": {"label": 2}}, "this generator has classes 0 to 1, got label 2"),
        ({"run": NAME, "ask": {"along": [1e9]}}, "along must be"),
        ({"run": NAME, "ask": {"truncation": 0}}, "truncation must be 0.01 or more"),
        ({"run": NAME, "ask": {"pins": [1, 2], "at": 7}}, "at must be from 0"),
        ({"run": NAME, "ask": {"pins": [10**400, 2]}}, "pins"),
        ({"run": NAME, "ask": {}, "other": 1}, "other"),
        ({"run": NAME}, "ask"),
        ([], "the request"),
    ],
)
def test_what_cannot_be_drawn_is_a_sentence(client, body, said):
    answer = client.post("/api/draw", json=body)
    assert answer.status_code == 422
    assert said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"run": "' + b"a" * 70_000 + b'"}'])
def test_damaged_requests_are_a_sentence(client, body):
    answer = client.post("/api/draw", content=body)
    assert answer.status_code == 422
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    "path",
    [
        *("/api/run/nothing", "/api/run/%2e%2e%2fa", "/run/nothing", "/static/../app.py"),
        *(
            "/static/%2e%2e%2f%2e%2e%2frender.py",
            "/nothing",
            f"/api/run/{NAME}/grid/3.png",
            "/api/run//etc/passwd/grid/1.png",
        ),
        f"/api/run/{NAME}/grid/99999999999999999999999.png",
    ],
)
def test_what_is_not_there_is_a_sentence(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    said = answer.json()["error"] if path.startswith("/api") else answer.text
    assert said
    assert "Traceback" not in said


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "POST"])
def test_it_only_shows(client, method):
    assert client.request(method, "/api/runs.json").status_code in (403, 405)


def test_every_answer_has_a_policy_of_what_may_be_loaded(client):
    for path in ("/", "/api/runs.json", "/nothing", "/static/style.css"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


HOSTS = frozenset({"localhost", "127.0.0.1"})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "127.0.0.1:8017"}, 200),
        ({"host": "evil.example:8017"}, 403),
        ({"host": "localhost:9000"}, 200),  # a tunnel from another port
        ({"host": "localhost"}, 200),  # port 80
        ({"host": "LOCALHOST:8017"}, 200),
        ({"host": "localhost.evil.example:8017"}, 403),
        ({"host": "localhost:8017:80"}, 403),
        ({"host": ""}, 403),
        ({"host": "localhost:9000", "origin": "http://localhost:8017"}, 403),
        ({"origin": "http://localhost:8017"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:8017.evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
    ],
)
def test_only_its_own_pages_are_answered(root, headers, status):
    client = TestClient(make_app(root, CPU, HOSTS), base_url="http://localhost:8017")
    assert client.get("/api/runs.json", headers=headers).status_code == status
    assert client.get("/", headers=headers).status_code == status


def test_others_need_the_token(root):
    client = TestClient(make_app(root, CPU, token="secret"), base_url="http://192.0.2.1:8017", follow_redirects=False)
    for headers in ({}, {"cookie": "sagan=wrong"}, {"cookie": "sagan="}, {"cookie": "\x7f=;;"}):
        assert client.get("/api/runs.json", headers=headers).status_code == 401
    assert client.get("/?token=wrong").status_code == 401
    astray = client.get("http://192.0.2.1:8017//evil.example/?token=secret&<b>")
    assert "url=/evil.example/" in astray.text
    assert "<b>" not in astray.text
    first = client.get("/studio?token=secret&a=1")
    assert (first.status_code, "url=/studio?a=1" in first.text) == (200, True)
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert client.get("/api/runs.json").status_code == 200


# ---- runs that change meanwhile


def test_a_run_may_be_written_torn_and_removed(tmp_path):
    import shutil

    run = make_run(tmp_path / "a")
    with TestClient(make_app(tmp_path, CPU), base_url="http://localhost:8017") as client:
        assert client.get("/api/run/a/facts.json").json()["state"] == "done"
        run.snapshot_file(4).write_bytes(b"torn")
        answer = client.post("/api/draw", json={"run": "a", "ask": {}})
        assert answer.status_code == 422
        assert str(tmp_path) not in answer.json()["error"]
        run.config_file.write_text("{")
        assert client.get("/api/run/a/facts.json").json()["state"] == "damaged"
        shutil.rmtree(tmp_path / "a")
        for path in ("/api/run/a/facts.json", "/api/run/a/curves.json", "/run/a/"):
            assert client.get(path).status_code == 404
        assert client.get("/api/runs.json").json() == []


def test_a_change_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("sagan.gallery.watching.BETWEEN", 0.05)
    make_run(tmp_path / "a")

    async def changes():
        watch = Watch(Library(tmp_path))
        events = watch.events()
        assert await anext(events) == b"retry: 2000\n\n"
        asyncio.get_running_loop().call_later(0.5, make_run, tmp_path / "new")
        told = await asyncio.wait_for(anext(events), 60)
        await events.aclose()
        for _ in range(1000):
            if watch._task is None:
                return told
            await asyncio.sleep(0.02)
        raise AssertionError("nobody listens, and yet it is looked")

    assert finished(changes()) == b'data: ["new"]\n\n'


def test_the_discriminator_looks_at_drawn_pictures_and_at_those_it_was_trained_on(tmp_path):
    from sagan.cli import main

    images = np.random.default_rng(1).integers(0, 256, (6, 16, 16, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    words = ["--data", str(tmp_path / "images.npy"), "--imsize", "16", "--g_conv_dim", "4", "--d_conv_dim", "4"]
    words += ["--g_attention", "8", "--d_attention", "4", "--batch_size", "4", "--device", "cpu"]
    words += ["--prepared", str(tmp_path / "prepared"), "--total_step", "1", "--run_dir", str(tmp_path / "runs" / "a")]
    assert main(["train", *words]) == 0
    asked = {"draw": {"run": "a", "ask": {}}, "y": 3, "x": 3}
    with TestClient(make_app(tmp_path / "runs", CPU), base_url="http://localhost:8017") as client:
        names = [each["name"] for each in client.post("/api/look", json=asked | {"judge": True}).json()["layers"]]
        assert names == ["generator 8x8, step 1", "discriminator 4x4, step 1"]

        assert client.get("/api/run/a/model.json").json()["real"] == 6
        for number in (0, 5):
            answer = client.post("/api/real", json={"run": "a", "number": number})
            assert answer.content == images[number].tobytes()
        assert client.post("/api/real", json={"run": "a", "number": 6}).status_code == 422
        (looked,) = client.post("/api/look", json=asked | {"real": 5}).json()["layers"]
        discriminator, step = load_discriminator(Run(tmp_path / "runs" / "a"))
        (layer,) = discriminator_attention(discriminator, step, torch.tensor(images[5:]).permute(0, 3, 1, 2))
        weights = layer.weights(0, [layer.query_at((3, 3), 16)])
        assert looked["name"] == "discriminator 4x4, step 1"
        assert looked["largest"] == pytest.approx(weights.max().item(), abs=1e-7)

        (tmp_path / "runs" / "a" / "checkpoints" / "last.pt").unlink()
        answer = client.post("/api/look", json=asked | {"judge": True}).json()
        assert (len(answer["layers"]), "no checkpoint" in answer["said"]) == (1, True)
        assert client.post("/api/look", json=asked | {"real": 0}).status_code == 422


def test_of_a_store_with_other_pixels_nothing_is_shown(tmp_path):
    """Whatever folder a config names: only images with the hash that the snapshot records are shown."""
    run = make_run(tmp_path / "runs" / "a")
    np.save(tmp_path / "images.npy", np.zeros((3, 16, 16, 3), np.uint8))
    data = DataConfig(data=str(tmp_path / "images.npy"), prepared=str(tmp_path / "prepared"))
    prepared_store(data, 16, Console(quiet=True))
    assert list((tmp_path / "prepared").glob("*/meta.json"))
    with TestClient(make_app(run.folder.parent, CPU), base_url="http://localhost:8017") as client:
        assert client.get("/api/run/a/model.json").json()["real"] == 0
        answer = client.post("/api/real", json={"run": "a", "number": 0})
        assert (answer.status_code, "not found" in answer.text) == (422, True)


def test_numbers_no_integer_can_have_are_missing_and_not_a_fault(client):
    for step in ("9" * 5000, "-1", "\u0664", "x"):
        assert client.get(f"/api/run/{NAME}/grid/{step}.png").status_code == 404


@pytest.mark.parametrize(
    ("place", "body"),
    [
        ("look", {"draw": {"run": NAME, "ask": {"count": 2}}, "y": 0, "x": 0}),
        ("draw", {"run": NAME, "ask": {"truncation": 0.01, "count": 256}}),
    ],
)
def test_what_would_take_too_long_or_is_not_one_picture_is_refused(client, place, body):
    answer = client.post(f"/api/{place}", json=body)
    assert answer.status_code == 422
    assert "error" in answer.json()
