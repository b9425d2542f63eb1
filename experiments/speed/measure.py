"""Measures the speed of unet_jax, beside PyTorch where it is installed.

python experiments/speed/measure.py [--short] [--output=results.csv] [section ...]

Without a section it measures all of them. --short runs small cases, which only show
that the benchmark works. Nothing else should run on the machine meanwhile.
"""

import argparse
import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from results import Result, write_csv  # noqa: E402  after the path is set

SECTIONS = {
    "matmul": "matmul",
    "network": "compare",
    "shares": "shares",
    "tiled": "tiled",
    "start": "start",
    "memory": "memory",
    "growth": "growth",
}


def main() -> None:
    """Measures the sections of the command line; prints a line for each result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "sections", nargs="*", metavar="section", help="|".join(SECTIONS)
    )
    parser.add_argument("--short", action="store_true", help="small cases")
    parser.add_argument("--output", type=Path, help="a CSV file to write")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(
            f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}"
        )
    results: list[Result] = []
    for section in options.sections or SECTIONS:
        module = importlib.import_module(SECTIONS[section])
        for result in module.measure(options.short):
            print(f"{result.case}: {result.quantity}: {_describe(result, results)}")
            sys.stdout.flush()
            results.append(result)
            if options.output:  # after each, so that an interruption loses nothing
                write_csv(options.output, results)


def _describe(result: Result, earlier: Iterable[Result]) -> str:
    """Returns the numbers of a result, and its ratio to unet_jax in the same rows."""
    text = f"{result.contender} {result.format()}"
    same = [
        other
        for other in earlier
        if other[:3] == result[:3] and other.contender == "unet_jax"
    ]
    if not same or len(same[0].values) != len(result.values):
        return text
    return f"{text}, {result.find_ratio(same[0]):.2f}x"


if __name__ == "__main__":
    main()
