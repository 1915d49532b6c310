"""A training loop of one's own, from the parts of `sagan.core`: two small networks on drawn faces.

python examples/own_training_loop.py [STEPS] [grid.png]
"""

import sys
from pathlib import Path

import numpy as np
import torch

from sagan.attention import ExcludeLocal
from sagan.core.game.average import AveragedGenerator, batch_norm_latents, measure_batch_norm
from sagan.core.losses import LOSSES
from sagan.core.networks.dcgan import Discriminator, Generator
from sagan.core.shapes import ImageShape
from sagan.data.faces import FacesSource
from sagan.system.images import grid, save_png, to_uint8


def train(steps: int, size: int = 32, batch: int = 16, z_dim: int = 64) -> torch.Tensor:
    """Trains for some steps and draws 16 images with the EMA generator, uint8 (16, 3, size, size)."""
    faces = FacesSource(256, size)
    pixels = torch.stack([torch.from_numpy(np.array(faces.read(number))) for number in range(256)])
    images = pixels.permute(0, 3, 1, 2) / 127.5 - 1

    shape, sparse = ImageShape.square(size), {16: ExcludeLocal(16, 16, span=3)}  # attention after the 16x16 map
    generator = Generator(shape, z_dim, width=16, attention=sparse)
    discriminator = Discriminator(shape, width=16, attention={8: ExcludeLocal(8, 8, span=1)})
    average, loss = AveragedGenerator(generator, halflife=2000), LOSSES["hinge"]
    g_adam = torch.optim.Adam(generator.parameters(), 2e-4, (0.0, 0.9))
    d_adam = torch.optim.Adam(discriminator.parameters(), 4e-4, (0.0, 0.9))

    for step in range(1, steps + 1):
        real = images[torch.randint(len(images), (batch,))]
        fake = generator(torch.randn(batch, z_dim)).detach()
        d_loss = sum(loss.discriminator(discriminator(real), discriminator(fake)))
        d_adam.zero_grad()
        d_loss.backward()
        d_adam.step()

        g_loss = loss.generator(discriminator(generator(torch.randn(batch, z_dim))), discriminator(real))
        g_adam.zero_grad()
        g_loss.backward()
        g_adam.step()
        average.update(generator, average.shares(step * batch, batch))
        if step % 50 == 0 or step == steps:
            print(f"step {step}: D {d_loss.item():.3f}, G {g_loss.item():.3f}")

    measure_batch_norm(average.module, batch_norm_latents(average.module, seed=0))  # of the averaged weights
    with torch.inference_mode():
        return to_uint8(average.module(torch.randn(16, z_dim)))


if __name__ == "__main__":
    drawn = train(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
    save_png(grid(drawn, columns=4), Path(sys.argv[2] if len(sys.argv) > 2 else "grid.png"))
