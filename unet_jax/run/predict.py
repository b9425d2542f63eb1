"""Mode `predict`: predicts files, and prints one line for each."""

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
from unet_jax.inference import DeviceError, Request
from unet_jax.run import preview, run_folder
from unet_jax.run.predictor import Predictor
from unet_jax.text import dimensions
from unet_jax.tiling import ReadBox, Results


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
      config: the config of the run; `predict` may be changed.
      workdir: the run folder.
      input: a file, a folder or a glob.
      output: the folder to write to.
      ensemble: further run folders; the predictions of all runs are averaged.

    Returns:
      0, or 1 if a file could not be predicted; the other files are predicted anyway.

    Raises:
      UserError: there are no input files, a run folder cannot be used, or the output
        folder is not writable.
    """
    source, target = str(Path(input).expanduser()), Path(output).expanduser()
    paths = files.find_images(source)
    runs = [workdir, *(Path(run).expanduser() for run in ensemble)]
    run_folder.check_trained(workdir)
    run_folder.create_or_check(workdir, config)  # refuses the config of another run
    predictor = Predictor.from_config(config, runs)
    paths = _exclude_results(target, paths)
    run_folder.create(target, "output")
    if left := files.other_files(source, paths):
        logs.say(f"skipped, not images: {', '.join(path.name for path in left)}")
    names = dict(zip(paths, files.unique_stems(paths), strict=True))
    mine = paths[jax.process_index() :: jax.process_count()]
    faults = []
    with _show_progress(len(mine)) as (finish_file, show_tiles):
        for path in mine:
            try:
                line = _predict_file(predictor, path, target, names[path], show_tiles)
                print(line, flush=True)
            except Exception as error:  # any error: predict the other files first
                line = f"error: {_format_error(error, path)}"
                print(line, file=sys.stderr, flush=True)
                faults.append(path)
            finish_file()
    if faults:
        print(f"{len(faults)} of {len(mine)} files could not be predicted:")
        for path in faults:
            print(f"  {path}", flush=True)
    return int(bool(faults))


def _format_error(error: Exception, path: Path) -> str:
    """Returns one line that names the file."""
    words = " ".join(str(error).split())
    if isinstance(error, UserError):
        return words if str(path) in words else f"{path}: {words}"
    return f"{path}: {type(error).__name__}: {words[:200]}"


def _exclude_results(target: Path, paths: Sequence[Path]) -> list[Path]:
    """Returns the files outside the output folder, where earlier results may lie."""
    outside = [p for p in paths if target.resolve() not in p.resolve().parents]
    if not outside:
        raise UserError(
            f"--output={target} is the folder of the images, so the next run would "
            "read the results as images; choose another folder"
        )
    return outside


@contextlib.contextmanager
def _show_progress(count: int) -> Iterator[tuple[Callable, Callable]]:
    """Yields two functions: for the end of a file, and of `(tiles done, all tiles)`."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console, hidden = Console(soft_wrap=True), not sys.stdout.isatty()
    with Progress(*columns, console=console, disable=hidden, transient=True) as bar:
        files_bar = bar.add_task("files", total=count)
        tiles_bar = bar.add_task("tiles", total=None)
        yield (
            lambda: bar.advance(files_bar),
            lambda done, total: bar.update(tiles_bar, completed=done, total=total),
        )


def _predict_file(
    predictor: Predictor, path: Path, target: Path, name: str, on_progress: Callable
) -> str:
    """Predicts one file, with smaller tiles if memory runs out; returns its line."""
    setup = predictor.setup
    preprocessing = setup.preprocessing
    with files.open_images(path, axes=preprocessing["spatial_axes"]) as grid:
        channels = preprocessing["channels"]
        grid = files.convert_channels(grid, channels, convert=setup.convert)
        while True:
            try:
                return _predict_grid(predictor, grid, target, name, on_progress)
            except DeviceError as error:
                setup.inference.reduce_memory(error)


