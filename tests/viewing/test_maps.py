"""Where attention looks, against the reference op, against sums written out, and against maps too large to hold."""

import dataclasses
import math

import pytest
import torch

import sagan.viewing.maps as viewing
from sagan.core.attention import ExcludeLocal, Full, attention_weights
from sagan.core.sampling import numbered_images, numbered_latents
from sagan.run.build import build_discriminator, build_generator
from sagan.run.config import Config, ModelConfig
from sagan.run.folder import Run
from sagan.run.weights import load_discriminator, save_checkpoint, write_torch_file
from sagan.training.trainer import Trainer
from sagan.viewing.maps import (
    MEASURES,
    LayerAttention,
    average,
    average_if_even,
    choose_points,
    discriminator_attention,
    even_weight,
    excluded,
    generator_attention,
    layer_row,
)

PATTERNS = [
    ExcludeLocal(8, 8, 0),
    ExcludeLocal(8, 8, "self"),
    ExcludeLocal(8, 8, 2),
    ExcludeLocal(8, 8, 1, "before"),
    ExcludeLocal(8, 8, 1, pool=2),
    ExcludeLocal(8, 8, 2, "before", pool=4),
    ExcludeLocal(4, 4, 3),
    ExcludeLocal(4, 4, 2, "before"),
    Full(8, 8),
]
MODELS = [
    ModelConfig(imsize=16, z_dim=4, g_conv_dim=8, d_conv_dim=8, span=1, g_attention=(4, 8), d_attention=(8, 4)),
    ModelConfig(
        imsize=16, z_dim=4, g_conv_dim=8, d_conv_dim=8, span="self", masking="before", d_attention=(8,), pool=2
    ),
    ModelConfig(
        network="resnet",
        imsize=16,
        z_dim=4,
        g_conv_dim=8,
        d_conv_dim=8,
        num_classes=3,
        span=2,
        pool=2,
        g_attention=(8, 16),
        d_attention=(8,),
    ),
]


def attention_of(pattern, images=2, seed=0, sharpness=1.0):
    random = torch.Generator().manual_seed(seed)
    q = torch.randn(images, 1, pattern.queries, 3, generator=random) * sharpness
    k = torch.randn(images, 1, pattern.keys, 3, generator=random)
    return LayerAttention("generator", 7, pattern, 0.5, q, k)


def networks(model):
    generator = build_generator(model, 1).eval().requires_grad_(False)
    discriminator = build_discriminator(model, 1).eval().requires_grad_(False)
    return generator, discriminator


# ---- weights


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: f"{pattern.height} {pattern.label}")
def test_weights_are_those_of_the_reference_op_to_the_bit(pattern):
    looks = attention_of(pattern)
    whole = attention_weights(looks.q, looks.k, pattern)[:, 0]
    queries = [0, pattern.queries - 1, 5, 5]
    for image in range(2):
        assert torch.equal(looks.weights(image, queries), whole[image, queries])


@pytest.mark.parametrize("model", MODELS, ids=["dcgan", "self, before, pooled", "resnet with classes"])
def test_what_a_network_looked_at_is_what_its_layers_attend_to(model):
    """Each layer, given its own input again, has these weights; so its output is made of them."""
    generator, discriminator = networks(model)
    z, labels = numbered_latents(generator, 3, range(4))
    seen = {}
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        for size, layer in network.attention.items():
            layer.gamma.fill_(0.7)
            layer.register_forward_hook(lambda module, given, out, key=(name, int(size)): seen.update({key: given[0]}))
    images, looks = generator_attention(generator, 5, z, labels)
    looks += discriminator_attention(discriminator, 6, images)
    assert [(each.network, each.pattern.height) for each in looks] == [
        *(("generator", int(size)) for size in generator.attention),
        *(("discriminator", int(size)) for size in discriminator.attention),
    ]
    for each in looks:
        network = generator if each.network == "generator" else discriminator
        layer = network.attention[str(each.pattern.height)]
        expected = layer.weights(seen[each.network, each.pattern.height])
        assert each.step == (5 if network is generator else 6)
        assert each.gamma == pytest.approx(0.7)
        for image in range(4):
            assert torch.equal(each.weights(image, range(each.pattern.queries)), expected[image])


