"""Checks of a config before anything is computed, and functions that read its fields.

Each error is one line.
"""

import inspect
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from unet_jax import augment, losses
from unet_jax.arrays import Example, list_spatial
from unet_jax.build.field_checks import (
    check_axes,
    check_rank,
    join_sizes,
    to_plain,
)
from unet_jax.data.sampling import count_free_rows
from unet_jax.data.source import Source, Splits
from unet_jax.errors import UserError, prefix_errors
from unet_jax.geometry import Geometry
from unet_jax.logs import say
from unet_jax.methods import Method
from unet_jax.metrics.metric import Metric
from unet_jax.parallel import Layout
from unet_jax.specs import is_external
from unet_jax.tasks import Task
from unet_jax.text import listing

Terms = list[tuple[float, Callable]]  # a scale or a probability, and its function


def get_selection_score_name(config: ConfigDict) -> str:
    """Returns the name of the score that chooses the best checkpoint.

    It is the first metric on the validation split; without metrics, it is the loss.
    """
    names = get_metric_names(config)
    return f"val/{names[0]}" if names else "val/loss"


def get_metric_names(config: ConfigDict) -> list[str]:
    """Returns the names of the metrics, in order.

    A metric that is listed more than once has its options in its names:
    'f1(threshold=0.9)'.

    Raises:
      UserError: a metric is listed twice with the same options, or is named loss.
    """
    specs = to_plain(config.metrics)
    short = [spec["name"].rpartition(":")[2] for spec in specs]  # without the module
    names = []
    for name, spec in zip(short, specs, strict=True):
        options = ",".join(f"{k}={v}" for k, v in spec.items() if k != "name")
        long = options and short.count(name) > 1
        names.append(f"{name}({options})" if long else name)
    if "loss" in names:
        raise UserError("config.metrics: a metric cannot be named loss; rename it")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"config.metrics has {name} more than once; remove one")
    return names


def check_precision(config: ConfigDict) -> None:
    """Raises UserError if training on this machine is slower than in float32."""
    if config.precision != "float32" and jax.default_backend() == "cpu":
        raise UserError(
            f"config.precision={config.precision!r} is slower than 'float32' on a CPU; "
            "set it to 'float32', or train on a GPU or TPU"
        )


