"""Drawn faces as a source of images, like a folder or a zip."""

from PIL import Image

from sagan.data.faces.drawing import check_size, draw_face
from sagan.data.sources.source import Source
from sagan.run.store import Store
from sagan.system.errors import UserError

_VERSION = "faces:v1:"  # the start of the identity, which that of a folder called faces does not share


class FacesSource(Source):
    """``count`` faces of ``size`` x ``size`` pixels, without classes."""

    drawn_faces = True

    def __init__(self, count: int = 10_000, size: int = 64, seed: int = 0) -> None:
        if count < 1:
            raise UserError(f"count of drawn faces must be 1 or more, got {count}")
        check_size(size)
        if seed < 0:
            raise UserError(f"seed of drawn faces must be 0 or more, got {seed}")
        self.count, self.size, self.seed = count, size, seed
        self.description = f"drawn faces, seed {seed}"
        self.identity = f"{_VERSION}{count}:{size}:{seed}"

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"face {index}"

    def read(self, index: int) -> Image.Image:
        """Face ``index`` (0..count-1) as an RGB image."""
        if not 0 <= index < self.count:
            raise IndexError(f"index of a drawn face must be 0 to {self.count - 1}, got {index}")
        return Image.fromarray(draw_face(index, self.size, self.seed))


def holds_drawn_faces(store: Store) -> bool:
    """Whether a store's images are drawn faces. A store of an earlier version shows it only by its identity."""
    return store.meta.identity.startswith(_VERSION) if store.meta.drawn_faces is None else store.meta.drawn_faces
