"""Walks of several generators, whose classes may be numbered differently, and the light of attention on them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sagan.core.sampling import generate, numbered_latents
from sagan.run.build import build_generator
from sagan.run.config import Config, ModelConfig
from sagan.run.weights import Snapshot
from sagan.system.errors import UserError
from sagan.viewing.figures import lay_over
from sagan.viewing.walks import Walk, class_in_each, walk_frames

CPU = torch.device("cpu")


def snapshot(*classes):
    model = ModelConfig(imsize=16, z_dim=4, g_conv_dim=4, g_attention=(), num_classes=len(classes))
    torch.manual_seed(0)
    return Snapshot(build_generator(model).eval(), Config(model=model), 1, None, classes)


def test_a_walk_passes_the_images_of_its_seed():
    made = snapshot()
    frames = list(walk_frames([made.generator], Walk(seed=3, seeds=3, frames=2), CPU))
    z, _ = numbered_latents(made.generator, 3, range(3))
    images = generate(made.generator, z).permute(0, 2, 3, 1).numpy().astype(int)
    assert abs(np.stack(frames)[::2, ::16, ::16] - images).max() <= 1


def test_the_class_of_a_walk_is_known_by_its_name_in_each_run():
    one, other = snapshot("ant", "bat", "cat"), snapshot("bat", "cat", "ant")
    assert class_in_each([one, other], None) == (0, 2)
    assert class_in_each([one, other], 1) == (1, 0)
    assert class_in_each([one, snapshot("a", "b", "c")][:1], 2) == (2,)
    assert class_in_each([snapshot()], None) == ()
    with pytest.raises(UserError, match="got label 'bat'"):
        class_in_each([one, snapshot("ant", "dog", "cat")], 1)


def test_pictures_beside_each_other_are_of_one_class():
    one, other = snapshot("ant", "bat"), snapshot("bat", "ant")
    for layer in (each for each in one.generator.modules() if hasattr(each, "num_classes") and hasattr(each, "norm")):
        torch.nn.init.normal_(layer.bias)
    own = one.generator.state_dict()
    tables = {name: value.flip(0) if value.shape[:1] == (2,) else value for name, value in own.items()}
    other.generator.load_state_dict(tables)
    walk = Walk(seeds=2, frames=2, labels=class_in_each([one, other], 1))
    for frame in walk_frames([one.generator, other.generator], walk, CPU):
        assert (frame[:, :256] == frame[:, -256:]).all()


def test_uniform_attention_has_the_middle_of_the_scale():
    made = snapshot()
    generator = build_generator(replace(made.config.model, g_attention=(8,))).eval()
    (layer,) = generator.attention.values()
    for part in (layer.query, layer.key):
        torch.nn.init.zeros_(part.weight)
        torch.nn.init.zeros_(part.bias)
    z, _ = numbered_latents(generator, 0, range(2))
    image = generate(generator, z)[0].permute(1, 2, 0).numpy()
    frame = next(iter(walk_frames([generator], Walk(seeds=2, frames=1, point=(15, 15)), CPU)))
    expected = lay_over(image, np.full((8, 8), 0.5))
    assert abs(frame[:64:16, :64:16] / 255 - expected[:4, :4]).max() < 0.01
