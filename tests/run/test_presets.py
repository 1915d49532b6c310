import pytest

from sagan.run.build import attention_patterns, build_discriminator, build_generator
from sagan.run.presets import PRESETS, automatic_preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_builds(name):
    model = PRESETS[name].model
    for network, build in (("generator", build_generator), ("discriminator", build_discriminator)):
        assert len(build(model).attention) == len(attention_patterns(model, network)) > 0


def test_the_published_preset_is_the_published_setting():
    config = PRESETS["published"]
    assert (config.model.imsize, config.model.g_conv_dim, config.model.z_dim) == (64, 64, 128)
    assert (config.game.g_lr, config.game.d_lr, config.game.beta1, config.game.beta2) == (1e-4, 4e-4, 0.0, 0.9)
    assert (config.game.batch_size, config.game.adv_loss, config.run.total_step) == (64, "hinge", 100_000)
    assert config.game.ema_halflife == 0
    assert list(attention_patterns(config.model, "generator")) == [16, 32]
    assert list(attention_patterns(config.model, "discriminator")) == [8, 4]


def test_the_paper_preset_is_the_setting_of_its_code():
    config = PRESETS["paper"]
    assert (config.model.network, config.model.imsize, config.model.g_conv_dim, config.model.pool) == (
        "resnet",
        128,
        64,
        2,
    )
    assert (config.game.g_lr, config.game.d_lr, config.game.batch_size) == (1e-4, 4e-4, 256)
    assert (config.game.beta1, config.game.beta2) == (0.0, 0.999)  # which is what its code leaves as it is
    for network in ("generator", "discriminator"):
        assert list(attention_patterns(config.model, network)) == [32]


def test_the_machine_chooses_a_preset():
    assert automatic_preset("cpu") == "small"
    assert automatic_preset("cuda") == automatic_preset("mps") == "best"
    assert PRESETS["small"].game == PRESETS["best"].game
