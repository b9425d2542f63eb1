"""Pairs per second of the training pipeline, for 512 x 512 PNG pairs in a folder.

python experiments/throughput/measure.py [threads ...]

Every round measures every case once, so that what else the machine does falls on all of
them alike, and a case is compared with the first one of its own round.
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
STEPS = 10  # of one measurement
ROUNDS = 5


def draw(folder: Path) -> None:
    """Writes pairs of synthetic cells, masks of 0 and 255."""
    from unet_jax import data

    cells = data.cells(shape=(SIZE, SIZE), train=PAIRS, val=1, test=1).train
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(PAIRS):
        record = cells.load(i)
        mask = np.where(record["label"] > 0, 255, 0).astype(np.uint8)
        Image.fromarray(record["image"][..., 0]).save(folder / f"images/{i}.png")
        Image.fromarray(mask).save(folder / f"masks/{i}.png")


def examples(folder: Path, records: str, cache: float):
    """The training split as `build` prepares it, but for a cache of `cache` GiB."""
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


def rate(prepared, threads: int) -> tuple[float, float]:
    """Pairs per second, and the processors' milliseconds for a pair.

    From the second batch on: the first one starts the threads.
    """
    from unet_jax.data import pipeline

    crop = (SIZE, SIZE)
    batches = pipeline.batch_dataset(
        prepared, seed=0, crop=crop, margin=(0, 0), batch_size=BATCH
    )
    steps = pipeline.iterate_batches(batches, start=0, steps=1 + STEPS, threads=threads)
    next(steps)
    start, busy = time.perf_counter(), time.process_time()
    for _ in steps:
        pass
    pairs = STEPS * BATCH
    wall = time.perf_counter() - start
    return pairs / wall, 1e3 * (time.process_time() - busy) / pairs


def cost(function: Callable[[int], object]) -> float:
    """The processors' median milliseconds for a call with each of some indices."""
    times = []
    for i in range(24):
        start = time.process_time()
        function(i)
        times.append(1e3 * (time.process_time() - start))
    return statistics.median(times)


def cut(prepared, i: int) -> None:
    """The crop of one example, and nothing else of a batch."""
    from unet_jax.arrays import window

    for name in ("image", "label", "weight"):
        window(prepared[i][name], (0, 0), (SIZE, SIZE))


def main() -> None:
    """Prints the two tables of the README."""
    sys.path.insert(0, str(ROOT))
    threads = [int(n) for n in sys.argv[1:]] or [1, 2, 4]
    with tempfile.TemporaryDirectory() as place:
        folder, records = Path(place) / "set", str(Path(place) / "records")
        draw(folder)
        raw, files = examples(folder, "", 0)
        packed, stored = examples(folder, records, 0)
        _, memory = examples(folder, "", 4)
        for i in range(len(memory)):
            memory[i]  # kept from here on
        cases = {"PNG files": files, "array_record": stored, "memory": memory}
        found = {case: [] for case in itertools.product(cases, threads)}
        for _ in range(ROUNDS):
            for name, n in found:
                found[name, n].append(rate(cases[name], n))
        (first, _), *_ = [zip(*rounds, strict=True) for rounds in found.values()]
        print("| from | threads | pairs per second | times the first | CPU ms a pair |")
        print("|---|---|---|---|---|")
        for (name, n), rounds in found.items():
            rates, busy = zip(*rounds, strict=True)
            ratio = statistics.median(map(np.divide, rates, first))
            spread = f"{min(rates):.0f}-{max(rates):.0f}"
            print(
                f"| {name} | {n} | {statistics.median(rates):.0f} ({spread}) "
                f"| {ratio:.1f} | {statistics.median(busy):.1f} |"
            )
        unpack, whole = cost(packed.load), cost(stored.__getitem__)
        print("\n| of one pair, in one thread | CPU ms |\n|---|---|")
        print(f"| decode two PNG files | {cost(raw.load):.1f} |")
        print(f"| or unpack a record | {unpack:.1f} |")
        print(f"| check, normalise, weigh | {whole - unpack:.1f} |")
        print(f"| cut the crop | {cost(functools.partial(cut, memory)):.1f} |")


if __name__ == "__main__":
    main()
