"""Prediction from Python: `Predictor`, made from one or several trained runs."""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ml_collections import ConfigDict

from unet_jax import compilation_cache, pictures
from unet_jax.arrays import chunk_slices
from unet_jax.build import field_checks
from unet_jax.build.prediction import PredictionParts, build_prediction
from unet_jax.checkpoint import load_newest_metadata
from unet_jax.data.files import channel_converter
from unet_jax.data.normalize import Scale
from unet_jax.data.resample import Resampling
from unet_jax.errors import UserError, prefix_errors
from unet_jax.inference import DeviceError, Request, compute_entropy
from unet_jax.postprocess import find_foreground_objects
from unet_jax.run import run_config
from unet_jax.run.ensemble import list_members, open_runs, read_preprocessing
from unet_jax.run.preview import draw_overlay
from unet_jax.tiling import ReadBox, Results


class Predictor:
    """A predictor for images of any size, with the best checkpoint of one or more runs.

    `Predictor.load('runs/isbi')` makes one. It needs only the run folder: the
    normalisation, the spacing, the task and the number of channels are saved with the
    checkpoint.

    Attributes:
      setup: the parts of the run that predict.
      members: the variables of each run, on the devices.
    """

    def __init__(self, setup: PredictionParts, members: Sequence[Any]) -> None:
        self.setup = setup
        self.members = members

    @classmethod
    def load(
        cls, *runs: str | Path, trust: bool = False, **options: Any
    ) -> "Predictor":
        """Loads the best checkpoint of each run folder; their predictions are averaged.

        Args:
          *runs: run folders with the same network and the same kind of data. That of
            a cross-validation stands for the runs of its folds.
          trust: True to import code from outside this package if the config of the
            first run names it.
          **options: fields of `config.predict` that replace those of the first run's
            config, such as `tta='d4'` or `tile=(512, 512)`.

        Raises:
          UserError: a folder holds no checkpoint, or the runs do not fit together.
        """
        if not runs:
            raise UserError("Predictor.load needs a run folder, such as 'runs/isbi'")
        compilation_cache.enable()
        first, *others = (Path(run).expanduser() for run in runs)
        members = list_members(first, others)
        saved = load_newest_metadata(members[0])["config"]
        run_config.check_trusted(saved, first, trust=trust, predicts=True)
        config = run_config.make_config(saved, members[0])
        with config.predict.ignore_type():  # types are checked when it is built
            config.predict.update(options)
        return cls.from_config(config, members)

    @classmethod
    def from_config(cls, config: ConfigDict, runs: Sequence[Path]) -> "Predictor":
        """Loads the best checkpoint of each run folder, with a given config.

        `predict` of the config may differ from that of the first run.

        Raises:
          UserError: as in `load`, or a field of the config is wrong.
        """
        field_checks.check_fields(config)
        opened = open_runs(config, runs)
        preprocessing = read_preprocessing(opened)
        if preprocessing["samples"]:
            raise UserError(
                f"{runs[0]} is the run of a generator, which cannot predict; use "
                "--mode=sample"
            )
        setup = build_prediction(config, preprocessing)
        like = setup.inference.devices.abstract(setup.variables)
        place = setup.inference.place
        pairs = zip(runs, opened, strict=True)
        return cls(setup, [place(one.load_best(like)[1], run) for run, one in pairs])

    def probabilities(
        self, image: np.ndarray, spacing: Sequence[float] | None = None
    ) -> np.ndarray:
        """Returns the probability of every class at every pixel.

        Args:
          image: `[*S]` or `[*S, C]`, raw like the training images, of any real dtype.
          spacing: size of a pixel along each axis, in the units of the training files;
            required if the run has a `config.spacing`, unused otherwise.

        Returns:
          `f32[*S, K]`, before post-processing; without the background if the classes
          may overlap.

        Raises:
          UserError: the network cannot take the image, or the task has no classes.
        """
        self._check_classes("probabilities")
        answer = self.predict_image(image, spacing, Request(prediction=True))
        return self.setup.task.probabilities(answer["prediction"])

    def labels(
        self, image: np.ndarray, spacing: Sequence[float] | None = None
    ) -> np.ndarray:
        """Returns the class of every pixel, `i32[*S]`, or `i32[*S, K]` if they overlap.

        Arguments and errors are those of `probabilities`.
        """
        self._check_classes("labels")
        return self.predict_image(image, spacing, Request())["label"].astype(np.int32)

    def objects(
        self, image: np.ndarray, spacing: Sequence[float] | None = None
    ) -> np.ndarray:
        """Returns object ids, `i32[*S]`, 0 = background.

        The task or the post-processing finds the objects. If neither does, they are the
        face-connected components of the foreground. Arguments and errors are those of
        `probabilities`.
        """
        self._check_classes("objects")
        answer = self.predict_image(image, spacing, Request())
        if "objects" in answer:
            return answer["objects"]
        independent = self.setup.task.overlapping
        return find_foreground_objects(
            answer["label"].astype("i4"), independent=independent
        )

    def values(
        self, image: np.ndarray, spacing: Sequence[float] | None = None
    ) -> np.ndarray:
        """Returns the predicted values, `f32[*S, C]`, in the units of the targets.

        Arguments are those of `probabilities`.

        Raises:
          UserError: the network cannot take the image, or the task has no values.
        """
        if not self.setup.task.units:
            raise UserError(
                "the task of this run predicts no values; call Predictor.labels"
            )
        return self.predict_image(image, spacing, Request())["values"]

    def uncertainty(
        self,
        image: np.ndarray,
        kind: Literal["entropy", "mutual_information"] = "entropy",
        spacing: Sequence[float] | None = None,
    ) -> np.ndarray:
        """Returns the uncertainty of the class of every pixel, `f32[*S]` in nats.

        'entropy' is the entropy of the mean probabilities. 'mutual_information' is the
        disagreement of the members: the entropy of their mean minus the mean of their
        entropies (Gal et al. 2017, equation 6). The members are the runs, each averaged
        over the views of the test-time augmentation; with a single run they are its
        views, and with a single view the result is 0.

        Args:
          image: as in `probabilities`.
          kind: 'entropy' or 'mutual_information'.
          spacing: as in `probabilities`.

        Raises:
          UserError: as in `probabilities`, or `kind` is unknown.
        """
        if kind not in ("entropy", "mutual_information"):
            raise UserError(f"kind must be entropy or mutual_information, not {kind!r}")
        self._check_classes("uncertainty")
        answer = self.predict_image(
            image, spacing, Request(prediction=True, member_entropy=True)
        )
        return self.measure_uncertainty(answer)[..., int(kind == "mutual_information")]

    def measure_uncertainty(self, answer: Results) -> np.ndarray:
        """Returns entropy and mutual information, `f32[*S, 2]` in nats, of results."""
        task = self.setup.task
        total = compute_entropy(task, task.probabilities(answer["prediction"]))
        mutual = np.maximum(total - answer["member_entropy"], 0)
        return np.stack([total, mutual], axis=-1)

    def overlay(
        self, image: np.ndarray, spacing: Sequence[float] | None = None
    ) -> pictures.Picture:
        """Returns a picture of the prediction, `u8[H, W, 3]`.

        The classes and objects are drawn on the image, in colours and with outlines; if
        the task predicts values, they are drawn beside it. A volume shows its middle
        slice. Arguments are those of `probabilities`.

        Raises:
          UserError: the network cannot take the image.
        """
        answer = self.predict_image(image, spacing, Request())
        axes = self.setup.preprocessing["spatial_axes"]
        pixels = np.asarray(image)
        pixels = pixels[..., None] if pixels.ndim == axes else pixels
        planes = {
            name: pictures.take_slice(array, axes)
            for name, array in {"pixels": pixels, **answer}.items()
        }
        return draw_overlay(self.setup, planes.pop("pixels"), planes)

    def _check_classes(self, result: str) -> None:
        if not self.setup.task.classes:
            raise UserError(
                f"the task of this run has no classes, and so no {result}; call "
                "Predictor.values"
            )

    def predict_rows(
        self,
        shape: tuple[int, ...],
        raws: Sequence[ReadBox],
        request: Request,
        spacing: Sequence[float] | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[Results]:
        """Yields the results for raw images of one shape, a block of rows at a time.

        Post-processing, resampling and a task that finds objects need whole images;
        then a block is a whole image. Resampled results are resampled back to the grid
        of the image.

        Args:
          shape: the spatial shape of every image.
          raws: functions that read a box of each image, `[*box, C]`.
          request: the results besides `label` or `values`; `objects` are added if
            found.
          spacing: size of a pixel along each axis, if it is known.
          on_progress: called with the number of finished tiles and of all tiles.
        """
        setup = self.setup
        change = setup.plan_resampling(shape, spacing)
        scales = [self._make_scale(raw, shape) for raw in raws]
        reads: list[ReadBox] = [
            lambda box, raw=raw, scale=scale: scale()(raw(box))  # normalised
            for raw, scale in zip(raws, scales, strict=True)
        ]
        how: dict[str, Any] = {"views": setup.views, "on_progress": on_progress}
        whole = setup.options.postprocess or setup.task.segment or change.changes
        if not whole:
            rows = setup.inference.predict_rows(
                self.members, shape, reads, request=request, **how
            )
            done = 0
            for answer in rows:
                yield self._add_values(answer, scales[done // shape[0]])
                done += len(next(iter(answer.values())))
            return
        how["request"] = request._replace(prediction=True)
        if change.changes:
            reads = [_make_resampling_reader(read, change) for read in reads]
        answers = setup.inference.predict_images(
            self.members, change.shape, reads, **how
        )
        for answer, scale in zip(answers, scales, strict=True):
            yield self._finish(self._resample_back(answer, change), scale)

    def _add_values(self, answer: Results, scale: Callable[[], Scale]) -> Results:
        """Adds the values in their units, if the task has values."""
        if not self.setup.task.units:
            return answer
        back = self.setup.value_scale(scale()).invert
        return answer | {"values": back(answer["prediction"])}

    def _finish(self, answer: Results, scale: Callable[[], Scale]) -> Results:
        """Adds the objects or the values to the results for a whole image."""
        if not self.setup.task.classes:
            return self._add_values(answer, scale)
        label, objects = self.setup.segment(
            answer["label"], answer["prediction"], postprocess=True
        )
        answer = answer | {"label": label.astype(answer["label"].dtype)}
        return answer if objects is None else answer | {"objects": objects}

    def _resample_back(self, answer: Results, change: Resampling) -> Results:
        """Resamples the results for an image back to its own grid.

        The mutual information is interpolated, not the entropies of the members:
        interpolated probabilities have a higher entropy than their neighbours, so
        interpolated entropies would overestimate the mutual information.
        """
        task = self.setup.task
        own = change.invert_results(answer, task.decide, task.vectors)
        if not change.changes or "member_entropy" not in answer:
            return own
        mutual = change.invert(self.measure_uncertainty(answer)[..., 1])
        total = compute_entropy(task, task.probabilities(own["prediction"]))
        return own | {"member_entropy": total - mutual}

    def predict_image(
        self, image: np.ndarray, spacing: Sequence[float] | None, request: Request
    ) -> Results:
        """Returns the results for one image, as `predict_rows` yields them.

        Args:
          image: as in `probabilities`.
          spacing: as in `probabilities`.
          request: the results besides `label` or `values`.

        Raises:
          UserError: the network cannot take the image.
        """
        image = self._check_image(image)
        shape = image.shape[:-1]
        with prefix_errors(f"the image of shape {shape}"):
            self.setup.plan_resampling(shape, spacing)
        raw = [lambda box: image[tuple(box)]]
        while True:
            try:
                blocks = list(self.predict_rows(shape, raw, request, spacing))
                return {k: np.concatenate([b[k] for b in blocks]) for k in blocks[0]}
            except DeviceError as error:
                self.setup.inference.reduce_memory(error)

    def _make_scale(self, raw: ReadBox, shape: tuple[int, ...]) -> Callable[[], Scale]:
        rest = [slice(0, size) for size in shape[1:]]

        @functools.cache
        def scale() -> Scale:  # measured when the image is first read
            return self.setup.measure(
                lambda: (raw([r, *rest]) for r in chunk_slices(shape))
            )

        return scale

    def _check_image(self, image: np.ndarray) -> np.ndarray:
        """Returns the image with a channel axis; raises UserError if it is unfit."""
        try:
            image = np.asarray(image)
        except ValueError as error:
            raise UserError(
                f"the image is not an array: {error}; pass a NumPy array"
            ) from error
        shape = image.shape
        if image.dtype.kind not in "buif":
            raise UserError(
                f"the image must be an array of numbers, not {image.dtype}; convert it "
                "to integers or floats"
            )
        axes = self.setup.preprocessing["spatial_axes"]
        channels = self.setup.preprocessing["channels"]
        if image.ndim == axes:
            image = image[..., None]
        if image.ndim != axes + 1:
            raise UserError(
                f"the image has the shape {shape}; the network takes one image "
                f"at a time, of {axes} spatial axes and {channels} channels, last"
            )
        with prefix_errors(f"the image of shape {shape}"):
            convert = channel_converter(
                image.shape[-1], channels, convert=self.setup.convert
            )
        image = convert(image)
        if not image.size:
            raise UserError(
                f"the image has no pixels: its shape is {image.shape}; pass an image "
                "with pixels"
            )
        if not np.isfinite(image).all():
            raise UserError("the image has NaN or infinite pixels; replace them")
        return image


def _make_resampling_reader(read: ReadBox, change: Resampling) -> ReadBox:
    """Returns a reader that resamples the whole image when its first box is read."""

    @functools.cache
    def whole() -> np.ndarray:
        return change.image(read([slice(0, size) for size in change.file_shape]))

    return lambda box: whole()[tuple(box)]
