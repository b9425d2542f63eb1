"""The rows of results.csv, and the table of a section."""

import csv
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Result(NamedTuple):
    """Repeated measurements of one quantity.

    Attributes:
      section: of the benchmark, such as "network" or "start".
      case: what was measured, such as "width 32, 256 px, batch 1, norm none".
      quantity: such as "train step" or "peak memory".
      contender: such as "unet_jax" or "eager".
      unit: of the values, such as "s" or "GiB".
      values: one for each round.
    """

    section: str
    case: str
    quantity: str
    contender: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the values."""
        return statistics.median(self.values)

    def find_ratio(self, other: "Result") -> float:
        """Returns the median over the rounds of these values to those of another."""
        pairs = zip(self.values, other.values, strict=True)
        return statistics.median(own / theirs for own, theirs in pairs)

    def format(self) -> str:
        """Returns the median and the spread, such as "0.390 (0.389-0.391) s"."""
        low, high = min(self.values), max(self.values)
        return f"{self.median:.3g} ({low:.3g}-{high:.3g}) {self.unit}"


def write_csv(path: Path, results: Iterable[Result]) -> None:
    """Writes one line for each result, with its median, lowest and highest value."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*Result._fields[:-1], "median", "lowest", "highest", "rounds"])
        for result in results:
            values = result.values
            numbers = result.median, min(values), max(values)
            cells = [f"{x:.6g}" for x in numbers]
            writer.writerow([*result[:-1], *cells, len(values)])