@pytest.mark.parametrize("model", MODELS, ids=["dcgan", "self, before, pooled", "resnet with classes"])
def test_the_pictures_are_those_that_are_sampled(model):
    generator, _ = networks(model)
    images, _ = generator_attention(generator, 0, *numbered_latents(generator, 3, range(4)))
    sampled = numbered_images(generator, 3, range(4), device=torch.device("cpu"), batch_size=4)
    assert torch.equal(images, torch.stack([image for _, image in sampled]))


def test_looking_leaves_no_trace_in_a_network():
    generator, discriminator = networks(MODELS[0])
    images, _ = generator_attention(generator, 0, *numbered_latents(generator, 0, range(1)))
    discriminator_attention(discriminator, 0, images)
    for network in (generator, discriminator):
        assert not any(module._forward_hooks for module in network.modules())


# ---- measures


def measured_plainly(pattern, weights, softmax, query):
    """The measures of one query, each sum written out."""
    columns = pattern.width // pattern.pool
    rows = pattern.height // pattern.pool
    seen = pattern.mask()[query].tolist()
    used = sum(weights)
    if used == 0:
        return dict.fromkeys(MEASURES, math.nan) | {"inside": sum(softmax)}
    y, x = divmod(query, pattern.width)
    numbers = dict.fromkeys(MEASURES, 0.0)
    for key, weight in enumerate(weights):
        share = weight / used
        row, column = divmod(key, columns)
        middle = (pattern.pool - 1) / 2
        far = math.dist((y, x), (row * pattern.pool + middle, column * pattern.pool + middle))
        numbers["entropy"] -= share * math.log2(share) if share else 0
        numbers["distance"] += share * far
        numbers["border"] += share if row in (0, rows - 1) or column in (0, columns - 1) else 0
        numbers["inside"] += 0 if seen[key] else softmax[key]
    return numbers


@pytest.mark.parametrize("tile", [1, 300, 2**20], ids=["a row at a time", "partial tiles", "whole"])
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: f"{pattern.height} {pattern.label}")
def test_measures_are_their_sums_written_out(pattern, tile, monkeypatch):
    monkeypatch.setattr(viewing, "TILE", tile)
    looks = attention_of(pattern)
    numbers = looks.measure()
    weights = attention_weights(looks.q.double(), looks.k.double(), pattern)[:, 0]
    softmax = (looks.q.double() @ looks.k.double().transpose(2, 3)).softmax(-1)[:, 0]
    for image in range(2):
        for query in range(0, pattern.queries, 3):
            expected = measured_plainly(pattern, weights[image, query].tolist(), softmax[image, query].tolist(), query)
            found = {name: values[image, query].item() for name, values in numbers.items()}
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-6, nan_ok=True)


def test_even_attention_is_known_in_closed_form():
    even = average_if_even(ExcludeLocal(8, 8, 0))
    assert even["entropy"] == pytest.approx(6)
    assert even["inside"] == 0
    assert even["border"] == pytest.approx(28 / 64)
    pattern = ExcludeLocal(8, 8, 1)
    assert average_if_even(pattern)["inside"] == pytest.approx(1 - pattern.visible_share())
    assert average_if_even(ExcludeLocal(8, 8, 0, pool=2))["entropy"] == pytest.approx(4)


@pytest.mark.parametrize("pattern", PATTERNS[:6], ids=lambda pattern: pattern.label)
def test_an_even_weight_is_that_of_equal_scores(pattern):
    even = LayerAttention(
        "generator", 0, pattern, 0, torch.zeros(1, 1, pattern.queries, 1), torch.zeros(1, 1, pattern.keys, 1)
    )
    for query in (0, 9, 63):
        (weights,) = even.weights(0, [query])
        if weights.any():
            assert weights.max().item() == pytest.approx(even_weight(pattern, query))


def test_a_layer_that_sees_nothing_has_no_averages_but_the_mass_inside():
    looks = attention_of(ExcludeLocal(4, 4, 3))
    row = layer_row("run", looks, looks.measure())
    assert row["inside"] == pytest.approx(1)
    assert all(math.isnan(row[name]) for name in ("entropy", "distance", "border"))
    assert choose_points(looks, looks.measure(), 0, 16) == []


