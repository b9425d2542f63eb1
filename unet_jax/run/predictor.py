"""A trained run, or several, as something to ask: image in, segmentation out."""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax.build import Predicting, predicting
from unet_jax.build.predicting import spacing_of
from unet_jax.checkpoint import Checkpoints, newest
from unet_jax.data.files import conversion
from unet_jax.data.normalize import Scale, cuts
from unet_jax.data.resample import Resampling
from unet_jax.errors import UserError, naming
from unet_jax.inference import DeviceError, Want, entropy
from unet_jax.postprocess import Segmentation, foreground_objects
from unet_jax.run import folder
from unet_jax.tiling import Answer, Read

# What the members of an ensemble must have in common.
SHARED = ("head", "classes", "channels", "spatial_axes", "normalize")


class Predictor:
    """Segments images of any size with the best checkpoint of a run, or of several.

    `Predictor.load('runs/isbi')` makes one. It needs nothing but the run folder: the
    normalisation, the spacing, the classes and the number of channels come with the
    checkpoint.

    Attributes:
      setup: how the run segments.
    """

    def __init__(self, setup: Predicting, members: Sequence[Any]) -> None:
        self.setup = setup
        self._members = members

    @classmethod
    def load(cls, *runs: str | Path, **options: Any) -> "Predictor":
        """Reads the best checkpoint of each run folder; their probabilities are meant.

        Args:
          runs: run folders, of one network and one kind of data.
          options: fields of `config.predict` that are to be other than in the first
            run's config, such as `tta='d4'` or `tile=(512, 512)`.

        Raises:
          UserError: a folder holds no checkpoint, or the runs do not fit together.
        """
        if not runs:
            raise UserError("Predictor.load needs a run folder, such as 'runs/isbi'")
        first = Path(runs[0]).expanduser()
        folder.check_trained(first)
        config = ConfigDict(folder.revive(newest(first)["config"]))
        if "predict" not in config:  # a run from before there was one
            config.predict = ConfigDict()
        with config.predict.ignore_type():  # what it must be is said when it is built
            for name, value in options.items():
                config.predict[name] = value
        return cls.of(config, [Path(run).expanduser() for run in runs])

    @classmethod
    def of(cls, config: ConfigDict, runs: Sequence[Path]) -> "Predictor":
        """The same with the first run's config, of which `predict` may be another."""
        for run in runs:
            folder.check_trained(run)
        with Checkpoints(runs[0], folder.chosen_by(runs[0], config)) as checkpoints:
            about = checkpoints.about(checkpoints.best)
        setup = predicting(config, about["preprocessing"])
        shapes = jax.eval_shape(setup.init, jax.random.key(0))
        members = []
        for run in runs:
            with Checkpoints(run, folder.chosen_by(run, config)) as checkpoints:
                other = checkpoints.about(checkpoints.best)
                _check_member(run, other, about)
                like = setup.inference.here.abstract(shapes)
                state = checkpoints.restore(checkpoints.best, like)
            members.append(state.variables)
        return cls(setup, members)

    def probabilities(
        self, image: np.ndarray, spacing: Sequence[float] | None = None
    ) -> np.ndarray:
        """The probability of every class at every pixel, before post-processing.

        Args:
          image: `[*S]` or `[*S, C]`, raw: of any real dtype, as the training images.
          spacing: the size of a pixel along each axis, as the training files have it;
            of use only to a run with a `config.spacing`, which needs it.

        Returns:
          `f32[*S, K]`; K leaves the background out if the head is a sigmoid.

        Raises:
          UserError: the image is not of the kind that the network takes.
        """
        return self._ask(image, spacing, Want(probabilities=True))["probabilities"]

    def labels(
        self, image: np.ndarray, spacing: Sequence[float] | None = None
    ) -> np.ndarray:
        """The class of every pixel, `i32[*S]`, or `i32[*S, K]` of a sigmoid head."""
        return self._ask(image, spacing, Want())["label"].astype(np.int32)

    def objects(
        self, image: np.ndarray, spacing: Sequence[float] | None = None
    ) -> np.ndarray:
        """Object ids, `i32[*S]`, 0 = background.

        They are those of the config's post-processing; where it finds none, the
        components of the foreground that are connected through faces.
        """
        answer = self._ask(image, spacing, Want())
        if "objects" in answer:
            return answer["objects"]
        independent = self.setup.independent
        return foreground_objects(answer["label"].astype("i4"), independent=independent)

    def uncertainty(
        self,
        image: np.ndarray,
        kind: Literal["entropy", "mutual_information"] = "entropy",
        spacing: Sequence[float] | None = None,
    ) -> np.ndarray:
        """How unsure the prediction is at every pixel, `f32[*S]` in nats.

        'entropy' is that of the mean probabilities. 'mutual_information' is what the
        members disagree about: the entropy of their mean less the mean of their
        entropies (Gal et al. 2017, equation 6). The members are the runs, each with its
        mean over the views of the test-time augmentation; of a single run they are its
        views, and of a single view it is 0.
        """
        if kind not in ("entropy", "mutual_information"):
            raise UserError(f"kind must be entropy or mutual_information, not {kind!r}")
        answer = self._ask(image, spacing, Want(probabilities=True, doubt=True))
        return self.doubts(answer)[..., int(kind == "mutual_information")]

    def doubts(self, answer: Answer) -> np.ndarray:
        """Entropy and mutual information, `f32[*S, 2]`, of a part of an image."""
        independent = self.setup.independent
        total = entropy(answer["probabilities"], independent=independent)
        apart = np.maximum(total - answer["doubt"], 0)
        return np.stack([total, apart], axis=-1)

    def rows(
        self,
        shape: tuple[int, ...],
        raws: Sequence[Read],
        want: Want,
        spacing: Sequence[float] | None = None,
        passed: Callable[[int, int], None] = lambda done, of: None,
    ) -> Iterator[Answer]:
        """What is said of raw images of one shape, some rows after the other.

        Post-processing and resampling need to see an image whole, and then so do the
        rows. After resampling, the answer is brought back to the image's own grid.

        Args:
          shape: the spatial shape.
          raws: what reads a box of each, `[*box, C]`.
          want: what is asked for besides `label`; `objects` come if they are found.
          spacing: the size of their pixels along each axis, where it is known.
          passed: is told how many tiles are done, and of how many.
        """
        change = self.setup.resampling(shape, spacing)
        reads = [self._normalized(raw, shape) for raw in raws]
        how: dict[str, Any] = {"views": self.setup.views, "passed": passed}
        inference = self.setup.inference
        if not self.setup.options.postprocess and not change.changes:
            yield from inference.rows(self._members, shape, reads, want=want, **how)
            return
        how["want"] = want._replace(probabilities=True)
        if change.changes:
            reads = [_resampled(read, change) for read in reads]
        for answer in inference.whole(self._members, change.shape, reads, **how):
            answer = self._brought_back(answer, change)
            label = answer["label"].astype(np.int32)
            mended = self.setup.mend(Segmentation(label), answer["probabilities"])
            answer["label"] = mended.label.astype(answer["label"].dtype)
            if mended.objects is not None:
                answer["objects"] = mended.objects
            yield answer

    def _brought_back(self, answer: Answer, change: Resampling) -> Answer:
        """What is said of a resampled image, on its own grid.

        What the members disagree about is brought back, and not their entropies: the
        mean of neighbours is less sure than they are, which is nobody's disagreement.
        """
        independent = self.setup.independent
        if not change.changes or "doubt" not in answer:
            return change.answer(answer, independent=independent)
        apart = change.back(self.doubts(answer)[..., 1])
        own = change.answer(answer, independent=independent)
        total = entropy(own["probabilities"], independent=independent)
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

    def _normalized(self, raw: Read, shape: tuple[int, ...]) -> Read:
        rest = [slice(0, size) for size in shape[1:]]

        @functools.cache
        def scale() -> Scale:  # measured when the image's turn has come
            return self.setup.measure(lambda: (raw([r, *rest]) for r in cuts(shape)))

        return lambda box: scale()(raw(box))

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
            change = conversion(image.shape[-1], channels, convert=self.setup.convert)
        image = change(image)
        if not image.size:
            raise UserError(f"the image has no pixels: its shape is {image.shape}")
        if not np.isfinite(image).all():
            raise UserError("the image has NaN or infinite pixels")
        return image


def _resampled(read: Read, change: Resampling) -> Read:
    """Reads boxes of an image that is resampled whole, when its turn has come."""

    @functools.cache
    def whole() -> np.ndarray:
        return change.image(read([slice(0, size) for size in change.own]))

    return lambda box: whole()[tuple(box)]


def _check_member(run: Path, about: dict[str, Any], first: dict[str, Any]) -> None:
    pairs = [
        (name, first["preprocessing"][name], about["preprocessing"][name])
        for name in SHARED
    ]
    there, here = first["preprocessing"], about["preprocessing"]
    pairs.append(("spacing", spacing_of(there), spacing_of(here)))
    pairs.append(("model", first["config"]["model"], about["config"]["model"]))
    for name, there, here in pairs:
        if there != here:
            raise UserError(
                f"{run} does not fit the first run: its {name} is {here}, not {there}"
            )
