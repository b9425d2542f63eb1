"""Predicts larger and larger images; prints the time and the peak memory of each.

python experiments/streaming/measure.py runs/small [4096 8192 16384 32768]

The images are mosaics of one image of synthetic cells, in TIFFs of 512 x 512 tiles.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

ROOT = Path(__file__).resolve().parents[2]
TILE = 512


def write_mosaic(path: Path, size: int) -> None:
    """Writes an image `u8[size, size]`, one tile at a time."""
    sys.path.insert(0, str(ROOT))
    from unet_jax.data import cells

    record = cells(shape=(2 * TILE, 2 * TILE), train=1, val=1, test=1).train.load(0)
    drawing, rng = record["image"][..., 0], np.random.default_rng(0)

    def tiles() -> Iterator[np.ndarray]:
        for _ in range((size // TILE) ** 2):
            y, x = rng.integers(0, TILE, 2)
            yield drawing[y : y + TILE, x : x + TILE]

    shape = (size, size)
    tifffile.imwrite(path, tiles(), shape=shape, dtype="u1", tile=(TILE, TILE))


def measure(run: str, image: Path, output: Path) -> tuple[float, float]:
    """Returns the seconds and the peak GiB of the command that segments an image."""
    where = [f"--workdir={run}", f"--input={image}", f"--output={output}"]
    command = [sys.executable, str(ROOT / "main.py"), "--mode=predict", *where]
    start = time.perf_counter()
    process = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    if status:
        sys.exit(f"error: the prediction of {image.name} failed")
    # ru_maxrss is in bytes on macOS, in KiB elsewhere
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - start, usage.ru_maxrss * unit / 2**30


def main() -> None:
    """Measures the sizes of the command line."""
    run, *sizes = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        for size in map(int, sizes or (4096, 8192, 16384, 32768)):
            image = Path(folder) / f"{size}.tif"
            write_mosaic(image, size)
            seconds, memory = measure(run, image, Path(folder) / "out")
            image.unlink()
            print(
                f"| {size} x {size} | {seconds:.0f} s | {memory:.2f} GiB |", flush=True
            )


if __name__ == "__main__":
    main()
