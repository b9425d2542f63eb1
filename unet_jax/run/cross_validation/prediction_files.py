"""The files of out-of-fold predictions: `predictions/` of a cross-validation."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unet_jax.build.evaluation import EvaluationParts
from unet_jax.data import files
from unet_jax.data.files import ImageFile
from unet_jax.run.cases import PredictedExample

PREDICTIONS = "predictions"
RESULT = re.compile(r".+_(labels|values|probabilities|instances)\.[a-z.]+", re.DOTALL)


class PredictionFiles:
    """Writes the predictions of images, as mode `predict` writes those of files.

    The labels or the values of each image are written, its objects if they were looked
    for, and its probabilities if `config.predict.save_probabilities` is set.

    Args:
      folder: the folder to write to, which exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stems: set[str] = set()
        self._written: set[Path] = set()

    def write(self, case: PredictedExample, parts: EvaluationParts) -> None:
        """Writes the prediction that `parts` made."""
        stem = self._choose_stem(case.example["id"])
        like = _describe_file(case, parts)
        for what, array, channels in _select_results(case, parts):
            name = f"{stem}_{what}"
            with files.write_images(
                self._folder, name, like, array.dtype, channels=channels
            ) as writer:
                writer.write(array)
            self._written.add(writer.path)

    def remove_others(self) -> None:
        """Removes predictions of an earlier evaluation that were not written again."""
        for path in self._folder.iterdir():
            ours = RESULT.fullmatch(path.name) and path.is_file()
            if ours and path not in self._written:
                path.unlink()

    def _choose_stem(self, one: str) -> str:
        """Returns a file name without an ending for the id of an image."""
        stem = stems = re.sub(r"[/\\\0]", "_", one)
        for number in itertools.count(1):
            if stem not in self._stems:
                break
            stem = f"{stems}_{number}"
        self._stems.add(stem)
        return stem


def _select_results(
    case: PredictedExample, parts: EvaluationParts
) -> Iterator[tuple[str, np.ndarray, int]]:
    """Yields the arrays to write: name, array, length of a channel axis or 0."""
    task, image = parts.prediction.task, case.image
    if task.classes:
        few = len(task.classes) <= 2**8
        label = image.prediction.astype(np.uint8 if few else np.uint16)
        yield "labels", label, task.overlapping * label.shape[-1]
        if case.has_objects:
            few = image.objects.max(initial=0) < 2**16
            yield "instances", image.objects.astype("u2" if few else "u4"), 0
        if parts.prediction.options.save_probabilities:
            yield "probabilities", image.probabilities, image.num_classes
    if task.units:
        yield "values", image.value, image.value.shape[-1]


def _describe_file(case: PredictedExample, parts: EvaluationParts) -> ImageFile:
    """Returns the layout of the image file, or a plain one if there is no file."""
    shape = case.example["weight"].shape
    path = parts.files.get(case.example["id"])
    if path is not None:
        how = {"axes": len(shape), "tiff_axes": parts.tiff_axes}
        with files.open_images(path, **how) as file:
            if file.shape == shape:
                return file._replace(count=1, stack=())
    return ImageFile(
        path=Path(case.example["id"]),
        kind="image" if len(shape) == 2 else "tiff",
        count=1,
        shape=shape,
        channels=1,
        dtype=np.dtype(np.uint8),
        read=lambda image, box: np.zeros(0),
    )
