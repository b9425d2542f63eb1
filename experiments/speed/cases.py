"""The rows of the comparison with PyTorch, as plain data."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

OUTPUTS = 2  # classes

Norm = Literal["none", "batch", "instance"]


class Case(NamedTuple):
    """One network and one batch.

    Attributes:
      width: the number of channels of the first level; it doubles at each level.
      size: of the images, in pixels along each axis.
      batch: the number of images.
      norm: "none", "batch" or "instance".
      padding: "SAME", or "VALID" as in the paper.
      axes: 2 for images, 3 for volumes.
      dtype: of the computation, "float32" or "bfloat16".
      levels: of the network.
    """

    width: int = 32
    size: int = 256
    batch: int = 1
    norm: Norm = "none"
    axes: int = 2
    dtype: str = "float32"
    levels: int = 5
    padding: Literal["SAME", "VALID"] = "SAME"

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of channels of each level."""
        return tuple(self.width * 2**level for level in range(self.levels))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The spatial shape of the output."""
        # two convolutions a level remove 4 pixels of that level, on both sides of the U
        blocks = [2**level for level in range(self.levels)]
        lost = 4 * (2 * sum(blocks) - blocks[-1]) if self.padding == "VALID" else 0
        return (self.size - lost,) * self.axes

    def __str__(self) -> str:
        """Returns what differs between the rows of a table."""
        size = f"{self.size}{'³' if self.axes == 3 else ''} px"
        words = [f"width {self.width}", size, f"batch {self.batch}"]
        words.append("no norm" if self.norm == "none" else f"{self.norm} norm")
        if self.padding == "VALID":
            words.append("VALID")
        return ", ".join([*words, self.dtype])


def list_compiled_cases() -> Iterator[Case]:
    """Yields the rows with `torch.compile`, which takes a minute a row on a CPU."""
    for width in (16, 32, 64):
        yield Case(width)


def list_cpu_cases() -> Iterator[Case]:
    """Yields the other rows: norms, sizes, batches, and a volume."""
    for width in (16, 32, 64):
        for norm in ("batch", "instance"):
            yield Case(width, norm=norm)
    for width in (16, 32, 64):
        yield Case(width, size=512)
    for width in (16, 32):
        yield Case(width, batch=4)
    yield Case(16, size=192, batch=4, norm="batch")
    yield Case(16, size=64, norm="instance", axes=3, levels=4)


def list_gpu_cases() -> Iterator[Case]:
    """Yields batches of 512 x 512 pixels, and the paper's network."""
    yield Case(32, 512, 1, dtype="bfloat16")
    yield Case(32, 512, 8, dtype="bfloat16")
    yield Case(64, 512, 8, dtype="bfloat16")
    yield Case(64, 572, 1, dtype="bfloat16", padding="VALID")
    yield Case(64, 512, 32, dtype="bfloat16")
    yield Case(32, 512, 8)
    yield Case(64, 572, 1, padding="VALID")
    yield Case(32, 512, 32, dtype="bfloat16")
    yield Case(64, 512, 8)
    yield Case(64, 512, 1, dtype="bfloat16")
    for norm in ("batch", "instance"):
        yield Case(32, 512, 8, norm, dtype="bfloat16")


def list_short_cases() -> Iterator[Case]:
    """Yields small rows that only show that the benchmark runs."""
    yield Case(4, size=32, batch=2, norm="batch", levels=3)
    yield Case(4, size=16, norm="instance", axes=3, levels=2)
    yield Case(4, size=44, levels=2, padding="VALID")
