"""The verb `predict`: files in, segmentations out, one line for each."""

import contextlib
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from unet_jax import logs, pictures
from unet_jax.data import files
from unet_jax.data.files import Canvas, Grid
from unet_jax.errors import UserError
from unet_jax.inference import DeviceError, Want
from unet_jax.run import folder, overlay
from unet_jax.run.predictor import Predictor
from unet_jax.tiling import Read


def predict(
    config: ConfigDict,
    workdir: Path,
    *,
    input: str,
    output: str,
    ensemble: Sequence[str] = (),
) -> int:
    """Segments files with the best checkpoint of a run, or of several.

    Args:
      config: of the run, `predict` as it is wanted now.
      workdir: the run folder.
      input: a file, a folder or a glob.
      output: the folder to write to.
      ensemble: further run folders, whose probabilities are averaged with the first's.

    Returns:
      0, or 1 if a file could not be segmented; the others are.

    Raises:
      UserError: there is nothing to segment or nothing to do it with.
    """
    source, target = str(Path(input).expanduser()), Path(output).expanduser()
    paths = files.find(source)
    runs = [workdir, *(Path(run).expanduser() for run in ensemble)]
    folder.check_trained(workdir)
    folder.claim(workdir, config)  # refuses the config of another run
    predictor = Predictor.of(config, runs)
    paths = _outside(target, paths)
    _check_writable(target)
    if left := files.left_out(source, paths):
        logs.say(f"left out, as no images: {', '.join(path.name for path in left)}")
    names = dict(zip(paths, files.stems(paths), strict=True))
    mine = paths[jax.process_index() :: jax.process_count()]
    faults = []
    with _progress(len(mine)) as tell:
        for path in mine:
            try:
                line = _file(predictor, path, target, names[path], tell)
                print(line, flush=True)
            except Exception as error:  # whatever it is, the others come first
                print(f"error: {_told(error, path)}", file=sys.stderr, flush=True)
                faults.append(path)
            tell(None)
    if faults:
        print(f"{len(faults)} of {len(mine)} files could not be segmented:")
        for path in faults:
            print(f"  {path}", flush=True)
    return int(bool(faults))


def _told(error: Exception, path: Path) -> str:
    """One line that names the file."""
    words = " ".join(str(error).split())
    if isinstance(error, UserError):
        return words if str(path) in words else f"{path}: {words}"
    return f"{path}: {type(error).__name__}: {words[:200]}"


def _outside(target: Path, paths: Sequence[Path]) -> list[Path]:
    """The files that are no results of an earlier run with the same output."""
    outside = [p for p in paths if target.resolve() not in p.resolve().parents]
    if not outside:
        raise UserError(
            f"--output={target} is the folder of the images, where the next run would "
            "take the results for more of them; choose another"
        )
    return outside


def _check_writable(target: Path) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target).close()
    except OSError as error:
        raise UserError(
            f"--output={target}: {error.strerror}; name a folder you may write to"
        ) from error


