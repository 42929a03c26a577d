"""What storing does to an image: lossy compression, and fewer pixels."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np

from deconf.hypotheses.interventions.base import WHITE, Intervention, Pixels


@dataclass(frozen=True)
class Compression(Intervention):
    """A pass through a JPEG file, 8 bits deep.

    Parameters
    ----------
    strength : float in [0, 1]
        Quality is ``100 (1 - strength)``, at least 1: 0.7 is quality 30.
    """

    HIGHEST = 1.0
    strength: float = 0.7

    @property
    def quality(self) -> int:
        """As the JPEG library takes it, 1 to 100."""
        return max(1, round(100 * (1 - self.strength)))

    def edit(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG002
        """Return what is read back."""
        from PIL import Image

        file = BytesIO()
        whole = np.rint(np.clip(pixels, 0, WHITE)).astype(np.uint8)
        Image.fromarray(whole).save(file, "JPEG", quality=self.quality)
        return np.asarray(Image.open(file, formats=["JPEG"]), dtype=np.float64)

    def __str__(self) -> str:
        return f"JPEG, quality {self.quality}"


@dataclass(frozen=True)
class Resampling(Intervention):
    """Fewer pixels and back again, as by an archive that keeps small copies.

    Parameters
    ----------
    strength : float
        Octaves: 1 is half the pixels on a side.
    """

    def edit(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG002
        """Return the image shrunk with averaging and enlarged, both bicubic."""
        from PIL import Image

        rows, columns = pixels.shape[:2]
        small = tuple(max(1, round(side / 2**self.strength)) for side in (columns, rows))
        layers = np.atleast_3d(pixels).astype(np.float32)
        back = [
            np.asarray(
                Image.fromarray(np.ascontiguousarray(layer))
                .resize(small, Image.Resampling.BICUBIC)
                .resize((columns, rows), Image.Resampling.BICUBIC)
            )
            for layer in layers.transpose(2, 0, 1)
        ]
        return np.stack(back, axis=2).reshape(pixels.shape)

    def __str__(self) -> str:
        return f"resampled to 1/{2**self.strength:.3g} and back"
