"""Measures pairs per second of the training pipeline, for 512 x 512 PNG pairs.

python experiments/throughput/measure.py [threads ...]

Every round measures every case once, so that other load on the machine affects all
cases alike; a case is compared with the first case of its own round.
"""

import functools
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SIZE = 512
PAIRS = 64
BATCH = 8
STEPS = 10  # batches of one measurement
ROUNDS = 5


def write_pairs(folder: Path) -> None:
    """Writes images of synthetic cells and their masks of 0 and 255."""
    from unet_jax import data

    cells = data.cells(shape=(SIZE, SIZE), train=PAIRS, val=1, test=1).train
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(PAIRS):
        record = cells.load(i)
        mask = np.where(record["label"] > 0, 255, 0).astype(np.uint8)
        Image.fromarray(record["image"][..., 0]).save(folder / f"images/{i}.png")
        Image.fromarray(mask).save(folder / f"masks/{i}.png")


def prepare_split(folder: Path, records: str, cache: float):
    """Returns the training split raw and prepared as by `build`.

    Args:
      folder: the folder of the data set.
      records: the folder for array_record files; '' reads the PNG files.
      cache: memory for prepared examples, in GiB.
    """
    from unet_jax import data
    from unet_jax.data import examples, normalize, weights

    source = data.folder(root=str(folder), records=records).train
    memory = examples.MemoryBudget(cache * 2**30)
    prepared = examples.prepare_examples(
        source,
        measure=normalize.in_memory(normalize.standard),
        weigh=weights.uniform,
        memory=memory,
    )
    return source, prepared


def measure_rate(prepared, threads: int) -> tuple[float, float]:
    """Returns pairs per second and CPU milliseconds per pair.

    The first batch is not counted, because it starts the threads.
    """
    from unet_jax.data import pipeline

    crop = (SIZE, SIZE)
    batches = pipeline.batch_dataset(
        prepared, seed=0, crop=crop, margin=(0, 0), batch_size=BATCH
    )
    steps = pipeline.iterate_batches(batches, start=0, stop=1 + STEPS, threads=threads)
    next(steps)
    start, busy = time.perf_counter(), time.process_time()
    for _ in steps:
        pass
    pairs = STEPS * BATCH
    wall = time.perf_counter() - start
    return pairs / wall, 1e3 * (time.process_time() - busy) / pairs


def measure_cost(function: Callable[[int], object]) -> float:
    """Returns the median CPU milliseconds of calls with the indices 0 to 23."""
    times = []
    for i in range(24):
        start = time.process_time()
        function(i)
        times.append(1e3 * (time.process_time() - start))
    return statistics.median(times)


def cut_crop(prepared, i: int) -> None:
    """Cuts the crop of one example."""
    from unet_jax.arrays import cut_window

    for name in ("image", "label", "weight"):
        cut_window(prepared[i][name], (0, 0), (SIZE, SIZE))


def main() -> None:
    """Prints the two tables of the README."""
    sys.path.insert(0, str(ROOT))
    threads = [int(n) for n in sys.argv[1:]] or [1, 2, 4]
    with tempfile.TemporaryDirectory() as place:
        folder, records = Path(place) / "set", str(Path(place) / "records")
        write_pairs(folder)
        raw, files = prepare_split(folder, "", 0)
        packed, stored = prepare_split(folder, records, 0)
        _, memory = prepare_split(folder, "", 4)
        for i in range(len(memory)):
            memory[i]  # fills the cache
        cases = {"PNG files": files, "array_record": stored, "memory": memory}
        rates_by_case = {case: [] for case in itertools.product(cases, threads)}
        for _ in range(ROUNDS):
            for name, n in rates_by_case:
                rates_by_case[name, n].append(measure_rate(cases[name], n))
        (first, _), *_ = [
            zip(*rounds, strict=True) for rounds in rates_by_case.values()
        ]
        print("| from | threads | pairs per second | times the first | CPU ms a pair |")
        print("|---|---|---|---|---|")
        for (name, n), rounds in rates_by_case.items():
            rates, busy = zip(*rounds, strict=True)
            ratio = statistics.median(map(np.divide, rates, first))
            spread = f"{min(rates):.0f}-{max(rates):.0f}"
            print(
                f"| {name} | {n} | {statistics.median(rates):.0f} ({spread}) "
                f"| {ratio:.1f} | {statistics.median(busy):.1f} |"
            )
        unpack, whole = measure_cost(packed.load), measure_cost(stored.__getitem__)
        print("\n| of one pair, in one thread | CPU ms |\n|---|---|")
        print(f"| decode two PNG files | {measure_cost(raw.load):.1f} |")
        print(f"| or unpack a record | {unpack:.1f} |")
        print(f"| check, normalise, weigh | {whole - unpack:.1f} |")
        crop = measure_cost(functools.partial(cut_crop, memory))
        print(f"| cut the crop | {crop:.1f} |")


if __name__ == "__main__":
    main()
