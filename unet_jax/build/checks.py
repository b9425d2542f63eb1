"""What a config must be, told in one line before anything is computed."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from unet_jax import augment, losses
from unet_jax.arrays import Example, spatial
from unet_jax.build.fields import FIELDS, REPLACED, keys
from unet_jax.data.source import Source, Splits
from unet_jax.errors import UserError, prefix_errors, suggest
from unet_jax.geometry import Geometry
from unet_jax.logs import say
from unet_jax.methods import Method
from unet_jax.metrics.case import Metric
from unet_jax.parallel import Layout
from unet_jax.specs import Spec, check_type
from unet_jax.tasks import Task

Terms = list[tuple[float, Callable]]  # a number, of the term, and what it is for


def plain(value: Any) -> Any:
    """Converts ConfigDicts to plain dicts, recursively."""
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if isinstance(value, ConfigDict):
        return {key: plain(field) for key, field in value.items()}
    return value


def fields(config: ConfigDict) -> None:
    """Checks a config against the table of fields.

    Raises:
      UserError: a field is unknown or missing, or its value is not of its type.
    """
    known = {field.name: field for field in FIELDS if "." not in field.name}
    for name in config:
        if name in REPLACED:
            raise UserError(f"config.{name} is no longer a field; {REPLACED[name]}")
        if name not in known:
            inside = [f"{outer}.{name}" for outer in known if _has(config, outer, name)]
            hint = f"did you mean {inside[0]!r}?" if inside else suggest(name, known)
            raise UserError(f"config has no field {name!r}; {hint}")
    for name, field in known.items():
        if name not in config:
            raise UserError(
                f"config.{name} is missing; begin with base.get_config() of configs/, "
                "which sets every field"
            )
        if field.type is Mapping:
            section(config, name)
        else:
            check_type(plain(config[name]), field.type, f"config.{name}")
    if not config.crop:
        raise UserError("config.crop needs a size for each axis, such as 188,188")
    if len(config.spacing) not in (0, len(config.crop)):
        raise UserError(
            f"config.spacing={_listed(config.spacing)} must have {len(config.crop)} "
            f"sizes, one for each axis of config.crop={_listed(config.crop)}"
        )


def section(config: ConfigDict, name: str) -> dict[str, Any]:
    """Returns the keys of a field that is not a spec, with defaults for missing ones.

    Args:
      config: the config of a run.
      name: the field, such as `predict`.

    Raises:
      UserError: a key is unknown, or its value is not of its type.
    """
    known, given = keys(name), plain(config[name])
    check_type(given, Mapping, f"config.{name}")
    for key, value in given.items():
        if key not in known:
            raise UserError(f"config.{name} has no {key!r}; {suggest(key, known)}")
        check_type(value, known[key].type, f"config.{name}.{key}")
    return {key: field.default for key, field in known.items()} | given


def best_score(config: ConfigDict) -> str:
    """Returns the validation score that chooses the best checkpoint.

    The highest of the first metric is best; without metrics, the lowest loss.
    """
    names = metric_names(config)
    return f"val/{names[0]}" if names else "val/loss"


def metric_names(config: ConfigDict) -> list[str]:
    """What the scores are called: with their options where one is asked for twice.

    Raises:
      UserError: one is asked for twice with the same options.
    """
    specs = plain(config.metrics)
    plainly = [_short_name(spec) for spec in specs]
    names = [
        name if plainly.count(name) == 1 else _with_options(spec)
        for name, spec in zip(plainly, specs, strict=True)
    ]
    if "loss" in names:
        raise UserError("config.metrics: no metric can be called loss; rename it")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"config.metrics has {name} more than once; leave one out")
    return names


def _short_name(spec: Spec) -> str:
    """The name of a metric; of an external one that of the function."""
    return spec["name"].rpartition(":")[2]


def _with_options(spec: Spec) -> str:
    options = ",".join(f"{k}={v}" for k, v in spec.items() if k != "name")
    return f"{_short_name(spec)}({options})" if options else _short_name(spec)


def _has(config: ConfigDict, name: str, field: str) -> bool:
    return isinstance(config.get(name), ConfigDict) and field in config[name]


def sizes(config: ConfigDict, model: nn.Module, layout: Layout) -> None:
    """Crop and batch, against the network and the devices that share them."""
    if config.batch_size % layout.replicas:
        share = -(-config.batch_size // layout.replicas) * layout.replicas
        raise UserError(
            f"config.batch_size={config.batch_size} cannot be shared by "
            f"{layout.replicas} devices; the next that can is {share}"
            f"{_or_share_images(config)}"
        )
    with prefix_errors("config.model"):
        geometry = model.geometry(len(config.crop))
    if geometry.strict and geometry.valid_shape(tuple(config.crop)) != config.crop:
        raise UserError(
            f"config.crop={_listed(config.crop)} is not legal for this network; the "
            f"nearest legal sizes are {_legal(geometry, config.crop)}"
        )
    if config.crop[0] % layout.space:
        raise UserError(
            f"config.crop={_listed(config.crop)}: the first size must divide by the "
            f"{layout.space} devices of config.parallel.space"
        )


def _or_share_images(config: ConfigDict) -> str:
    """The other way to use more devices than there are examples, where it is one."""
    space = math.gcd(jax.local_device_count(), config.crop[0])
    if space == 1 or config.batch_size % (jax.device_count() // space):
        return ""
    return (
        ", or let several devices hold one image with --config.parallel="
        f"\"{{'name':'mesh','space':{space}}}\""
    )


def crop(
    config: ConfigDict,
    source: Source,
    shapes: Sequence[tuple[int, ...]],
    margin: tuple[int, ...],
) -> None:
    """The crop against the images' shapes, and a batch against the machine's memory.

    Args:
      config: of the run.
      source: the training images.
      shapes: of all of them, or of the first.
      margin: of the network, per axis.
    """
    image = shapes[0]
    if len(image) != len(config.crop):
        raise UserError(
            f"config.crop={_listed(config.crop)} must have {len(image)} sizes, one for "
            f"each axis of the images of {source.name}, such as "
            f"{_listed((64,) * len(image))}"
        )
    window = [c - 2 * m for c, m in zip(config.crop, margin, strict=True)]
    smaller = [
        shape
        for shape in shapes
        if any(w > n for w, n in zip(window, shape, strict=True))
    ]
    if smaller:
        count = f"{len(smaller)} of {len(shapes)} images" if shapes[1:] else "an image"
        say(
            f"config.crop={_listed(config.crop)} is larger than {count} of "
            f"{source.name}, {_listed(min(smaller))} the smallest; what is beyond is "
            "mirrored"
        )
    pixels = config.batch_size * math.prod(config.crop) // jax.process_count()
    batch = pixels * 4 * (source.channels + 2)  # with label and weight, 4 bytes each
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if batch > machine:
        raise UserError(
            f"config.batch_size={config.batch_size} of config.crop="
            f"{_listed(config.crop)} is {batch / 2**30:.3g} GiB, more than the "
            f"{machine / 2**30:.3g} GiB of this machine; lower one of them"
        )


def cache(
    config: ConfigDict, example: Example, shapes: Sequence[tuple[int, ...]]
) -> None:
    """Warns when the prepared training images exceed `config.cache`.

    Args:
      config: of the run.
      example: a prepared one, which tells the bytes of a pixel.
      shapes: of all training images.
    """
    arrays = (example[name] for name in spatial(example))
    pixel = sum(array.nbytes for array in arrays) / example["weight"].size
    needed = sum(map(math.prod, shapes)) * pixel / 2**30
    if needed > config.cache:
        say(
            f"the training images take {needed:.3g} GiB when they are prepared, more "
            f"than config.cache={config.cache:g}: what is beyond is read again for "
            "every crop"
        )


def has_unlabelled(config: ConfigDict, splits: Splits, needed: int) -> None:
    """Raises UserError if unlabelled images are needed and the data set has none."""
    if needed and splits.unlabelled is None:
        raise UserError(
            f"config.method: {config.method.name!r} needs images without labels, and "
            f"{splits.train.name} has none; put them into a folder unlabelled/ beside "
            "the images, or choose another --config.method.name"
        )


def scored(
    config: ConfigDict, method: Method, metrics: tuple[tuple[str, Metric], ...]
) -> tuple[tuple[str, Metric], ...]:
    """Returns the metrics, after a look at whether the method can be scored by them.

    Raises:
      UserError: a generator has metrics, or another method has none.
    """
    if method.sample and metrics:
        raise UserError(
            f"config.metrics: the method {config.method.name!r} generates images, and "
            'they have no truth; set --config.metrics="()"'
        )
    if not method.sample and not metrics:
        raise UserError("config.metrics must name a score, such as dice or psnr")
    return metrics


def can_choose(metrics: tuple[tuple[str, Metric], ...]) -> None:
    """Raises UserError unless the first metric can choose the best checkpoint."""
    if metrics and metrics[0][1].lower:
        raise UserError(
            "config.metrics must begin with a score that is better when it is higher, "
            "such as dice or psnr: the first one chooses the best checkpoint"
        )


def rehearse(
    config: ConfigDict, operations: Terms, loss: Terms, task: Task, example: Example
) -> None:
    """Shows every term the shapes of a crop, so that it objects here, not in a step.

    Args:
      config: of the run.
      operations: of the augmentation.
      loss: its terms.
      task: with the targets that the terms read.
      example: a prepared one.
    """
    crop, axes = tuple(config.crop), len(config.crop)
    arrays = {k: v for k, v in example.items() if isinstance(v, np.ndarray)}
    cut = {
        name: jax.ShapeDtypeStruct(
            (*crop, *array.shape[axes:]) if name in spatial(example) else array.shape,
            array.dtype,
        )
        for name, array in arrays.items()
    }
    cut["seed"] = jax.ShapeDtypeStruct((), jnp.uint32)
    for i, (_, operation) in enumerate(operations):
        with prefix_errors(f"config.augment[{i}]"):
            alone = augment.chain([(1.0, operation)])
            cut = jax.eval_shape(alone, jax.random.key(0), cut)
    batch = {k: jax.ShapeDtypeStruct((1, *x.shape), x.dtype) for k, x in cut.items()}
    targets = jax.eval_shape(task.targets, batch)
    output = jax.ShapeDtypeStruct((1, *crop, task.channels), jnp.float32)
    outputs = jax.eval_shape(task.outputs, output)
    for i, (scale, term) in enumerate(loss):
        if scale:
            kind = losses.kind(term)
            with prefix_errors(f"config.loss[{i}]"):
                jax.eval_shape(term, outputs[kind], targets[kind], batch["weight"])


def _legal(geometry: Geometry, crop: Sequence[int]) -> str:
    """The nearest legal sizes, for each axis on which the crop has none."""
    near = []
    for axis, size in enumerate(crop):
        below = geometry.valid_size_below(size, axis)
        above = geometry.valid_size(size, axis)
        if below != above:
            sizes = f"{below} and {above}" if below else f"{above}"
            near.append(f"{sizes} along axis {axis}")
    return ", ".join(near)


def _listed(sizes: Sequence[int]) -> str:
    return ",".join(map(str, sizes))