def check_sizes(config: ConfigDict, model: nn.Module, layout: Layout) -> None:
    """Checks the crop and the batch size against the network and the devices.

    Raises:
      UserError: the devices cannot share a batch, or the network does not take the
        crop.
    """
    if config.batch_size % layout.replicas:
        share = -(-config.batch_size // layout.replicas) * layout.replicas
        raise UserError(
            f"config.batch_size={config.batch_size} cannot be divided among "
            f"{layout.replicas} devices; the next possible size is {share}"
            f"{_suggest_mesh(config)}"
        )
    with prefix_errors("config.model"):
        geometry = model.geometry(len(config.crop))
    if geometry.strict and geometry.valid_shape(tuple(config.crop)) != config.crop:
        raise UserError(
            f"config.crop={join_sizes(config.crop)} is not legal for this network; the "
            f"nearest legal sizes are {_list_legal_sizes(geometry, config.crop)}"
        )
    if config.crop[0] % layout.space:
        raise UserError(
            f"config.crop={join_sizes(config.crop)}: the first size must be a multiple "
            f"of config.parallel.space={layout.space}, the devices that share an image"
        )


def _suggest_mesh(config: ConfigDict) -> str:
    """Returns how devices can share images instead of the batch; '' if they cannot."""
    space = math.gcd(jax.local_device_count(), config.crop[0])
    if space == 1 or config.batch_size % (jax.device_count() // space):
        return ""
    return (
        ", or let several devices share one image with --config.parallel="
        f"\"{{'name':'mesh','space':{space}}}\""
    )


def check_image_axes(config: ConfigDict, make_splits: Callable) -> None:
    """Checks the sizes in the config against the axes of the images, without data.

    Data sets of this package state the number of axes, or the shape of their images, in
    a keyword, unless there is only one kind of images.

    Args:
      config: the config of the run.
      make_splits: the function that `config.data` names, with its keywords bound.

    Raises:
      UserError: a field has a wrong number of sizes.
    """
    if is_external(config.data.name):
        return
    parameters = inspect.signature(make_splits).parameters
    given = {name: parameter.default for name, parameter in parameters.items()}
    images, axes = "the images of config.data", given.get("axes", len(config.crop))
    if "shape" in given:
        check_rank(given["shape"], "config.data.shape")
        axes = len(given["shape"])
    check_axes(config.crop, "config.crop", axes, images)
    spacing = given.get("spacing", ())
    check_axes(spacing, "config.data.spacing", axes, images, (0,))


def check_crop(
    config: ConfigDict,
    source: Source,
    shapes: Sequence[tuple[int, ...]],
    margin: tuple[int, ...],
) -> None:
    """Checks the crop against the images, and the batch against the memory.

    It prints a line if some images are smaller than the crop.

    Args:
      config: the config of the run.
      source: the training images.
      shapes: the spatial shapes of all of them, or of the first one.
      margin: the pixels that the output of the network lacks on each side, per axis.

    Raises:
      UserError: the crop has another number of axes than the images, or a batch does
        not fit into the memory of the machine.
    """
    image = shapes[0]
    if len(image) != len(config.crop):
        raise UserError(
            f"config.crop={join_sizes(config.crop)} must have {len(image)} sizes, one "
            f"for each axis of the images of {source.name}, such as "
            f"{join_sizes((64,) * len(image))}"
        )
    window = [c - 2 * m for c, m in zip(config.crop, margin, strict=True)]
    smaller = [s for s in shapes if any(w > n for w, n in zip(window, s, strict=True))]
    if smaller:
        count = f"{len(smaller)} of {len(shapes)} images" if shapes[1:] else "an image"
        say(
            f"config.crop={join_sizes(config.crop)} is larger than {count} of "
            f"{source.name}; the smallest is {join_sizes(min(smaller))}. Pixels "
            "outside an image are mirrored"
        )
    pixels = config.batch_size * math.prod(config.crop) // jax.process_count()
    batch = pixels * 4 * (source.channels + 2)  # with label and weight, 4 bytes each
    crops = f"config.batch_size={config.batch_size} of config.crop="
    check_memory(batch, f"{crops}{join_sizes(config.crop)}", "one of them")


def check_sampling_share(config: ConfigDict, rows: int) -> None:
    """Prints a line if `config.sampling` places no crop of a batch.

    Args:
      config: the config of the run.
      rows: the number of labelled rows of a batch.
    """
    share = config.sampling_share
    if share and rows == count_free_rows(share, rows):
        say(
            f"config.sampling_share={share:g} of {rows} labelled crops is none, so all "
            "are cut from anywhere; a larger config.batch_size or share changes it"
        )


def check_memory(size: int, what: str, cause: str) -> None:
    """Raises UserError if a number of bytes is larger than the memory of the machine.

    Args:
      size: in bytes.
      what: needs them, in words.
      cause: the fields to lower.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > machine:
        raise UserError(
            f"{what} needs {size / 2**30:.3g} GiB, more than the "
            f"{machine / 2**30:.3g} GiB of this machine; lower {cause}"
        )


def check_cache(
    config: ConfigDict, example: Example, shapes: Sequence[tuple[int, ...]]
) -> None:
    """Prints a line if the prepared training images exceed `config.cache`.

    The bytes of a pixel are those of a prepared example.
    """
    arrays = (example[name] for name in list_spatial(example))
    pixel = sum(array.nbytes for array in arrays) / example["weight"].size
    needed = sum(map(math.prod, shapes)) * pixel / 2**30
    if needed > config.cache:
        say(
            f"the prepared training images need {needed:.3g} GiB, more than "
            f"config.cache={config.cache:g}: the images that do not fit are read again "
            "for each crop"
        )


def check_unlabelled(config: ConfigDict, splits: Splits, needed: int) -> None:
    """Raises UserError if a batch needs unlabelled images and there are none."""
    if needed and splits.unlabelled is None:
        raise UserError(
            f"config.method: {config.method.name!r} needs images without labels, and "
            f"{splits.train.name} has none; put some into a folder unlabelled/ beside "
            "the images, or choose another --config.method.name"
        )


def check_metrics(
    config: ConfigDict, method: Method, metrics: tuple[tuple[str, Metric], ...]
) -> None:
    """Raises UserError if a generator has metrics, or another method has none."""
    if method.sample and metrics:
        raise UserError(
            f"config.metrics: the method {config.method.name!r} generates images, "
            'which have no truth; set --config.metrics="()"'
        )
    if not method.sample and not metrics:
        raise UserError("config.metrics must have a metric, such as dice or psnr")


def check_first_metric(metrics: tuple[tuple[str, Metric], ...]) -> None:
    """Raises UserError if the best value of the first metric is the lowest."""
    if metrics and metrics[0][1].lower:
        raise UserError(
            "config.metrics must start with a metric for which higher is better, such "
            "as dice or psnr: the first metric chooses the best checkpoint"
        )


def check_class_names(names: Sequence[str]) -> None:
    """Raises UserError if a class has no name, or the name of another.

    Scores are stored by the names of their classes.
    """
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(
                f"classes: {count} are named {name!r}; give each a name of its own, or "
                "map the values of both to one class, with label_map"
            )
        if not name.strip():
            raise UserError(f"classes: {name!r} is no name; name every class")


def describe_absent_classes(names: Sequence[str], split: str) -> str:
    """Returns a warning of classes without a pixel in the truth of 'val' or 'test'.

    The names are those of classes that the means over the classes count.
    """
    images = {"val": "validation", "test": "test"}[split]
    return (
        f"the {images} images have no pixel of {listing(map(repr, names))}: the scores "
        "of such a class are left out of the means, or 0 if it is predicted"
    )


def check_terms(
    config: ConfigDict, operations: Terms, loss: Terms, task: Task, example: Example
) -> None:
    """Calls each operation and each term of the loss with the shapes of a crop.

    So a function that does not fit raises UserError before training.
    """
    crop, axes = tuple(config.crop), len(config.crop)
    arrays = {k: v for k, v in example.items() if isinstance(v, np.ndarray)}
    cut = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in arrays.items()}
    for name in list_spatial(arrays):
        cut[name] = cut[name].update(shape=(*crop, *cut[name].shape[axes:]))
    cut["seed"] = jax.ShapeDtypeStruct((), jnp.uint32)
    for i, (_, operation) in enumerate(operations):
        cut = _trace_operation(i, operation, cut)
    batch = {k: jax.ShapeDtypeStruct((1, *x.shape), x.dtype) for k, x in cut.items()}
    targets = jax.eval_shape(task.targets, batch)
    output = jax.ShapeDtypeStruct((1, *crop, task.channels), jnp.float32)
    outputs = jax.eval_shape(task.outputs, output)
    for i, (scale, term) in enumerate(loss):
        if scale:
            kind = losses.get_kind(term)
            with prefix_errors(f"config.loss[{i}]"):
                jax.eval_shape(term, outputs[kind], targets[kind], batch["weight"])


def check_operations(config: ConfigDict, operations: Terms) -> None:
    """Calls each operation of this package with the shapes of a crop, without data.

    Raises:
      UserError: one does not fit the crop.
    """
    crop = tuple(config.crop)
    cut = {
        "image": jax.ShapeDtypeStruct((*crop, 1), jnp.float32),
        "label": jax.ShapeDtypeStruct(crop, jnp.int32),
        "weight": jax.ShapeDtypeStruct(crop, jnp.float32),
        "seed": jax.ShapeDtypeStruct((), jnp.uint32),
    }
    names = [spec["name"] for spec in to_plain(config.augment)]
    for i, (_, operation) in enumerate(operations):
        if not is_external(names[i]):  # which may need other arrays
            cut = _trace_operation(i, operation, cut)


def _trace_operation(i: int, operation: Callable, cut: Example) -> Example:
    """Returns the shapes that an operation makes of those of a crop."""
    with prefix_errors(f"config.augment[{i}]"):
        alone = augment.compose([(1.0, operation)])
        return jax.eval_shape(alone, jax.random.key(0), cut)


def _list_legal_sizes(geometry: Geometry, crop: Sequence[int]) -> str:
    """Returns the nearest legal sizes along each axis with an illegal one."""
    near = []
    for axis, size in enumerate(crop):
        below = geometry.valid_size_below(size, axis)
        above = geometry.valid_size(size, axis)
        if below != above:
            sizes = f"{below} and {above}" if below else f"{above}"
            near.append(f"{sizes} along axis {axis}")
    return ", ".join(near)