def _predict_grid(
    predictor: Predictor,
    grid: ImageFile,
    target: Path,
    name: str,
    on_progress: Callable,
) -> str:
    options, plane = predictor.setup.options, preview.choose_plane(grid)
    request = Request(
        prediction=options.save_probabilities or options.save_uncertainty,
        member_entropy=options.save_uncertainty,
    )
    raws = [_make_finite_reader(grid, image) for image in range(grid.count)]
    how = {"spacing": grid.spacing, "on_progress": on_progress}
    counts = ResultCounts(predictor)
    shown: dict[str, list[np.ndarray]] = {"label": [], "objects": [], "values": []}
    done = 0
    with contextlib.ExitStack() as stack:
        writers: dict[str, ImageWriter] = {}
        for answer in predictor.predict_rows(grid.shape, raws, request, **how):
            for what, block, channels in _select_outputs(predictor, answer, grid):
                if what not in writers:
                    where = target, f"{name}_{what}", grid, block.dtype
                    writer = files.write_images(*where, channels=channels)
                    writers[what] = stack.enter_context(writer)
                writers[what].write(block)
            counts.add(answer)
            for what in shown.keys() & answer.keys():
                rows = preview.select_rows(answer[what], done, grid, plane)
                shown[what].append(rows)
            done += len(next(iter(answer.values())))
    planes = {k: preview.join_plane(rows, plane) for k, rows in shown.items() if rows}
    pixels = preview.read_plane(raws[plane.image], grid, plane)
    png = pictures.encode_png(_draw_overlay(predictor, pixels, planes))
    logs.write_file(target / f"{name}_overlay.png", png)
    path = next(iter(writers.values())).path
    size = dimensions([grid.count, *grid.shape] if grid.count > 1 else grid.shape)
    return f"{grid.path.name}: {size}{counts.format(grid)} -> {path}"


def _select_outputs(
    predictor: Predictor, answer: Results, grid: ImageFile
) -> Iterator[tuple[str, np.ndarray, int]]:
    """Yields the arrays to write: name, block, length of a channel axis or 0."""
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
        yield "uncertainty", predictor.measure_uncertainty(answer), 2
    if "objects" in answer:
        yield "instances", _cast_object_ids(answer["objects"], grid), 0


def _draw_overlay(
    predictor: Predictor, pixels: np.ndarray, planes: dict[str, np.ndarray]
) -> pictures.Picture:
    """Draws the classes and objects on the image, or the values beside it."""
    setup = predictor.setup
    if "values" in planes:
        both = map(pictures.draw_image, (pixels, planes["values"]))
        return pictures.make_contact_sheet(list(both), columns=2)
    colours, objects = setup.preprocessing["colours"], planes.get("objects")
    return pictures.draw_overlay(pixels, planes["label"], colours, objects)


class ResultCounts:
    """Numbers of pixels of each class and of objects in one file, counted by rows."""

    def __init__(self, predictor: Predictor) -> None:
        task = predictor.setup.task
        background = predictor.setup.preprocessing["classes"][: task.overlapping]
        self._overlapping = task.overlapping
        self._classes = (*background, *task.classes)
        self._counts = np.zeros(len(self._classes), np.int64)
        self._objects: int | None = None

    def add(self, answer: Results) -> None:
        """Adds the next rows."""
        if "label" in answer:
            self._counts += self._count_pixels(answer["label"])
        if "objects" in answer:
            sizes = np.bincount(answer["objects"].ravel())
            self._objects = (self._objects or 0) + int(np.count_nonzero(sizes[1:]))

    def _count_pixels(self, label: np.ndarray) -> np.ndarray:
        """Counts the pixels of every class; overlapping classes share pixels."""
        classes = len(self._classes)
        if not self._overlapping:
            return np.bincount(label.ravel(), minlength=classes)
        pixels = label.reshape(-1, classes - 1)
        return np.array([(~pixels.any(1)).sum(), *pixels.sum(0, dtype=np.int64)])

    def format(self, grid: ImageFile) -> str:
        """Returns the share of each class and the number of objects as text."""
        pixels = grid.count * math.prod(grid.shape)
        pairs = zip(self._classes, self._counts, strict=True)
        words = [f"{name} {100 * count / pixels:.1f} %" for name, count in pairs]
        if self._classes and self._counts[0] == pixels:
            words.append(f"only {self._classes[0]}")
        if self._objects is not None:
            words.append(f"{self._objects} objects")
        return "".join(f", {word}" for word in words)


def _make_finite_reader(grid: ImageFile, image: int) -> ReadBox:
    """Returns a reader of one image; it raises UserError for NaN or infinite pixels."""

    def read(box: Sequence[slice]) -> np.ndarray:
        block = grid.read(image, box)
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            raise UserError(
                f"{grid.path}: has NaN or infinite pixels; replace them and try again"
            )
        return block

    return read


def _cast_object_ids(objects: np.ndarray, grid: ImageFile) -> np.ndarray:
    """Casts object ids to 16 bits if that is enough for the whole file, else to 32."""
    few = grid.count == 1 and objects.max(initial=0) < 2**16
    return objects.astype(np.uint16 if few else np.uint32)
