"""A NumPy image up-scaled four times.

    python examples/upscale_array.py

Any (H, W) array of uint8 or uint16 will do: here a disc with stripes.
"""

from __future__ import annotations

import numpy as np

import clesr


def main() -> None:
    rows, columns = np.mgrid[:96, :128]
    stripes = 128 + 100 * np.sin(columns / 3)
    image = np.where((rows - 48) ** 2 + (columns - 64) ** 2 < 40**2, stripes, 0).astype(np.uint8)

    sr = clesr.upscale(image, scale=4, model="fast")
    print(f"{image.shape} {image.dtype} -> {sr.shape} {sr.dtype}")

    deep = clesr.upscale(image.astype(np.uint16) * 257, scale=2, model="bicubic")
    print(f"16 bits stay 16 bits: {deep.shape} {deep.dtype}")


if __name__ == "__main__":
    main()
