"""Configs to measure for a plan: crops, networks and batches, with their reasons."""

import copy
import functools
import math
import operator
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
from ml_collections import ConfigDict

from unet_jax import parallel
from unet_jax.build import binding
from unet_jax.build.fields import find_overlap
from unet_jax.data import resample
from unet_jax.data.record import RecordStats
from unet_jax.errors import UserError, prefix_errors
from unet_jax.run.planning import candidates, rules
from unet_jax.run.planning.rules import PlannedField
from unet_jax.text import dimensions


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


class Candidate(NamedTuple):
    """A config to measure.

    Attributes:
      fields: its values that the search has chosen.
      pixels: of a batch.
    """

    config: ConfigDict
    fields: tuple[PlannedField, ...]
    pixels: int


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


def make_candidates(
    config: ConfigDict,
    records: Sequence[RecordStats],
    images: ImageShapes,
    given: Collection[str],
    *,
    background: bool = True,
) -> list[Candidate]:
    """Lists the candidates for the crop and the batch, with rising numbers of pixels.

    First the crop becomes larger, with the fewest examples that are useful; then the
    largest crop gets more examples.

    Args:
      config: the values of all other fields.
      records: measurements of the training images.
      images: their shapes.
      given: the fields that the user has set; they keep their values.
      background: False if class 0 is a class like the others.

    Raises:
      UserError: the network or the number of sizes of the crop is wrong.
    """
    layout = binding.build_part(parallel, config, "parallel", parallel.Layout)
    model = binding.build_model(config, None)
    margin = model.geometry(len(images.median)).margin
    single = config.batch_size == 1 and any(margin)  # the paper's one large tile
    choose_batch_size = functools.partial(
        rules.choose_batch_size,
        sum(map(math.prod, images.shapes)),
        least=1 if single else 2,
        replicas=layout.replicas,
    )
    smallest, most = choose_batch_size(1, most=0), 1 if single else rules.MAX_BATCH
    if find_overlap("batch_size", given):
        smallest = config.batch_size
    found = []
    for network, crop in _list_crops(config, model, images, given, layout.space):
        output = candidates.compute_output_shape(crop, network.geometry(len(crop)))
        fields = [_explain_crop(crop, output, images), _explain_widths(network, output)]
        fields += _list_depths(config, network)
        fields += _choose_sampling(
            config, records, output, images, background=background
        )
        fields = [field for field in fields if not find_overlap(field.field, given)]
        found.append((crop, output, fields))
    found.reverse()  # the smallest crop first
    batches = [smallest] * len(found)
    full = choose_batch_size(math.prod(found[-1][1]), most=most)
    if not find_overlap("batch_size", given):
        more = range(smallest + layout.replicas, full + 1, layout.replicas)
        batches += more
        found += [found[-1]] * len(more)
    result = []
    for batch, (crop, _, fields) in zip(batches, found, strict=True):
        chosen = list(fields)
        if not find_overlap("batch_size", given):
            chosen.append(_explain_batch(batch, smallest, full, layout.replicas))
        draft = set_fields(config, chosen)
        result.append(Candidate(draft, tuple(chosen), batch * math.prod(crop)))
    return result


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


def _list_crops(
    config: ConfigDict,
    model: nn.Module,
    images: ImageShapes,
    given: Collection[str],
    space: int,
) -> Iterator[tuple[nn.Module, tuple[int, ...]]]:
    """Yields networks and crops, the largest first; the given ones are kept."""
    levels = [
        f"model.{field}"
        for field in ("widths", *candidates.WITHOUT_DEPTH)
        if len(config.model.get(field, ())) > 1
    ]
    keep = any(find_overlap(field, given) for field in levels)
    if not find_overlap("crop", given):
        yield from candidates.list_candidates(
            model, images.median, images.aspect, space, keep_levels=keep
        )
        return
    crop = tuple(config.crop)
    if len(crop) != len(images.median):
        raise UserError(
            f"config.crop has {len(crop)} sizes, the images {len(images.median)} axes; "
            "give one size for each axis"
        )
    yield model if keep else candidates.deepen(model, crop), crop


def _explain_crop(
    crop: tuple[int, ...], output: tuple[int, ...], images: ImageShapes
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
    return PlannedField("crop", crop, reason)


def _explain_widths(model: nn.Module, output: tuple[int, ...]) -> PlannedField:
    strides = model.geometry(len(output)).multiple
    lowest = min(size // stride for size, stride in zip(output, strides, strict=True))
    reason = f"{len(model.widths)} levels; the lowest one keeps {lowest} pixels"
    return PlannedField("model.widths", model.widths, reason)


def _list_depths(config: ConfigDict, network: nn.Module) -> list[PlannedField]:
    """Returns the depths that differ from those of the config."""
    depths = {field: getattr(network, field, ()) for field in candidates.WITHOUT_DEPTH}
    return [
        PlannedField(f"model.{field}", value, "one number for each level")
        for field, value in depths.items()
        if value != config.model.get(field, ())
    ]


def _explain_batch(batch: int, smallest: int, full: int, replicas: int) -> PlannedField:
    reason = ""
    if batch == full:
        share, most = f"{rules.BATCH_SHARE:.0%}", rules.MAX_BATCH
        reason = f"at most {share} of the training pixels, and at most {most}"
    if batch == smallest:
        least = "one large tile, as in the paper" if batch == 1 else "at least two"
        reason = least if replicas == 1 else "the least that the devices can share"
    if replicas > 1:
        reason = "; ".join(filter(None, (reason, f"there are {replicas} devices")))
    return PlannedField("batch_size", batch, reason)


def _choose_sampling(
    config: ConfigDict,
    records: Sequence[RecordStats],
    output: tuple[int, ...],
    images: ImageShapes,
    *,
    background: bool,
) -> tuple[PlannedField, ...]:
    """Samples crops around a sparse foreground, unless the config sets a sampling."""
    shares = rules.compute_class_shares(records)
    reason = rules.describe_sparse_foreground(
        shares, output, images.median, background=background
    )
    if not reason or config.sampling.name != "uniform":
        return ()
    return (PlannedField("sampling", {"name": "foreground"}, reason),)
