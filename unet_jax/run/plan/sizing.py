"""The crop, the depth and the batch of a plan: the largest that a compiled step bears.

Of an image's shape the rules know how large a crop is of use, but not what a step of it
takes: that is asked of the compiler, for the whole step and the devices there are.
"""

import copy
import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
from ml_collections import ConfigDict

from unet_jax import logs, parallel
from unet_jax.build import binding
from unet_jax.data import resample
from unet_jax.data.record import RecordStats
from unet_jax.data.source import Splits
from unet_jax.errors import UserError, naming
from unet_jax.geometry import Geometry
from unet_jax.report.words import shape as times
from unet_jax.run.plan import cost, fitting, rules
from unet_jax.run.plan.rules import Choice

SHARE = 0.5  # of the free memory that a step may take


class Space(NamedTuple):
    """The training images, as the network sees them.

    Attributes:
      shapes: of each, after resampling.
      median: along each axis.
      aspect: the size of a pixel along each axis; only the proportions count.
    """

    shapes: tuple[tuple[int, ...], ...]
    median: tuple[int, ...]
    aspect: tuple[float, ...]


class Sized(NamedTuple):
    """A config whose step is known to fit, and why it is as it is."""

    config: ConfigDict
    compiled: cost.Compiled
    choices: tuple[Choice, ...]


def seen(facts: Sequence[RecordStats], spacing: tuple[float, ...]) -> Space:
    """The images once they are resampled; a spacing of () leaves them as they are.

    Raises:
      UserError: an image cannot be resampled.
    """
    with naming("config.spacing"):
        shapes = tuple(
            resample.make_resampling(fact.shape, fact.spacing or None, spacing).shape
            for fact in facts
        )
    own = facts[0].spacing if all(fact.spacing for fact in facts) else ()
    aspect = spacing or own or (1.0,) * len(shapes[0])
    return Space(shapes, rules.median(shapes), aspect)


def sized(
    config: ConfigDict, splits: Splits, facts: Sequence[RecordStats], space: Space
) -> Sized:
    """Compiles steps, of ever fewer pixels, until half of the free memory is enough.

    The batch is made smaller first, down to two examples, then the crop; by how much
    follows from the step before, as if all memory but the state's were for pixels.

    Args:
      config: all else of the run.
      splits: its data.
      facts: of the training images.
      space: what the network sees of them.

    Raises:
      UserError: the config is wrong, or the least step needs too much memory.
    """
    with naming("config.parallel"):
        layout = binding.field(parallel, config, "parallel")()
    given = binding.model(config, None)
    margin = given.geometry(len(space.median)).margin
    alone = config.batch_size == 1 and any(margin)  # the paper's one large tile
    batches = functools.partial(
        rules.batch_size,
        sum(map(math.prod, space.shapes)),
        least=1 if alone else 2,
        replicas=layout.replicas,
    )
    floor = batches(1, most=0)
    free = parallel.here().free()
    limit = SHARE * free
    bearable = math.inf  # pixels in a batch
    for model, crop in fitting.fits(given, space.median, space.aspect, layout.space):
        geometry = model.geometry(len(crop))
        pixels, window = math.prod(crop), fitting.answered(crop, geometry)
        while floor * pixels <= bearable:
            most = min(1 if alone else rules.MOST, bearable // pixels)
            batch = batches(math.prod(window), most=int(most))
            choices = (
                _crop(crop, window, space, short=bearable < math.inf),
                _widths(model, geometry, window),
                _batch(batch, floor, layout.replicas, short=bearable < math.inf),
                *_sampling(config, facts, window, space),
            )
            draft = changed(config, choices)
            logs.say(f"compiling a step of {batch} x {times(crop)} pixels")
            compiled = cost.compiled(draft, splits)
            if compiled is None:
                bearable = batch * pixels / 2
                continue
            if compiled.memory <= limit:
                return Sized(draft, compiled, choices)
            variable = compiled.memory - compiled.fixed
            left = max(limit - compiled.fixed, 0)
            bearable = batch * pixels * left / max(variable, 1)
    needed = f"{compiled.memory / 2**30:.3g} GiB, " if compiled else ""
    raise UserError(
        f"a step of {batch} x {times(draft.crop)} pixels takes {needed}more than half "
        f"of the {free / 2**30:.3g} GiB that are free; set fewer "
        "config.model.widths, config.model.remat=True or config.precision=bfloat16"
    )


def changed(config: ConfigDict, choices: Iterable[Choice]) -> ConfigDict:
    """A copy of the config with what was chosen, where a dict becomes a spec.

    Fields that refer to another, `config.get_ref("crop")`, go with it.
    """
    config = copy.deepcopy(config)
    for field, value, _ in choices:
        *outer, name = field.split(".")
        holder: Any = functools.reduce(getattr, outer, config)
        with holder.ignore_type():
            holder[name] = ConfigDict(value) if isinstance(value, dict) else value
    return config


def _crop(
    crop: tuple[int, ...], window: tuple[int, ...], space: Space, *, short: bool
) -> Choice:
    whole = all(w >= n for w, n in zip(window, space.median, strict=True))
    holds = "holds" if whole else "is cut from"
    why = f"it {holds} the median image, {times(space.median)}"
    if window != crop:
        why += f"; the network answers for {times(window)}"
    smaller = sum(
        any(w > n for w, n in zip(window, shape, strict=True)) for shape in space.shapes
    )
    if smaller:
        of = f"{smaller} of {len(space.shapes)} images are"
        why += f"; {of} smaller along some axis, and mirrored there"
    if short:
        why += "; more takes over half of the free memory"
    return Choice("crop", crop, why)


def _widths(model: nn.Module, geometry: Geometry, window: tuple[int, ...]) -> Choice:
    pairs = zip(window, geometry.multiple, strict=True)
    lowest = min(size // stride for size, stride in pairs)
    why = f"{len(model.widths)} levels, of which the lowest keeps {lowest} pixels"
    return Choice("model.widths", model.widths, why)


def _batch(batch: int, floor: int, replicas: int, *, short: bool) -> Choice:
    why = f"at most {rules.COVERED:.0%} of the training pixels, or {rules.MOST}"
    if short:
        why = "more takes over half of the free memory"
    if batch == floor:
        few = "one large tile, as in the paper" if batch == 1 else "no fewer than two"
        why = few if replicas == 1 else "no fewer can be shared"
    if replicas > 1:
        why += f"; there are {replicas} devices"
    return Choice("batch_size", batch, why)


def _sampling(
    config: ConfigDict,
    facts: Sequence[RecordStats],
    window: tuple[int, ...],
    space: Space,
) -> tuple[Choice, ...]:
    """Crops are drawn to a sparse foreground, unless somebody has chosen otherwise."""
    why = rules.sparse(rules.shares(facts), window, space.median)
    if not why or config.sampling.name != "uniform":
        return ()
    return (Choice("sampling", {"name": "foreground"}, why),)
