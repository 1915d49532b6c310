import pytest
import torch

from benchmarks.plain import PlainDiscriminator, PlainGenerator
from sagan.published.imports import import_pair, load_published_discriminator, load_published_generator
from sagan.run.config import Config, DataConfig, ModelConfig, RunConfig
from sagan.run.folder import Run
from sagan.run.weights import load_checkpoint, load_snapshot
from sagan.system.console import Console


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A pair of the published program at step 500 with span 3 and open gates, and its networks."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    generator, discriminator = PlainGenerator(3), PlainDiscriminator(3)
    for net in (generator, discriminator):
        for layer in (net.attn1, net.attn2):
            torch.nn.init.constant_(layer.gamma, 20.0)
            layer.query_conv.weight.data.mul_(20)  # so that attention is far from even, and the mask matters
    with torch.no_grad():
        for _ in range(3):
            generator(torch.randn(8, 128))
    torch.save(generator.state_dict(), folder / "500_G.pth")
    torch.save(discriminator.state_dict(), folder / "500_D.pth")
    return folder, generator, discriminator


def config(folder, span=3, data=None, **run):
    data = DataConfig(None if data is None else str(data))
    return Config(data, ModelConfig(span=span, masking="before"), run=RunConfig(run_dir=str(folder), **run))


def images_folder(tmp_path):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "photos" / "a.png")
    return tmp_path / "photos"


def test_the_imported_generator_draws_the_published_images(published, tmp_path):
    folder, plain, _ = published
    path = import_pair(folder / "500_G.pth", config(tmp_path / "run"), Console(quiet=True))
    snapshot = load_snapshot(path)
    z = torch.randn(4, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(snapshot.generator(z), plain.eval()(z)[0], rtol=0, atol=1e-4)
    assert (snapshot.step, snapshot.config.model.span, snapshot.config.model.masking) == (500, 3, "before")


def test_the_span_matters(published):
    folder, _, _ = published
    z = torch.randn(2, 128, generator=torch.Generator().manual_seed(1))
    one, other = (load_published_generator(folder / "500_G.pth", span)[0](z) for span in (0, 3))
    assert (one - other).abs().max() > 1e-2


def test_the_imported_discriminator_is_the_published_one_where_every_query_has_a_key(published):
    """With span 1; with span 3 the published program spreads attention over what it meant to exclude."""
    folder, _, plain = published
    discriminator = load_published_discriminator(folder / "500_D.pth", 1)
    other = PlainDiscriminator(1)
    other.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(discriminator(images), other(images)[0], rtol=1e-4, atol=1e-4)


def test_a_pair_with_images_becomes_a_run_to_train_on(published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images_folder(tmp_path)
    import_pair(published[0] / "500_G.pth", config("run", data="photos"), Console(quiet=True))
    run = Run.open(tmp_path / "run")
    state = load_checkpoint(run.checkpoint_file)
    assert (state.step, state.images) == (500, None)
    kept = run.config()
    assert kept.data.data == str(tmp_path / "photos")  # from wherever it is resumed
    assert (kept.model.d_conv_dim, kept.model.norm_axis) == (64, "input")
    trained = load_published_discriminator(published[0] / "500_D.pth", 3)
    assert torch.equal(state.discriminator["last.weight"], trained.state_dict()["last.weight"])


@pytest.mark.parametrize("lacking", ["images", "discriminator"])
def test_without_images_or_discriminator_there_is_a_snapshot_only(published, tmp_path, capsys, lacking):
    folder = published[0]
    if lacking == "discriminator":
        folder = tmp_path / "alone"
        folder.mkdir()
        (folder / "500_G.pth").write_bytes((published[0] / "500_G.pth").read_bytes())
    data = images_folder(tmp_path) if lacking == "discriminator" else None
    import_pair(folder / "500_G.pth", config(tmp_path / "run", data=data), Console())
    assert "for sampling only" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["snapshots"]


def test_span_0_says_that_the_published_span_0_is_another(published, tmp_path, capsys):
    import_pair(published[0] / "500_G.pth", config(tmp_path / "run", span=0), Console())
    assert "--span self" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("500_D.pth", None, "named STEP_G.pth, got 500_D.pth"),
        ("7_G.pth", b"no checkpoint", "7_G.pth is not"),
        ("8_G.pth", "500_D.pth", "not a published 64x64 generator"),
    ],
)
def test_files_of_another_kind_are_refused_and_leave_nothing(published, tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else (published[0] / (content or name)).read_bytes())
    with pytest.raises(ValueError, match=said):
        import_pair(path, config(tmp_path / "run"), Console(quiet=True))
    assert not (tmp_path / "run").exists()


def test_nothing_is_imported_for_images_that_are_not_there_or_into_a_taken_folder(published, tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        import_pair(published[0] / "500_G.pth", config(tmp_path / "run", data=tmp_path / "no"), Console(quiet=True))
    with pytest.raises(ValueError, match="not an empty folder"):
        import_pair(published[0] / "500_G.pth", config(images_folder(tmp_path)), Console(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
