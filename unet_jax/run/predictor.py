"""A trained run, or several, as an object that predicts images."""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ml_collections import ConfigDict

from unet_jax.build.predicting import Predicting, predicting
from unet_jax.checkpoint import Checkpoints, newest
from unet_jax.data.files import channel_converter
from unet_jax.data.normalize import Scale, chunk_slices
from unet_jax.data.resample import Resampling
from unet_jax.errors import UserError, naming
from unet_jax.inference import DeviceError, Want, entropy
from unet_jax.postprocess import foreground_objects
from unet_jax.run import folder
from unet_jax.tiling import Answer, Read

# The pre-processing and the fields that members of an ensemble have in common.
SHARED = (
    "classes",
    "channels",
    "target_channels",
    "spatial_axes",
    "normalize",
    "spacing",
    "target_scale",
)
SHARED_FIELDS = ("model", "task")


class Predictor:
    """Predicts images of any size with the best checkpoint of a run, or of several.

    `Predictor.load('runs/isbi')` makes one. It needs nothing but the run folder: the
    normalisation, the spacing, the task and the number of channels come with the
    checkpoint.

    Attributes:
      setup: the parts of the run that predict.
    """

    def __init__(self, setup: Predicting, members: Sequence[Any]) -> None:
        self.setup = setup
        self._members = members

    @classmethod
    def load(
        cls, *runs: str | Path, trust: bool = False, **options: Any
    ) -> "Predictor":
        """Reads the best checkpoint of each run folder; predictions are averaged.

        Args:
          runs: run folders, of one network and one kind of data.
          trust: import the code from outside this package that the first run's config
            names, if it does.
          options: fields of `config.predict` that replace those of the first run's
            config, such as `tta='d4'` or `tile=(512, 512)`.

        Raises:
          UserError: a folder holds no checkpoint, or the runs do not fit together.
        """
        if not runs:
            raise UserError("Predictor.load needs a run folder, such as 'runs/isbi'")
        first = Path(runs[0]).expanduser()
        folder.check_trained(first)
        stored = newest(first)["config"]
        folder.check_trusted(stored, first, trust=trust)
        config = ConfigDict(folder.revive(stored))
        with config.predict.ignore_type():  # what it must be is said when it is built
            for name, value in options.items():
                config.predict[name] = value
        return cls.of(config, [Path(run).expanduser() for run in runs])

    @classmethod
    def of(cls, config: ConfigDict, runs: Sequence[Path]) -> "Predictor":
        """Does the same with a given config, whose `predict` may be changed."""
        for run in runs:
            folder.check_trained(run)
        with Checkpoints(runs[0], folder.chosen_by(runs[0], config)) as checkpoints:
            about = checkpoints.about(checkpoints.best)
        setup = predicting(config, about["preprocessing"])
        if about["preprocessing"]["samples"]:
            raise UserError(
                f"{runs[0]} is a generator and predicts nothing; use --mode=sample"
            )
        like = setup.inference.here.abstract(setup.variables)
        members = []
        for run in runs:
            with Checkpoints(run, folder.chosen_by(run, config)) as checkpoints:
                other = checkpoints.about(checkpoints.best)
                _check_member(run, other, about)
                members.append(checkpoints.variables(checkpoints.best, like))
        return cls(setup, members)

    def probabilities(
        self, image: np.ndarray, spacing: Sequence[float] | None = None
    ) -> np.ndarray:
        """Returns the probability of every class at every pixel.

        Args:
          image: `[*S]` or `[*S, C]`, raw: of any real dtype, as the training images.
          spacing: the size of a pixel along each axis, as the training files have it;
            of use only to a run with a `config.spacing`, which needs it.

        Returns:
          `f32[*S, K]`, before post-processing; classes that may overlap leave the
          background out.

        Raises:
          UserError: the image is not of the kind that the network takes, or the task
            has no classes.
        """
        self._check_classes("probabilities")
        answer = self._ask(image, spacing, Want(prediction=True))
        return self.setup.task.probabilities(answer["prediction"])

    def labels(
        self, image: np.ndarray, spacing: Sequence[float] | None = None
    ) -> np.ndarray:
        """Returns the class of every pixel, `i32[*S]`, or `i32[*S, K]` if they overlap.

        Args and errors are as in `probabilities`.
        """
        self._check_classes("labels")
        return self._ask(image, spacing, Want())["label"].astype(np.int32)

    def objects(
        self, image: np.ndarray, spacing: Sequence[float] | None = None
    ) -> np.ndarray:
        """Returns object ids, `i32[*S]`, 0 = background.

        They are those of the task or of the config's post-processing; where neither
        finds any, the components of the foreground that are connected through faces.
        Args and errors are as in `probabilities`.
        """
        self._check_classes("objects")
        answer = self._ask(image, spacing, Want())
        if "objects" in answer:
            return answer["objects"]
        independent = self.setup.task.overlapping
        return foreground_objects(answer["label"].astype("i4"), independent=independent)

    def values(
        self, image: np.ndarray, spacing: Sequence[float] | None = None
    ) -> np.ndarray:
        """Returns the predicted values, `f32[*S, C]`, in the units of the targets.

        Args are as in `probabilities`.

        Raises:
          UserError: as in `probabilities`, or the task predicts no values.
        """
        if not self.setup.task.units:
            raise UserError("the task of this run predicts no values; ask for labels")
        return self._ask(image, spacing, Want())["values"]

    def uncertainty(
        self,
        image: np.ndarray,
        kind: Literal["entropy", "mutual_information"] = "entropy",
        spacing: Sequence[float] | None = None,
    ) -> np.ndarray:
        """Returns the uncertainty of the class of every pixel, `f32[*S]` in nats.

        'entropy' is that of the mean probabilities. 'mutual_information' is the
        disagreement of the members: the entropy of their mean less the mean of their
        entropies (Gal et al. 2017, equation 6). The members are the runs, each with its
        mean over the views of the test-time augmentation; of a single run they are its
        views, and of a single view it is 0.
        """
        if kind not in ("entropy", "mutual_information"):
            raise UserError(f"kind must be entropy or mutual_information, not {kind!r}")
        self._check_classes("uncertainty")
        answer = self._ask(image, spacing, Want(prediction=True, doubt=True))
        return self.doubts(answer)[..., int(kind == "mutual_information")]

    def doubts(self, answer: Answer) -> np.ndarray:
        """Returns entropy and mutual information, `f32[*S, 2]`, of some results."""
        task = self.setup.task
        total = entropy(task, task.probabilities(answer["prediction"]))
        apart = np.maximum(total - answer["doubt"], 0)
        return np.stack([total, apart], axis=-1)

    def _check_classes(self, result: str) -> None:
        if not self.setup.task.classes:
            raise UserError(
                f"the task of this run has no classes, and so no {result}; ask for "
                "values"
            )

    def rows(
        self,
        shape: tuple[int, ...],
        raws: Sequence[Read],
        want: Want,
        spacing: Sequence[float] | None = None,
        passed: Callable[[int, int], None] = lambda done, of: None,
    ) -> Iterator[Answer]:
        """Predicts raw images of one shape, some rows after the other.

        Post-processing, resampling and a task that segments need whole images, and then
        the rows of an image come all at once. Resampled results are brought back
        to the image's own grid.

        Args:
          shape: the spatial shape.
          raws: functions that read a box of each image, `[*box, C]`.
          want: the results besides `label` or `values`; `objects` come if found.
          spacing: the size of their pixels along each axis, where it is known.
          passed: called with how many tiles are done, and of how many.
        """
        setup = self.setup
        change = setup.resampling(shape, spacing)
        scales = [self._scale(raw, shape) for raw in raws]
        reads = [_scaled(*pair) for pair in zip(raws, scales, strict=True)]
        how: dict[str, Any] = {"views": setup.views, "passed": passed}
        whole = setup.options.postprocess or setup.task.segment or change.changes
        if not whole:
            rows = setup.inference.rows(self._members, shape, reads, want=want, **how)
            done = 0
            for answer in rows:
                yield self._with_values(answer, scales[done // shape[0]])
                done += len(next(iter(answer.values())))
            return
        how["want"] = want._replace(prediction=True)
        if change.changes:
            reads = [_resampled(read, change) for read in reads]
        answers = setup.inference.whole(self._members, change.shape, reads, **how)
        for answer, scale in zip(answers, scales, strict=True):
            yield self._finished(self._brought_back(answer, change), scale)

    def _with_values(self, answer: Answer, scale: Callable[[], Scale]) -> Answer:
        """The results for rows of an image, with values in their units."""
        if not self.setup.task.units:
            return answer
        back = self.setup.value_scale(scale()).back
        return answer | {"values": back(answer["prediction"])}

    def _finished(self, answer: Answer, scale: Callable[[], Scale]) -> Answer:
        """The results for a whole image, with its objects or its values."""
        if not self.setup.task.classes:
            return self._with_values(answer, scale)
        label, objects = self.setup.segment(
            answer["label"], answer["prediction"], postprocess=True
        )
        answer = answer | {"label": label.astype(answer["label"].dtype)}
        return answer if objects is None else answer | {"objects": objects}

    def _brought_back(self, answer: Answer, change: Resampling) -> Answer:
        """The results for a resampled image, on its own grid.

        The disagreement of the members is interpolated, not their entropies: a mean of
        neighbours is less certain than they are, and interpolated entropy would
        overestimate the mutual information.
        """
        task = self.setup.task
        if not change.changes or "doubt" not in answer:
            return change.invert_results(answer, task.decide, task.vectors)
        apart = change.invert(self.doubts(answer)[..., 1])
        own = change.invert_results(answer, task.decide, task.vectors)
        total = entropy(task, task.probabilities(own["prediction"]))
        return own | {"doubt": total - apart}

    def _ask(
        self, image: np.ndarray, spacing: Sequence[float] | None, want: Want
    ) -> Answer:
        image = self._checked(image)
        shape = image.shape[:-1]
        with naming(f"the image of shape {shape}"):
            self.setup.resampling(shape, spacing)
        raw = [lambda box: image[tuple(box)]]
        while True:
            try:
                parts = list(self.rows(shape, raw, want, spacing))
                return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
            except DeviceError as error:
                self.setup.inference.shrink(error)

    def _scale(self, raw: Read, shape: tuple[int, ...]) -> Callable[[], Scale]:
        rest = [slice(0, size) for size in shape[1:]]

        @functools.cache
        def scale() -> Scale:  # measured when the image's turn has come
            return self.setup.measure(
                lambda: (raw([r, *rest]) for r in chunk_slices(shape))
            )

        return scale

    def _checked(self, image: np.ndarray) -> np.ndarray:
        """The image with its channels last, if it is one for this network."""
        try:
            image = np.asarray(image)
        except ValueError as error:
            raise UserError(f"the image is no array: {error}") from error
        shape = image.shape
        if image.dtype.kind not in "buif":
            raise UserError(f"the image must be an array of numbers, not {image.dtype}")
        axes = self.setup.preprocessing["spatial_axes"]
        channels = self.setup.preprocessing["channels"]
        if image.ndim == axes:
            image = image[..., None]
        if image.ndim != axes + 1:
            raise UserError(
                f"the image has the shape {shape}; the network takes one image "
                f"at a time, of {axes} spatial axes and {channels} channels, last"
            )
        with naming(f"the image of shape {shape}"):
            change = channel_converter(
                image.shape[-1], channels, convert=self.setup.convert
            )
        image = change(image)
        if not image.size:
            raise UserError(f"the image has no pixels: its shape is {image.shape}")
        if not np.isfinite(image).all():
            raise UserError("the image has NaN or infinite pixels")
        return image


def _scaled(raw: Read, scale: Callable[[], Scale]) -> Read:
    """Reads boxes of a raw image, normalised."""
    return lambda box: scale()(raw(box))


def _resampled(read: Read, change: Resampling) -> Read:
    """Reads boxes of an image that is resampled whole, when its turn has come."""

    @functools.cache
    def whole() -> np.ndarray:
        return change.image(read([slice(0, size) for size in change.file_shape]))

    return lambda box: whole()[tuple(box)]


def _check_member(run: Path, about: dict[str, Any], first: dict[str, Any]) -> None:
    for part, names in (("preprocessing", SHARED), ("config", SHARED_FIELDS)):
        for name in names:
            there, here = first[part].get(name), about[part].get(name)
            if there != here:
                raise UserError(
                    f"{run} does not fit the first run: its {name} is {here}, not "
                    f"{there}"
                )
