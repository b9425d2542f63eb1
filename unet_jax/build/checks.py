"""What a config must be, told in one line before anything is computed."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from unet_jax.data.source import Source
from unet_jax.errors import UserError, choices, naming
from unet_jax.geometry import Geometry
from unet_jax.logs import say
from unet_jax.parallel import Layout
from unet_jax.specs import BelowOne, Count, NonNegative, Positive, Spec, Within, check

Terms = list[tuple[float, Callable]]  # a number, of the term, and what it is for


def _is_name(text: str) -> bool:
    """Whether a text can be the name of a folder in another."""
    return Path(text).name == text not in ("", ".", "..")


# All that is read of a config, and what it must be.
FIELDS = {
    "name": Annotated[str, Within("that can name a folder", _is_name)],
    "seed": Annotated[int, Within("from 0 to 2^31 - 1", lambda n: 0 <= n < 2**31)],
    "steps": Count,
    "batch_size": Count,
    "crop": tuple[Count, ...],
    "log_every": Count,
    "eval_every": Count,
    "checkpoint_every": Count,
    "data": Spec,
    "spacing": tuple[Positive, ...],
    "normalize": Spec,
    "weight_map": Spec,
    "sampling": Spec,
    "cache": NonNegative,
    "threads": Count,
    "model": Spec,
    "head": Literal["softmax", "sigmoid"],
    "precision": Literal["float32", "bfloat16"],
    "loss": tuple[Spec, ...],
    "augment": tuple[Spec, ...],
    "optimizer": Spec,
    "schedule": Spec,
    "ema": BelowOne,
    "parallel": Spec,
    "metrics": tuple[Spec, ...],
    "predict": Mapping,  # build.Options says what is in it
}


def plain(value: Any) -> Any:
    """A field without ml_collections: a spec as a dict, of a tuple each."""
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if isinstance(value, ConfigDict):
        return {key: plain(field) for key, field in value.items()}
    return value


def fields(config: ConfigDict) -> None:
    """Every field is known and there, and is what it must be."""
    for field in config:
        if field not in FIELDS:
            inside = [f"{name}.{field}" for name in FIELDS if _has(config, name, field)]
            hint = f"did you mean {inside[0]!r}?" if inside else choices(field, FIELDS)
            raise UserError(f"config has no field {field!r}; {hint}")
    for field, hint in FIELDS.items():
        if field not in config:
            raise UserError(f"config.{field} is missing; configs/base.py has it")
        check(plain(config[field]), hint, f"config.{field}")
    if not config.crop:
        raise UserError("config.crop needs a size for each axis, such as 188,188")
    if len(config.spacing) not in (0, len(config.crop)):
        raise UserError(
            f"config.spacing={_listed(config.spacing)} must have {len(config.crop)} "
            f"sizes, one for each axis of config.crop={_listed(config.crop)}"
        )


def best_score(config: ConfigDict) -> str:
    """The validation score that chooses the best checkpoint; higher is better."""
    if not config.metrics:
        raise UserError("config.metrics must name a score, such as dice")
    return f"val/{metric_names(config)[0]}"


def metric_names(config: ConfigDict) -> list[str]:
    """What the scores are called: with their options where one is asked for twice.

    Raises:
      UserError: one is asked for twice with the same options.
    """
    specs = plain(config.metrics)
    plainly = [spec["name"] for spec in specs]
    names = [
        name if plainly.count(name) == 1 else _with_options(spec)
        for name, spec in zip(plainly, specs, strict=True)
    ]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"config.metrics has {name} more than once; leave one out")
    return names


def _with_options(spec: Spec) -> str:
    options = ",".join(f"{k}={v}" for k, v in spec.items() if k != "name")
    return f"{spec['name']}({options})" if options else spec["name"]


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
    with naming("config.model"):
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
    config: ConfigDict, source: Source, shapes: Sequence[tuple[int, ...]]
) -> None:
    """Says so where what is prepared of the training images will not all be kept."""
    pixels = sum(map(math.prod, shapes))
    needed = pixels * 4 * (source.channels + 2) / 2**30
    if needed > config.cache:
        say(
            f"the training images take {needed:.3g} GiB when they are prepared, more "
            f"than config.cache={config.cache:g}: what is beyond is read again for "
            "every crop"
        )


def rehearse(
    config: ConfigDict,
    operations: Terms,
    loss: Terms,
    *,
    channels: int,
    classes: int,
) -> None:
    """Shows every term the shapes of a crop, so that it objects here, not in a step."""
    crop = config.crop
    label = (*crop, classes) if config.head == "sigmoid" else crop
    example = {
        "image": jax.ShapeDtypeStruct((*crop, channels), jnp.float32),
        "label": jax.ShapeDtypeStruct(label, jnp.int32),
        "weight": jax.ShapeDtypeStruct(crop, jnp.float32),
    }
    for i, (_, operation) in enumerate(operations):
        with naming(f"config.augment[{i}]"):
            example = jax.eval_shape(operation, jax.random.key(0), example)
    one = jax.ShapeDtypeStruct
    for i, (_, term) in enumerate(loss):
        with naming(f"config.loss[{i}]"):
            jax.eval_shape(
                term,
                one((1, *crop, classes), jnp.float32),
                one((1, *label), jnp.int32),
                one((1, *crop), jnp.float32),
            )


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