def test_queries_that_see_nothing_are_left_out_of_averages():
    pattern = ExcludeLocal(4, 4, 2)  # its middle four see nothing
    numbers = attention_of(pattern).measure()
    seeing = pattern.visible_keys() > 0
    assert 0 < seeing.sum() < 16
    assert torch.equal(numbers["entropy"].isnan(), (~seeing).expand(2, -1))
    assert average(numbers)["entropy"] == pytest.approx(numbers["entropy"][:, seeing].mean().item())


def test_a_map_of_16384_queries_is_never_all_in_memory(monkeypatch):
    """No call of the reference op is given more than a tile, and what it gives is right."""
    sizes = []

    def watched(q, k, pattern):
        sizes.append(q.shape[2] * k.shape[2])
        return attention_weights(q, k, pattern)

    monkeypatch.setattr(viewing, "attention_weights", watched)
    pattern = ExcludeLocal(128, 128, 3)
    looks = attention_of(pattern, images=1)
    queries = [0, 8_256, 16_383]
    weights = looks.weights(0, queries)
    scores = looks.q[0, 0, queries] @ looks.k[0, 0].T
    hidden = torch.stack([~pattern.mask(query, query + 1)[0] for query in queries])
    torch.testing.assert_close(weights, scores.softmax(-1).masked_fill(hidden, 0))
    large = attention_of(ExcludeLocal(128, 128, 3, pool=16), images=1)  # as many queries, and quick to measure
    assert large.measure()["entropy"].shape == (1, 16_384)
    assert max(sizes) <= viewing.TILE < 16_384**2 / 100


# ---- points


def test_points_are_where_entropy_is_lowest_and_well_apart():
    looks = attention_of(ExcludeLocal(16, 16, 1), sharpness=3.0)
    numbers = looks.measure()
    points = choose_points(looks, numbers, 1, 64)
    queries = [looks.query_at(point, 64) for point in points]
    entropy = numbers["entropy"][1]
    assert len(points) == 4
    assert queries[0] == int(entropy.argmin())
    assert entropy[queries].tolist() == sorted(entropy[queries].tolist())
    for number, (y, x) in enumerate(points):
        assert all(max(abs(y - v), abs(x - u)) >= 64 / 4 for v, u in points[:number])


@pytest.mark.parametrize(("size", "map_size"), [(16, 16), (32, 8), (64, 4)])
def test_a_point_is_in_the_pixel_of_the_map_that_it_was_chosen_for(size, map_size):
    looks = attention_of(ExcludeLocal(map_size, map_size, 0))
    numbers = {"entropy": torch.arange(float(map_size**2)).flip(0).expand(2, -1)}
    (point,) = choose_points(looks, numbers, 0, size, count=1)
    assert looks.query_at(point, size) == map_size**2 - 1
    assert looks.query_at((0, size - 1), size) == map_size - 1
    assert looks.query_at((size - 1, 0), size) == map_size * (map_size - 1)


def test_the_excluded_cells_are_the_hidden_ones():
    for pattern in PATTERNS:
        for query in range(pattern.queries):
            hidden = torch.zeros(pattern.height // pattern.pool, pattern.width // pattern.pool, dtype=torch.bool)
            if square := excluded(pattern, query):
                hidden[square.top : square.bottom, square.left : square.right] = True
            assert torch.equal(hidden.flatten(), ~pattern.mask(query, query + 1)[0])


# ---- the discriminator of a run


def test_the_discriminator_is_that_of_the_checkpoint(tmp_path):
    config = Config(model=MODELS[0])
    run = Run.create(tmp_path / "run", config)
    discriminator = build_discriminator(config.model, 9)
    state = Trainer(config, torch.device("cpu")).state()
    state = dataclasses.replace(state, step=12, discriminator=discriminator.state_dict())
    save_checkpoint(run.checkpoint_file, state)
    found, step = load_discriminator(run)
    assert step == 12
    assert not found.training
    for name, values in discriminator.state_dict().items():
        assert torch.equal(found.state_dict()[name], values)
    write_torch_file(run.checkpoint_file, {"step": 12})
    with pytest.raises(ValueError, match="is not a checkpoint of sagan"):
        load_discriminator(run)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_a_discriminator_that_has_diverged_looks_nowhere(value):
    model = MODELS[0]
    discriminator = build_discriminator(model).eval()
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.fill_(value)
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"the discriminator of step 4 on its 8x8 map is NaN or infinite.*diverged"):
        discriminator_attention(discriminator, 4, images)
