"""Named configs to start from; flags change single settings.

``best``        the default of `sagan train`: residual networks with about as many weights as the published ones,
                relativistic pairing (RpGAN), both learning rates 8e-4, R1 in every fourth discriminator step, an EMA of
                the weights, a guard that rolls back from collapse. `sagan train --data my_photos --imsize 64 --span 3`.
                A step takes 567 GFLOP on average at 64x64 and batch 64; a published one takes 220. On CelebA faces at
                32x32, 1,500 steps of batch 64, width 8 (published: 16): mean Fréchet distance (EfficientNet-Lite0) of
                five seeds 87 at span 0 and 98 at span 3, and 287 and 277 of three seeds with the published settings;
                no run collapsed. The settings were chosen on these and on drawn faces. Not tested at full width or in
                long runs: if training oscillates, lower the learning rates.
``published``   the settings of the published program, which has no EMA of the weights.
                `sagan train --preset published --dataset celeb --span 3`. 100,000 steps of batch 64 at 64x64: about 55
                hours on two CPU cores (46 on an idle machine); meant for a GPU. Fréchet distances: see ``best``.
``paper``       the residual networks and the settings of the paper's own code at 128x128, including a beta2 of 0.999
                (0.9 in the paper's text), with its batch of 256 on one GPU, where batch norm sees the whole batch
                instead of a quarter. `sagan train --preset paper --data imagenet --num_classes auto`. 10^6 steps of
                37 TFLOP; no score was measured.
``quick``       drawn faces at 32x32 with small networks, for a first try: `sagan train --preset quick`.
                A few minutes on two CPU cores; faces with eyes, hair and mouth, but not yet good ones.
``small``       the game of ``best`` with networks of width 8 at 32x32, for your own images on a CPU:
                `sagan train --preset small --data my_photos`. On 1,500 of its 2,500 steps see ``best``.

`sagan train --preset auto` is ``best`` on a GPU and ``small`` without one.
"""

from __future__ import annotations

from sagan.run.config import Config, DataConfig, GameConfig, ModelConfig, RunConfig
from sagan.system.errors import UserError
from sagan.system.sentences import did_you_mean

_AS_THEY_ARE = DataConfig(range="auto")
_BEST_GAME = GameConfig(adv_loss="rpgan", g_lr=8e-4, d_lr=8e-4, r1=0.1, penalty_every=4)
AUTO = "auto"  # the name of the preset that the machine chooses

PRESETS = {
    "best": Config(
        data=_AS_THEY_ARE,
        model=ModelConfig(network="resnet", channels="auto", g_conv_dim=32, d_conv_dim=32, pool=2),
        game=_BEST_GAME,
        run=RunConfig(precision="auto", guard="recover"),
    ),
    "published": Config(model=ModelConfig(norm_axis="input"), game=GameConfig(ema_halflife=0)),
    "paper": Config(
        data=_AS_THEY_ARE,
        model=ModelConfig(network="resnet", channels="auto", imsize=128, pool=2),
        game=GameConfig(batch_size=256, beta2=0.999, ema_halflife=0),
        run=RunConfig(total_step=1_000_000),
    ),
    "quick": Config(
        data=_AS_THEY_ARE,
        model=ModelConfig(
            channels="auto", imsize=32, z_dim=64, g_conv_dim=32, d_conv_dim=32, span=1, g_attention=(8, 16)
        ),
        game=GameConfig(g_lr=2e-4, d_lr=4e-4, ema_halflife=10_000),
        run=RunConfig(total_step=2000, log_step=20, sample_step=500, checkpoint_every=500, snapshot_every=1000),
    ),
    "small": Config(
        data=_AS_THEY_ARE,
        model=ModelConfig(network="resnet", channels="auto", imsize=32, g_conv_dim=8, d_conv_dim=8, pool=2),
        game=_BEST_GAME,
        run=RunConfig(
            total_step=2500,
            sample_step=250,
            checkpoint_every=250,
            snapshot_every=500,
            precision="auto",
            guard="recover",
        ),
    ),
}


def check_preset(name: str, *more: str) -> None:
    """Raises UserError, with the nearest name, unless there is a preset of this name, or it is one of ``more``."""
    known = [*PRESETS, *more]
    if name not in known:
        raise UserError(f"`preset` must be {' or '.join(known)}, got {name!r}{did_you_mean(name, known)}")


def automatic_preset(device_type: str) -> str:
    """The preset that ``auto`` stands for on a kind of device: "cpu", "cuda" or "mps"."""
    return "small" if device_type == "cpu" else "best"
