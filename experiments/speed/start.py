"""Seconds from the start of a process to its answer, its first step or its end.

Each round has an empty cache of compiled programs: the first process of the round is
cold, and a second one with the same cache is warm. The limit for what is cached is the
default of unet_jax, which JAX ignores where the user names a folder.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from results import Result
from timing import ROOT, run_process, start_process

from unet_jax import compilation_cache

SECTION = "start"
MAIN = str(ROOT / "main.py")
FAST = {  # name -> arguments of Python, exit code
    "import unet_jax": (("-c", "import unet_jax"), 0),  # which imports little more
    "import the Predictor": (("-c", "from unet_jax import Predictor"), 0),
    "--help": ((MAIN, "--help"), 0),
    "a field that does not exist": ((MAIN, "--config.modle.widths=8,16"), 1),
    "a folder that does not exist": (
        (MAIN, "--config=folder", "--config.data.root=/nowhere"),
        1,
    ),
}
IMAGES, SIZE = 8, 128
TIMEOUT = 300  # seconds


def measure(short: bool) -> Iterator[Result]:
    """Yields seconds of commands, which are run in turn.

    Args:
      short: True for one round of the commands that compile nothing.
    """
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(1 if short else 3):
        for key, value in measure_fast():
            seconds.setdefault(key, []).append(value)
        if not short:
            for key, value in measure_compiling():
                seconds.setdefault(key, []).append(value)
    for (command, contender), values in seconds.items():
        yield Result(SECTION, command, "time", contender, "s", tuple(values))


def measure_fast() -> Iterator[tuple[tuple[str, str], float]]:
    """Yields the seconds of the commands that compile nothing."""
    for name, (arguments, code) in FAST.items():
        yield (name, "unet_jax"), run_process(arguments, code=code).seconds


def measure_compiling(
    names: tuple[str, ...] = ("first step", "inspect", "predict"),
) -> Iterator[tuple[tuple[str, str], float]]:
    """Yields the seconds of the commands that compile, cold and then warm."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        commands: dict[str, Callable[[Path, dict[str, str]], float]] = {}
        if "first step" in names:
            commands["first training step of quickstart"] = time_first_step
        if "inspect" in names:
            write_images(folder / "set")
            commands["inspect 8 images"] = lambda workdir, environ: (
                run_process(
                    (
                        MAIN,
                        "--mode=inspect",
                        "--config=folder",
                        f"--config.data.root={folder / 'set'}",
                        f"--workdir={workdir}",
                    ),
                    environ=environ,
                ).seconds
            )
        if "predict" in names:
            train_one_step(folder / "run", make_environ(folder / "other"))
            write_images(folder / "one", count=1)
            commands["predict 1 image"] = lambda workdir, environ: (
                run_process(
                    (
                        MAIN,
                        "--mode=predict",
                        f"--workdir={folder / 'run'}",
                        f"--input={folder / 'one' / 'images'}",
                        f"--output={workdir}",
                    ),
                    environ=environ,
                ).seconds
            )
        for number, (name, run) in enumerate(commands.items()):
            environ = make_environ(folder / f"cache{number}")
            for state in ("cold", "warm"):
                yield (name, state), run(folder / f"{state}{number}", environ)


def make_environ(cache: Path) -> dict[str, str]:
    """Returns the variables that make a folder the cache of compiled programs."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        compilation_cache.LIMIT.upper(): str(compilation_cache.MIN_SECONDS),
    }


def time_first_step(workdir: Path, environ: dict[str, str]) -> float:
    """Returns the seconds until quickstart has logged its first step, and ends it."""
    start = time.perf_counter()
    arguments = (MAIN, f"--workdir={workdir}", "--config.log_every=1")
    process = start_process(arguments, environ)
    log = workdir / "metrics.jsonl"
    try:
        while not (log.exists() and log.stat().st_size):
            if process.poll() is not None or time.perf_counter() > start + TIMEOUT:
                raise RuntimeError("quickstart has not taken a step")
            time.sleep(0.02)
        return time.perf_counter() - start
    finally:
        process.kill()
        process.communicate()


def train_one_step(workdir: Path, environ: dict[str, str]) -> None:
    """Trains quickstart for one step, with one image in each split."""
    splits = [f"--config.data.{name}=1" for name in ("train", "val", "test")]
    run_process(
        (MAIN, f"--workdir={workdir}", "--config.steps=1", *splits), environ=environ
    )


def write_images(folder: Path, count: int = IMAGES) -> None:
    """Writes images of synthetic cells and their masks."""
    import numpy as np
    from PIL import Image

    from unet_jax import data

    cells = data.cells(shape=(SIZE, SIZE), train=count, val=1, test=1).train
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        record = cells.load(i)
        mask = np.where(record["label"] > 0, 255, 0).astype(np.uint8)
        Image.fromarray(record["image"][..., 0]).save(folder / f"images/{i}.png")
        Image.fromarray(mask).save(folder / f"masks/{i}.png")
