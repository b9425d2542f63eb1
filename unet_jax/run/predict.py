"""The verb `predict`: predicts files, and prints one line for each."""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from unet_jax import logs, pictures
from unet_jax.data import files
from unet_jax.data.files import ImageFile, ImageWriter
from unet_jax.errors import UserError
from unet_jax.inference import DeviceError, Want
from unet_jax.run import folder, overlay
from unet_jax.run.predictor import Predictor
from unet_jax.text import dimensions
from unet_jax.tiling import Answer, Read


def predict(
    config: ConfigDict,
    workdir: Path,
    *,
    input: str,
    output: str,
    ensemble: Sequence[str] = (),
) -> int:
    """Predicts files with the best checkpoint of a run, or of several.

    Args:
      config: of the run, `predict` as it is wanted now.
      workdir: the run folder.
      input: a file, a folder or a glob.
      output: the folder to write to.
      ensemble: further run folders, whose probabilities are averaged with the first's.

    Returns:
      0, or 1 if a file could not be predicted; the others are.

    Raises:
      UserError: there is nothing to segment or nothing to do it with.
    """
    source, target = str(Path(input).expanduser()), Path(output).expanduser()
    paths = files.find_images(source)
    runs = [workdir, *(Path(run).expanduser() for run in ensemble)]
    folder.check_trained(workdir)
    folder.claim(workdir, config)  # refuses the config of another run
    predictor = Predictor.of(config, runs)
    paths = _outside(target, paths)
    folder.check_output(target)
    if left := files.other_files(source, paths):
        logs.say(f"left out, as no images: {', '.join(path.name for path in left)}")
    names = dict(zip(paths, files.unique_stems(paths), strict=True))
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
        print(f"{len(faults)} of {len(mine)} files could not be predicted:")
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
    """Predicts one file, with less and less memory if need be; returns its line."""
    setup = predictor.setup
    kind = setup.preprocessing
    with files.open_images(path, axes=kind["spatial_axes"]) as grid:
        grid = files.convert_channels(grid, kind["channels"], convert=setup.convert)
        while True:
            try:
                return _predict(predictor, grid, target, name, tell)
            except DeviceError as error:
                setup.inference.shrink(error)


def _predict(
    predictor: Predictor, grid: ImageFile, target: Path, name: str, tell: Callable
) -> str:
    options, sight = predictor.setup.options, overlay.sight_of(grid)
    want = Want(
        prediction=options.save_probabilities or options.save_uncertainty,
        doubt=options.save_uncertainty,
    )
    raws = [_finite(grid, image) for image in range(grid.count)]
    how = {"spacing": grid.spacing, "passed": lambda *tiles: tell(tiles)}
    tally = Tally(predictor)
    shown: dict[str, list[np.ndarray]] = {"label": [], "objects": [], "values": []}
    done = 0
    with contextlib.ExitStack() as stack:
        writers: dict[str, ImageWriter] = {}
        for answer in predictor.rows(grid.shape, raws, want, **how):
            for what, block, channels in _outputs(predictor, answer, grid):
                if what not in writers:
                    stem = f"{name}_{what}"
                    writer = files.write_images(
                        target, stem, grid, block.dtype, channels=channels
                    )
                    writers[what] = stack.enter_context(writer)
                writers[what].write(block)
            tally.add(answer)
            for what in shown.keys() & answer.keys():
                shown[what].append(overlay.rows_of(answer[what], done, grid, sight))
            done += len(next(iter(answer.values())))
    planes = {what: overlay.plane(rows, sight) for what, rows in shown.items() if rows}
    pixels = overlay.pixels(raws[sight.image], grid, sight)
    drawn = pictures.png(_picture(predictor, pixels, planes))
    logs.write(target / f"{name}_overlay.png", drawn)
    path = next(iter(writers.values())).path
    return f"{grid.path.name}: {_size(grid)}{tally.text(grid)} -> {path}"


def _outputs(
    predictor: Predictor, answer: Answer, grid: ImageFile
) -> Iterator[tuple[str, np.ndarray, int]]:
    """The arrays of an answer to write: name, block, length of a last axis or 0."""
    setup = predictor.setup
    if "label" in answer:
        label = answer["label"]
        yield "labels", label, setup.task.overlapping * label.shape[-1]
    if "values" in answer:
        yield "values", answer["values"], answer["values"].shape[-1]
    if setup.options.save_probabilities:
        mean = setup.task.probabilities(answer["prediction"])
        yield "probabilities", mean, mean.shape[-1]
    if setup.options.save_uncertainty:
        yield "uncertainty", predictor.doubts(answer), 2
    if "objects" in answer:
        yield "instances", _narrow(answer["objects"], grid), 0


def _picture(
    predictor: Predictor, pixels: np.ndarray, planes: dict[str, np.ndarray]
) -> pictures.Picture:
    """The classes and the objects drawn on the image, or the values beside it."""
    if "values" in planes:
        return pictures.row([pictures.grey(pixels), pictures.grey(planes["values"])])
    colours = predictor.setup.preprocessing["colours"]
    return pictures.overlay(pixels, planes["label"], colours, planes.get("objects"))


class Tally:
    """The pixels of each class and the objects of one file, counted as they come."""

    def __init__(self, predictor: Predictor) -> None:
        task = predictor.setup.task
        background = predictor.setup.preprocessing["classes"][: task.overlapping]
        self._overlapping = task.overlapping
        self._classes = (*background, *task.classes)
        self._counts = np.zeros(len(self._classes), np.int64)
        self._objects: int | None = None

    def add(self, answer: Answer) -> None:
        """Counts the next rows."""
        if "label" in answer:
            self._counts += _count(
                answer["label"], len(self._classes), overlapping=self._overlapping
            )
        if "objects" in answer:
            sizes = np.bincount(answer["objects"].ravel())
            self._objects = (self._objects or 0) + np.count_nonzero(sizes[1:])

    def text(self, grid: ImageFile) -> str:
        """Returns the counts in words, each after a comma."""
        pixels = grid.count * math.prod(grid.shape)
        pairs = zip(self._classes, self._counts, strict=True)
        words = [f"{name} {100 * count / pixels:.1f} %" for name, count in pairs]
        if self._classes and self._counts[0] == pixels:
            words.append(f"nothing but {self._classes[0]}")
        if self._objects is not None:
            words.append(f"{self._objects} objects")
        return "".join(f", {word}" for word in words)


def _finite(grid: ImageFile, image: int) -> Read:
    """Reads one image of the file, and objects to pixels that are no numbers."""

    def read(box: Sequence[slice]) -> np.ndarray:
        block = grid.read(image, box)
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            raise UserError(
                f"{grid.path}: has NaN or infinite pixels; replace them and try again"
            )
        return block

    return read


def _narrow(objects: np.ndarray, grid: ImageFile) -> np.ndarray:
    """Object ids in 16 bits, if that is known to be enough for all of the file."""
    few = grid.count == 1 and objects.max(initial=0) < 2**16
    return objects.astype(np.uint16 if few else np.uint32)


def _count(label: np.ndarray, classes: int, *, overlapping: bool) -> np.ndarray:
    """Pixels of every class; those of overlapping ones may add up to more than all."""
    if not overlapping:
        return np.bincount(label.ravel(), minlength=classes)
    pixels = label.reshape(-1, classes - 1)
    return np.array([(~pixels.any(1)).sum(), *pixels.sum(0, dtype=np.int64)])


def _size(grid: ImageFile) -> str:
    pages = [grid.count] if grid.count > 1 else []
    return dimensions([*pages, *grid.shape])