@contextlib.contextmanager
def _progress(count: int) -> Iterator[Callable]:
    """A function to be told `(tiles done, of)`, or None for a file that is finished."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    options = {"disable": not sys.stdout.isatty(), "transient": True}
    with Progress(*columns, console=Console(soft_wrap=True), **options) as bar:
        whole = bar.add_task("files", total=count)
        part = bar.add_task("tiles", total=None)

        def tell(tiles: tuple[int, int] | None) -> None:
            if tiles is None:
                bar.advance(whole)
            else:
                bar.update(part, completed=tiles[0], total=tiles[1])

        yield tell


def _file(
    predictor: Predictor, path: Path, target: Path, name: str, tell: Callable
) -> str:
    """Segments one file, with less and less memory if need be; returns its line."""
    setup = predictor.setup
    kind = setup.preprocessing
    with files.opened(path, axes=kind["spatial_axes"]) as grid:
        grid = files.to_channels(grid, kind["channels"], convert=setup.convert)
        while True:
            try:
                return _segment(predictor, grid, target, name, tell)
            except DeviceError as error:
                setup.inference.shrink(error)


def _segment(
    predictor: Predictor, grid: Grid, target: Path, name: str, tell: Callable
) -> str:
    options = predictor.setup.options
    want = Want(
        probabilities=options.save_probabilities or options.save_uncertainty,
        doubt=options.save_uncertainty,
    )
    raws = [_finite(grid, image) for image in range(grid.count)]
    told = {"spacing": grid.spacing, "passed": lambda *tiles: tell(tiles)}
    rows = predictor.rows(grid.shape, raws, want, **told)
    sight = overlay.sight_of(grid)
    counts = np.zeros(len(predictor.setup.preprocessing["classes"]), np.int64)
    seen: dict[str, list[np.ndarray]] = {"label": [], "objects": []}
    found: int | None = None
    with contextlib.ExitStack() as stack:
        outputs: dict[str, Canvas] = {}

        def put(what: str, block: np.ndarray, samples: int = 0) -> None:
            if what not in outputs:
                canvas = files.canvas(
                    target, f"{name}_{what}", grid, block.dtype, samples=samples
                )
                outputs[what] = stack.enter_context(canvas)
            outputs[what].put(block)

        done = 0
        for answer in rows:
            label = answer["label"]
            put("labels", label, predictor.setup.independent * label.shape[-1])
            if options.save_probabilities:
                mean = answer["probabilities"]
                put("probabilities", mean, mean.shape[-1])
            if options.save_uncertainty:
                put("uncertainty", predictor.doubts(answer), 2)
            if "objects" in answer:
                put("instances", _narrow(answer["objects"], grid))
                found = (found or 0) + np.count_nonzero(
                    np.bincount(answer["objects"].ravel())[1:]
                )
            counts += _count(label, len(counts), predictor.setup.independent)
            for what in seen.keys() & answer.keys():
                seen[what].append(overlay.rows_of(answer[what], done, grid, sight))
            done += len(label)
    sides = {what: overlay.plane(rows, sight) for what, rows in seen.items() if rows}
    drawn = pictures.overlay(
        overlay.pixels(raws[sight.image], grid, sight),
        sides["label"],
        predictor.setup.preprocessing["colours"],
        sides.get("objects"),
    )
    logs.write(target / f"{name}_overlay.png", pictures.png(drawn))
    return _line(grid, predictor, counts, found, outputs["labels"].path)


def _finite(grid: Grid, image: int) -> Read:
    """Reads one image of the file, and objects to pixels that are no numbers."""

    def read(box: Sequence[slice]) -> np.ndarray:
        block = grid.read(image, box)
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            raise UserError(
                f"{grid.path}: has NaN or infinite pixels; replace them and try again"
            )
        return block

    return read


def _narrow(objects: np.ndarray, grid: Grid) -> np.ndarray:
    """Object ids in 16 bits, if that is known to be enough for all of the file."""
    few = grid.count == 1 and objects.max(initial=0) < 2**16
    return objects.astype(np.uint16 if few else np.uint32)


def _count(label: np.ndarray, classes: int, independent: bool) -> np.ndarray:
    """Pixels of every class; those of independent ones may add up to more than all."""
    if not independent:
        return np.bincount(label.ravel(), minlength=classes)
    pixels = label.reshape(-1, classes - 1)
    return np.array([(~pixels.any(1)).sum(), *pixels.sum(0, dtype=np.int64)])


def _line(
    grid: Grid, predictor: Predictor, counts: np.ndarray, found: int | None, path: Path
) -> str:
    """What was found in a file, in one line."""
    pixels = grid.count * math.prod(grid.shape)
    classes = predictor.setup.preprocessing["classes"]
    shares = [
        f"{name} {100 * count / pixels:.1f} %"
        for name, count in zip(classes, counts, strict=True)
    ]
    if counts[0] == pixels:
        shares.append(f"nothing but {classes[0]}")
    if found is not None:
        shares.append(f"{found} objects")
    size = " x ".join(
        map(str, ([grid.count] if grid.count > 1 else []) + [*grid.shape])
    )
    return f"{grid.path.name}: {size}, {', '.join(shares)} -> {path}"
