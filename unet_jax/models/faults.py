"""Finds wrong fields of a U-Net before it is built."""

import math
import shlex
from typing import Any

import jax
import jax.numpy as jnp

from unet_jax.models.resnet import RESNETS

MAX_LEVELS = 32
MAX_SIZE = 2**31 - 1  # of an axis of an array
MAX_SCALE = 2**16  # pixels of an image along an axis that are one at the bottom
MAX_DEPTH = 1000  # blocks of a path; each takes a while to compile
# Fields with one entry per level, and the number of levels without an entry.
WITHOUT_ENTRY = {"encoder_depths": 0, "decoder_depths": 1, "strides": 1, "kernels": 0}
WIDTHS = (
    "decoder_widths",
    "decoder_hidden",
    "up_widths",
)  # one entry per stride, or ()


def expand_field(model: Any, field: str) -> tuple:
    """Returns the entries of a field, one for each level or each stride."""
    given = getattr(model, field)
    count = model.levels - WITHOUT_ENTRY[field]
    return given * count if len(given) == 1 else given


def find_fault(model: Any) -> str | None:
    """Returns a line about a wrong field of a `UNet`, starting with its name, or None.

    The checks are in an order in which each can rely on those before it.
    """
    checks = (_check_sizes, _check_entries, _check_axes, _check_combinations)
    return next((fault for check in checks if (fault := check(model))), None)


def _check_sizes(model: Any) -> str | None:
    levels = len(model.widths)
    if levels < 2:
        return f"widths needs two or more numbers, not {model.widths}"
    if levels > MAX_LEVELS:
        return f"widths has {levels} numbers, one for each level; {MAX_LEVELS} at most"
    numbers = {"widths": model.widths, "kernels": sum(model.kernels, ())}
    numbers |= {field: getattr(model, field) for field in WIDTHS}
    numbers["time_features"] = (model.time_features,)
    numbers["head_kernel"] = (model.head_kernel,)
    for field, given in numbers.items():
        if max(given, default=0) > MAX_SIZE:
            return f"{field} has {max(given)}; {MAX_SIZE} at most"
    return None


def _check_entries(model: Any) -> str | None:
    levels = model.levels
    reason = f"for the {levels} levels of widths"
    if model.encoder in RESNETS:
        reason = f"for the {levels} levels of {model.encoder}"
    for field, fewer in WITHOUT_ENTRY.items():
        count, given = levels - fewer, len(getattr(model, field))
        if given not in (1, count):
            line = f"{field} needs 1 entry or {count}, {reason}, not {given}"
            return line + _advise_entries(model, field, count)
    for field in WIDTHS:
        count, given = levels - 1, len(getattr(model, field))
        if given not in (0, count):
            line = f"{field} needs {count} entries or none, {reason}, not {given}"
            return line + _advise_entries(model, field, count)
    for field in ("encoder_depths", "decoder_depths"):
        if sum(expand_field(model, field)) > MAX_DEPTH:
            return f"{field} is more than {MAX_DEPTH} blocks in all; lower it"
    return None


def _check_axes(model: Any) -> str | None:
    for field in ("strides", "kernels"):
        lengths = {len(entry) for entry in getattr(model, field)}
        if 0 in lengths or len(lengths - {1}) > 1:
            return (
                f"{field} needs entries of 1 number or of one for each axis, not "
                f"{getattr(model, field)}"
            )
    scale = math.prod(max(entry) for entry in expand_field(model, "strides"))
    if scale > MAX_SCALE:
        return f"strides multiply to {scale}; {MAX_SCALE} at most"
    return None


def _check_combinations(model: Any) -> str | None:
    if model.padding == "VALID":
        if model.downsample == "conv":
            return "downsample='conv' needs padding='SAME'; set it, or use 'pool'"
        if model.encoder in RESNETS:
            return f"padding='VALID' does not fit encoder={model.encoder!r}; set 'SAME'"
        if model.upsample == "aligned":
            return "upsample='aligned' needs padding='SAME'; set it, or use 'linear'"
        if model.head_kernel > 1:
            return f"head_kernel={model.head_kernel} needs padding='SAME'; set it, or 1"
    if model.encoder in RESNETS:
        if {n for entry in model.strides for n in entry} != {2}:
            return f"strides must be ((2,),) for encoder={model.encoder!r}; set them"
        if model.time_features:
            return (
                f"encoder={model.encoder!r} reads no time, and time_features is "
                f"{model.time_features}; set encoder='plain'"
            )
    if model.upsample == "transpose":
        if not model.upsample_conv:
            return (
                "upsample_conv=False needs an interpolation; set upsample='nearest', "
                "'linear' or 'aligned'"
            )
    elif not model.upsample_conv and model.up_widths:
        return "up_widths is without effect with upsample_conv=False; set it to ()"
    if not _is_elementwise(model.activation):
        return (
            f"activation: {model.activation!r} is not a function of jax.nn; set one "
            "such as relu, leaky_relu, elu, gelu or silu"
        )
    return None


def _advise_entries(model: Any, field: str, count: int) -> str:
    """Returns the flag that keeps the first entries; '' if there are too few."""
    given = getattr(model, field)
    if len(given) < count:
        return ""
    entries = [str(entry).replace(" ", "") for entry in given[:count]]
    text = ",".join(entries) + ("," if count == 1 else "")
    return f"; for its first entries set --config.model.{field}={shlex.quote(text)}"


def _is_elementwise(name: str) -> bool:
    x = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    try:
        return jax.eval_shape(getattr(jax.nn, name), x) == x
    except (AttributeError, TypeError, ValueError):
        return False
