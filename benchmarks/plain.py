"""The published program's networks and step, written plainly from its description: the baseline of the benchmarks.

Everything is done as that program does it: the attention mask is built in Python in every forward pass and added to
the scores as -1e9, every forward pass returns the N x N weights, spectral norm iterates in every forward pass, the
discriminator sees real and fake images in two passes, fakes are not detached, and the optimiser is Adam with its
defaults. The state dict has that program's keys, so the tests of imports use this as an independent reading.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def additive_mask(size: int, span: int) -> Tensor:
    """-1e9 where key (r, c) is within ``span`` of query (i, j), 0 elsewhere; (size * size, size * size)."""
    rows = []
    for i in range(size):
        for j in range(size):
            mask = torch.zeros(size, size)
            mask[max(0, i - span) : i + span + 1, max(0, j - span) : j + span + 1] = -1e9
            rows.append(mask.flatten())
    return torch.stack(rows)


class PlainSpectralNorm(nn.Module):
    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        weight = module._parameters.pop("weight")
        rows = weight.flatten(1)
        module.weight_u = nn.Parameter(F.normalize(torch.randn(rows.shape[0]), dim=0), requires_grad=False)
        module.weight_v = nn.Parameter(F.normalize(torch.randn(rows.shape[1]), dim=0), requires_grad=False)
        module.weight_bar = nn.Parameter(weight.data)

    def forward(self, x: Tensor) -> Tensor:
        m = self.module
        rows = m.weight_bar.flatten(1)
        m.weight_v.data = F.normalize(torch.mv(rows.t().data, m.weight_u.data), dim=0)
        m.weight_u.data = F.normalize(torch.mv(rows.data, m.weight_v.data), dim=0)
        sigma = m.weight_u.clone().dot(rows.mv(m.weight_v.clone()))
        m.weight = m.weight_bar / sigma
        return m(x)


class PlainAttention(nn.Module):
    def __init__(self, channels: int, span: int | None):
        super().__init__()
        self.span = span
        self.query_conv = nn.Conv2d(channels, channels // 8, 1)
        self.key_conv = nn.Conv2d(channels, channels // 8, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        batch, channels, width, height = x.shape
        q = self.query_conv(x).view(batch, -1, width * height).permute(0, 2, 1)
        k = self.key_conv(x).view(batch, -1, width * height)
        energy = torch.bmm(q, k)
        if self.span is not None:
            energy = energy + additive_mask(width, self.span).to(x.device)
        attention = torch.softmax(energy, dim=-1)
        v = self.value_conv(x).view(batch, -1, width * height)
        out = torch.bmm(v, attention.permute(0, 2, 1)).view(batch, channels, width, height)
        return self.gamma * out + x, attention


class PlainGenerator(nn.Module):
    """64x64 only; ``span`` is that program's (0 masks the pixel itself, None masks nothing)."""

    def __init__(self, span: int | None = 3):
        super().__init__()
        widths = {"l1": (128, 512, 1, 0), "l2": (512, 256, 2, 1), "l3": (256, 128, 2, 1), "l4": (128, 64, 2, 1)}
        for name, (cin, cout, stride, padding) in widths.items():
            conv = PlainSpectralNorm(nn.ConvTranspose2d(cin, cout, 4, stride, padding))
            setattr(self, name, nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU()))
        self.last = nn.Sequential(nn.ConvTranspose2d(64, 3, 4, 2, 1), nn.Tanh())
        self.attn1, self.attn2 = PlainAttention(128, span), PlainAttention(64, span)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out = self.l3(self.l2(self.l1(z.view(z.shape[0], -1, 1, 1))))
        out, p1 = self.attn1(out)
        out, p2 = self.attn2(self.l4(out))
        return self.last(out), p1, p2


class PlainDiscriminator(nn.Module):
    """64x64 only."""

    def __init__(self, span: int | None = 3):
        super().__init__()
        for name, (cin, cout) in {"l1": (3, 64), "l2": (64, 128), "l3": (128, 256), "l4": (256, 512)}.items():
            setattr(self, name, nn.Sequential(PlainSpectralNorm(nn.Conv2d(cin, cout, 4, 2, 1)), nn.LeakyReLU(0.1)))
        self.last = nn.Sequential(nn.Conv2d(512, 1, 4))
        self.attn1, self.attn2 = PlainAttention(256, span), PlainAttention(512, span)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out, p1 = self.attn1(self.l3(self.l2(self.l1(images))))
        out, p2 = self.attn2(self.l4(out))
        return self.last(out).squeeze(), p1, p2


class PlainStep:
    """One iteration of that program with the hinge loss: a D step, then a G step, with its optimisers."""

    def __init__(self, span: int | None = 3, device: str = "cpu"):
        self.generator, self.discriminator = PlainGenerator(span).to(device), PlainDiscriminator(span).to(device)
        trained = [[p for p in net.parameters() if p.requires_grad] for net in (self.generator, self.discriminator)]
        self.g_optimizer = torch.optim.Adam(trained[0], 1e-4, (0.0, 0.9))
        self.d_optimizer = torch.optim.Adam(trained[1], 4e-4, (0.0, 0.9))

    def __call__(self, real: Tensor, z: Tensor, z_next: Tensor) -> None:
        d_loss_real = F.relu(1 - self.discriminator(real)[0]).mean()
        fake = self.generator(z)[0]
        d_loss_fake = F.relu(1 + self.discriminator(fake)[0]).mean()
        self.d_optimizer.zero_grad()
        self.g_optimizer.zero_grad()
        (d_loss_real + d_loss_fake).backward()
        self.d_optimizer.step()

        g_loss = -self.discriminator(self.generator(z_next)[0])[0].mean()
        self.d_optimizer.zero_grad()
        self.g_optimizer.zero_grad()
        g_loss.backward()
        self.g_optimizer.step()
