"""The largest crop and batch whose training step fits into the free memory.

The rules give candidates for the crop from the shapes of the images. The memory of a
candidate's step is measured by compiling the whole step for the available devices.
"""

import copy
import functools
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
from ml_collections import ConfigDict

from unet_jax import logs, parallel
from unet_jax.build import binding
from unet_jax.data import resample
from unet_jax.data.record import RecordStats
from unet_jax.data.source import Splits
from unet_jax.errors import UserError, prefix_errors
from unet_jax.run.planning import candidates, cost, rules
from unet_jax.run.planning.rules import PlannedField
from unet_jax.text import dimensions

MEMORY_SHARE = 0.5  # of the free memory that a step may take


class ImageShapes(NamedTuple):
    """Spatial shapes of the training images after resampling.

    Attributes:
      shapes: of each image, in pixels.
      median: along each axis, in pixels.
      aspect: size of a pixel along each axis; only the ratios matter.
    """

    shapes: tuple[tuple[int, ...], ...]
    median: tuple[int, ...]
    aspect: tuple[float, ...]


class FittedConfig(NamedTuple):
    """A config whose training step fits into memory.

    Attributes:
      compiled: its step.
      fields: the values that were chosen for it, with their reasons.
    """

    config: ConfigDict
    compiled: cost.CompiledStep
    fields: tuple[PlannedField, ...]


def resample_shapes(
    records: Sequence[RecordStats], spacing: tuple[float, ...]
) -> ImageShapes:
    """Returns the shapes of images after resampling to a spacing, if there is one.

    Raises:
      UserError: an image cannot be resampled.
    """
    with prefix_errors("config.spacing"):
        shapes = tuple(
            resample.make_resampling(record.shape, record.spacing, spacing).shape
            for record in records
        )
    own = records[0].spacing if all(record.spacing for record in records) else ()
    aspect = spacing or own or (1.0,) * len(shapes[0])
    return ImageShapes(shapes, rules.compute_median_shape(shapes), aspect)


def fit_to_memory(
    config: ConfigDict,
    splits: Splits,
    records: Sequence[RecordStats],
    images: ImageShapes,
) -> FittedConfig:
    """Compiles ever smaller steps until one fits into half of the free memory.

    The batch becomes smaller first, down to two examples, then the crop. The next size
    follows from the last measurement, assuming that all memory but that of the state
    and the gradient is proportional to the number of pixels.

    Raises:
      UserError: the config is wrong, or the smallest step needs too much memory.
    """
    layout = binding.build_part(parallel, config, "parallel", parallel.Layout)
    given = binding.build_model(config, None)
    margin = given.geometry(len(images.median)).margin
    single = config.batch_size == 1 and any(margin)  # the paper's one large tile
    choose_batch_size = functools.partial(
        rules.choose_batch_size,
        sum(map(math.prod, images.shapes)),
        least=1 if single else 2,
        replicas=layout.replicas,
    )
    smallest = choose_batch_size(1, most=0)
    free = parallel.local_devices().read_free_memory()
    limit = MEMORY_SHARE * free
    most_pixels = math.inf  # in a batch, by the last measurement
    for model, crop in candidates.list_candidates(
        given, images.median, images.aspect, layout.space
    ):
        output = candidates.compute_output_shape(crop, model.geometry(len(crop)))
        pixels = math.prod(crop)
        while smallest * pixels <= most_pixels:
            most = min(1 if single else rules.MAX_BATCH, most_pixels // pixels)
            batch = choose_batch_size(math.prod(output), most=int(most))
            limited = most_pixels < math.inf
            fields = (
                _explain_crop(crop, output, images, limited=limited),
                _explain_widths(model, output),
                _explain_batch(batch, smallest, layout.replicas, limited=limited),
                *_choose_sampling(config, records, output, images),
            )
            draft = set_fields(config, fields)
            logs.say(f"compiling a step of {batch} x {dimensions(crop)} pixels")
            compiled = cost.compile_step(draft, splits)
            if compiled is None:
                most_pixels = batch * pixels / 2
                continue
            if compiled.memory <= limit:
                return FittedConfig(draft, compiled, fields)
            variable = compiled.memory - compiled.fixed
            left = max(limit - compiled.fixed, 0)
            most_pixels = batch * pixels * left / max(variable, 1)
    needed = f"{compiled.memory / 2**30:.3g} GiB, " if compiled else ""
    crop = dimensions(draft.crop)
    raise UserError(
        f"a training step of {batch} x {crop} pixels needs {needed}more than half "
        f"of the {free / 2**30:.3g} GiB that are free; set fewer "
        "config.model.widths, config.model.remat=True or config.precision=bfloat16"
    )


def set_fields(config: ConfigDict, fields: Iterable[PlannedField]) -> ConfigDict:
    """Returns a copy of the config with the planned values.

    A dict becomes a spec. A field that refers to another one, such as
    `config.get_ref("crop")`, follows it.
    """
    config = copy.deepcopy(config)
    for field, value, _ in fields:
        *outer, name = field.split(".")
        holder: Any = functools.reduce(getattr, outer, config)
        with holder.ignore_type():
            holder[name] = ConfigDict(value) if isinstance(value, dict) else value
    return config


def _explain_crop(
    crop: tuple[int, ...],
    output: tuple[int, ...],
    images: ImageShapes,
    *,
    limited: bool,
) -> PlannedField:
    whole = all(w >= n for w, n in zip(output, images.median, strict=True))
    holds = "holds" if whole else "is cut from"
    reason = f"it {holds} the median image, {dimensions(images.median)}"
    if output != crop:
        reason += f"; the output of the network is {dimensions(output)}"
    smaller = sum(any(map(operator.gt, output, shape)) for shape in images.shapes)
    if smaller:
        count = f"{smaller} of {len(images.shapes)} images are"
        reason += f"; {count} smaller along some axis, and mirrored there"
    if limited:
        reason += "; a larger one needs more than half of the free memory"
    return PlannedField("crop", crop, reason)


def _explain_widths(model: nn.Module, output: tuple[int, ...]) -> PlannedField:
    strides = model.geometry(len(output)).multiple
    lowest = min(size // stride for size, stride in zip(output, strides, strict=True))
    reason = f"{len(model.widths)} levels; the lowest one keeps {lowest} pixels"
    return PlannedField("model.widths", model.widths, reason)


def _explain_batch(
    batch: int, smallest: int, replicas: int, *, limited: bool
) -> PlannedField:
    reason = (
        f"at most {rules.BATCH_SHARE:.0%} of the training pixels, and at most "
        f"{rules.MAX_BATCH}"
    )
    if limited:
        reason = "a larger one needs more than half of the free memory"
    if batch == smallest:
        least = "one large tile, as in the paper" if batch == 1 else "at least two"
        reason = least if replicas == 1 else "the least that the devices can share"
    if replicas > 1:
        reason += f"; there are {replicas} devices"
    return PlannedField("batch_size", batch, reason)


def _choose_sampling(
    config: ConfigDict,
    records: Sequence[RecordStats],
    output: tuple[int, ...],
    images: ImageShapes,
) -> tuple[PlannedField, ...]:
    """Samples crops around a sparse foreground, unless the config sets a sampling."""
    shares = rules.compute_class_shares(records)
    reason = rules.describe_sparse_foreground(shares, output, images.median)
    if not reason or config.sampling.name != "uniform":
        return ()
    return (PlannedField("sampling", {"name": "foreground"}, reason),)
