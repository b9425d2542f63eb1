"""Mode `predict`: predicts files, and prints one line for each."""

import contextlib
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax import logs, pictures
from unet_jax.data import files
from unet_jax.data.files import ImageFile, ImageWriter
from unet_jax.errors import UserError
from unet_jax.inference import DeviceError, Request
from unet_jax.progress import show_progress
from unet_jax.run import preview, run_folder
from unet_jax.run.ensemble import list_members
from unet_jax.run.predictor import Predictor
from unet_jax.text import dimensions, listing, printable
from unet_jax.tiling import ReadBox, Results

KINDS = "labels|values|probabilities|uncertainty|instances|overlay"
RESULT = re.compile(rf"(.+)_({KINDS})\.[a-z.]+", re.DOTALL)  # NAME_labels.png


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
      workdir: the run folder, or that of a cross-validation, whose folds are an
        ensemble.
      input: a file, a folder or a glob.
      output: the folder to write to.
      ensemble: further run folders; the predictions of all runs are averaged.

    Returns:
      0, or 1 if a file could not be predicted; the other files are predicted anyway.
      Results of the same name are replaced. Other results that an earlier prediction
      has left in the folder are kept, and named.

    Raises:
      UserError: there are no input files, a run folder cannot be used, or the output
        folder is not writable.
    """
    source, target = str(Path(input).expanduser()), Path(output).expanduser()
    paths = files.find_images(source)
    runs = list_members(workdir, ensemble)
    run_folder.create_or_check(runs[0], config)  # refuses the config of another run
    predictor = Predictor.from_config(config, runs)
    if len(runs) > 1:
        members = listing((str(run) for run in runs), most=5)
        logs.say(f"predicting with the mean of {len(runs)} networks: {members}")
    paths = _exclude_results(target, paths)
    run_folder.create(target, "output")
    if skipped := files.other_files(source, paths):
        logs.say(f"skipped, not images: {', '.join(path.name for path in skipped)}")
    names = dict(zip(paths, files.unique_stems(paths), strict=True))
    mine = paths[jax.process_index() :: jax.process_count()]
    stored = {
        "axes": predictor.setup.preprocessing["spatial_axes"],
        "tiff_axes": config.data.get("tiff_axes", ""),
    }
    earlier = _list_results(target)
    faults = []
    with (
        show_progress("predicting files", len(mine)) as report,
        show_progress("tiles", silent=True) as show_tiles,
    ):
        for done, path in enumerate(mine, 1):
            try:
                with files.open_images(path, **stored) as grid:
                    where = target, names[path]
                    line = _predict_file(predictor, grid, *where, show_tiles)
                print(printable(line), flush=True)
            except Exception as error:  # any error: predict the other files first
                line = f"error: {_format_error(error, path)}"
                print(printable(line), file=sys.stderr, flush=True)
                faults.append(path)
            report(done)
    if stale := _find_left(earlier, target, names, mine):
        print(
            f"{printable(target)} still holds results of an earlier prediction: "
            f"{listing(stale)}; another --output keeps predictions apart",
            flush=True,
        )
    if faults:
        print(f"{len(faults)} of {len(mine)} files could not be predicted:")
        for path in faults:
            print(f"  {printable(path)}", flush=True)
    return int(bool(faults))


def _format_error(error: Exception, path: Path) -> str:
    """Returns one line that names the file."""
    words = " ".join(str(error).split())
    if isinstance(error, UserError):
        return words if printable(path) in words else f"{path}: {words}"
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


def _list_results(folder: Path) -> dict[Path, tuple[int, int]]:
    """Returns the files that predictions have written, with their inodes and times."""
    found = [path for path in folder.iterdir() if RESULT.fullmatch(path.name)]
    stats = [path.lstat() for path in found]
    return dict(zip(found, ((s.st_ino, s.st_mtime_ns) for s in stats), strict=True))


def _find_left(
    earlier: Mapping[Path, tuple[int, int]],
    target: Path,
    names: Mapping[Path, str],
    mine: Sequence[Path],
) -> list[str]:
    """Returns the earlier results that this prediction has not replaced.

    Each process answers for its own images, and process 0 also for results of others.
    """
    now, chosen = _list_results(target), {names[path] for path in mine}
    if jax.process_index() == 0:
        chosen |= {RESULT.sub(r"\1", path.name) for path in now} - set(names.values())
    same = [path.name for path in earlier if now.get(path) == earlier[path]]
    return sorted(name for name in same if RESULT.sub(r"\1", name) in chosen)


def _predict_file(
    predictor: Predictor,
    grid: ImageFile,
    target: Path,
    name: str,
    on_progress: Callable,
) -> str:
    """Predicts one file, with smaller tiles if memory runs out; returns its line."""
    setup = predictor.setup
    channels = setup.preprocessing["channels"]
    try:
        grid = files.convert_channels(grid, channels, convert=setup.convert)
    except UserError as error:
        path = Path(str(grid.path))
        hint = files.suggest_channels(path, len(grid.shape), channels)
        raise UserError(f"{error}; or, {hint}" if hint else str(error)) from error
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
    setup = predictor.setup
    options, plane = setup.options, preview.choose_plane(grid)
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
    png = pictures.encode_png(preview.draw_overlay(setup, pixels, planes))
    logs.write_file(target / f"{name}_overlay.png", png)
    path = next(iter(writers.values())).path
    size = dimensions([grid.count, *grid.shape] if grid.count > 1 else grid.shape)
    notes = "".join(f", {note}" for note in grid.notes)
    return f"{grid.path.name}: {size}{notes}{counts.format(grid)} -> {path}"


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
