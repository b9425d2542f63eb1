"""Growth of the time of a training step in pixels, width, batch and devices.

python experiments/speed/growth.py WIDTH SIZE BATCH prints the seconds of a step. The
devices are parts of one CPU that XLA calls devices. They share its cores, so more of
them show what dividing a batch costs, and not what more hardware gains.
"""

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cases import Case
from results import Result
from timing import ROOT, find_slope, run_process, time_in_turn

SECTION = "growth"
BASE = Case(16, size=128, batch=2)
SERIES = {
    "size": (64, 128, 256, 512),
    "width": (8, 16, 32, 64),
    "batch": (1, 2, 4, 8, 16),
}
DEVICES = (1, 2)
LEAST = 0.2  # seconds of one measurement


def measure(short: bool) -> Iterator[Result]:
    """Yields the seconds of steps, and the slopes of their logarithms.

    Args:
      short: True for two tiny networks.
    """
    if short:
        yield from measure_series("size", (16, 32), Case(2, levels=2), rounds=1)
        return
    for field, values in SERIES.items():
        yield from measure_series(field, values, BASE, rounds=3)
    yield from measure_devices(BASE._replace(batch=4), rounds=3)


def measure_series(
    field: str, values: Sequence[int], base: Case, rounds: int
) -> Iterator[Result]:
    """Yields the seconds of the cases that differ in one field, and the slope.

    The slope of "size" is that of the number of pixels.
    """
    import networks

    runs = {}
    for value in values:
        train = networks.make_jax(base._replace(**{field: value})).train
        train(1)
        start = time.perf_counter()
        train(1)
        count = max(1, round(LEAST / (time.perf_counter() - start)))
        runs[value] = train, count
    seconds = time_in_turn(
        {str(x): (lambda r=run, n=count: r(n)) for x, (run, count) in runs.items()},
        rounds,
    )
    times = {x: tuple(s / runs[x][1] for s in seconds[str(x)]) for x in runs}
    for value, each in times.items():
        case = f"{field} {value}"
        yield Result(SECTION, case, "training step", "unet_jax", "s", each)
    amounts = [x**base.axes if field == "size" else x for x in times]
    slope = find_slope(amounts, [statistics.median(each) for each in times.values()])
    name = "pixels" if field == "size" else field
    yield Result(SECTION, name, "slope", "unet_jax", "", (slope,))


def measure_devices(case: Case, rounds: int) -> Iterator[Result]:
    """Yields the seconds of a step on devices that share the CPU, and the slope."""
    numbers = [str(x) for x in (case.width, case.size, case.batch)]
    times: dict[int, list[float]] = {count: [] for count in DEVICES}
    for _ in range(rounds):
        for count, each in times.items():
            flags = f"--xla_force_host_platform_device_count={count}"
            environ = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
            finished = run_process([__file__, *numbers], environ=environ)
            each.append(float(finished.output.split()[-1]))
    for count, each in times.items():
        name = f"devices of one CPU {count}"
        yield Result(SECTION, name, "training step", "unet_jax", "s", tuple(each))
    slope = find_slope(DEVICES, [statistics.median(each) for each in times.values()])
    yield Result(SECTION, "devices of one CPU", "slope", "unet_jax", "", (slope,))


def time_step(case: Case) -> float:
    """Returns the median seconds of a training step."""
    import networks

    train = networks.make_jax(case).train
    return statistics.median(time_in_turn({"": lambda: train(3)}, rounds=3)[""]) / 3


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
    width, size, batch = map(int, sys.argv[1:])
    print(time_step(Case(width, size, batch)))
