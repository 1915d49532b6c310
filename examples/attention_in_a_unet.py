"""The attention op inside somebody else's network: a small U-Net whose middle looks at everything but what is near.

python examples/attention_in_a_unet.py
"""

import torch
from torch import Tensor, nn

from sagan.attention import ExcludeLocal, attend


class FarAttention(nn.Module):
    """Attention of several heads in which no pixel sees the square of 2 * span + 1 pixels around it."""

    def __init__(self, channels: int, heads: int, span: int):
        super().__init__()
        self.heads, self.span = heads, span
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        q, k, v = self.qkv(x).view(len(x), 3, self.heads, -1, height * width).transpose(-1, -2).unbind(1)
        pattern = ExcludeLocal(height, width, self.span, masking="before")  # weights of what is seen sum to 1
        seen = attend(q * q.shape[-1] ** -0.5, k, v, pattern)  # (batch, heads, pixels, dim); scores are not scaled
        return x + self.out(seen.transpose(-1, -2).reshape(x.shape))


class UNet(nn.Module):
    """Two levels down, attention, two levels up."""

    def __init__(self, channels: int = 16, span: int = 2):
        super().__init__()
        wide = 2 * channels
        self.down = nn.ModuleList([nn.Conv2d(3, channels, 3, 2, 1), nn.Conv2d(channels, wide, 3, 2, 1)])
        self.middle = FarAttention(wide, heads=2, span=span)
        self.up = nn.ModuleList([nn.ConvTranspose2d(wide, channels, 4, 2, 1), nn.ConvTranspose2d(wide, 3, 4, 2, 1)])

    def forward(self, x: Tensor) -> Tensor:
        small = self.down[0](x).relu()
        return self.up[1](torch.cat([self.up[0](self.middle(self.down[1](small).relu())).relu(), small], 1))


def denoise(steps: int) -> tuple[float, float]:
    """Learns to remove noise from stripes; the loss of the first step and that of the last."""
    torch.manual_seed(0)
    network, losses = UNet(), []
    adam = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(steps):
        clean = torch.sin(torch.arange(32.0) * torch.rand(8, 3, 1, 1)).expand(8, 3, 32, 32)
        loss = (network(clean + torch.randn(clean.shape)) - clean).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


if __name__ == "__main__":
    print("loss: {:.3f}, then {:.3f}".format(*denoise(200)))
