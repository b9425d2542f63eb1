"""Reads the plans and the data set of an nnU-Net v2, and turns them into config fields.

What our runs cannot do is refused by name. `nnunet_network.py` reads the network.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from unet_jax.errors import UserError
from unet_jax.json_file import FiniteNumber, convert
from unet_jax.pytorch.nnunet_network import (
    REMEDY,
    Configuration,
    Network,
    permute,
    read_network,
)

SCHEMES = {
    "ZScoreNormalization": "zscore",
    "CTNormalization": "ct",
    "RescaleTo01Normalization": "rescale",
    "RGBTo01Normalization": "rgb",
    "NoNormalization": "none",
}
NO_SPACING = ("NaturalImage2DIO",)  # readers of files without a size of the pixels
REORIENTING = "WithReorient"  # ends the names of readers that turn volumes


class _Properties(msgspec.Struct):
    """The numbers of the foreground of a channel."""

    mean: FiniteNumber
    std: FiniteNumber
    percentile_00_5: FiniteNumber
    percentile_99_5: FiniteNumber


class _Plans(msgspec.Struct):
    configurations: dict[str, dict[str, Any]]
    transpose_forward: list[Annotated[int, Meta(ge=0, le=2)]]
    image_reader_writer: str = ""
    original_median_spacing_after_transp: list[float] = []
    foreground_intensity_properties_per_channel: dict[str, dict[str, Any]] = {}


class _DataSet(msgspec.Struct):
    labels: dict[str, Any]
    channel_names: dict[str, Any] = {}
    modality: dict[str, Any] = {}  # the name of the field in nnU-Net v1


class Plan(NamedTuple):
    """The facts about an nnU-Net from its plans and its data set.

    Attributes:
      network: the network.
      channels: of an image.
      classes: names by id.
      fields: further fields of the config.
      assumed: what differs or cannot be known, in words.
    """

    network: Network
    channels: int
    classes: tuple[str, ...]
    fields: Mapping[str, Any]
    assumed: tuple[str, ...]


def read_plan(plans: Any, data_set: Any, name: str) -> Plan:
    """Reads the JSON data of plans.json and dataset.json.

    Args:
      plans: the content of plans.json.
      data_set: the content of dataset.json.
      name: of the configuration: '3d_fullres'.

    Raises:
      UserError: a value is missing, or nnU-Net does something that our runs cannot do.
    """
    plan = convert(plans, _Plans, "plans.json", REMEDY)
    data = convert(data_set, _DataSet, "dataset.json", REMEDY)
    merged = _inherit(plan.configurations, name)
    place = f"the configuration {name!r} in plans.json"
    used = convert(merged, Configuration, place, REMEDY)
    if used.previous_stage:
        raise UserError(
            f"the configuration {name!r} refines the result of another one, which is "
            "not supported; import 3d_fullres or 3d_lowres"
        )
    axes = len(used.patch_size)
    order = _find_order(plan.transpose_forward, axes)
    classes = _read_classes(data.labels)
    channels = len(data.channel_names or data.modality)
    network = read_network(used, order)
    normalize = _read_normalization(plan, used, channels)
    spacing = permute(used.spacing, order)
    assumed = []
    if plan.image_reader_writer.endswith(REORIENTING):
        raise UserError(
            f"its images are read by {plan.image_reader_writer}, which turns volumes "
            "to one orientation; that is not supported, train with NibabelIO"
        )
    if axes == 2 and plan.original_median_spacing_after_transp[:1] != [999.0]:
        assumed.append("images are single slices, which are not resampled")
    resampled = axes == 3 and plan.image_reader_writer not in NO_SPACING
    if resampled:
        assumed.append("images are resampled linearly, where nnU-Net uses splines")
    patch = permute(used.patch_size, order)
    fields = {
        "crop": patch,
        "batch_size": used.batch_size,
        "spacing": tuple(map(float, spacing)) if resampled else (),
        "normalize": normalize,
        "task": {"name": "semantic", "average": "logits"},
        "predict.tile": patch,
        "predict.tiling": "nnunet",
    }
    return Plan(network, channels, classes, fields, tuple(assumed))


def _inherit(configurations: Mapping[str, dict], name: str) -> dict[str, Any]:
    """Returns a configuration with the fields of those that it inherits from."""
    merged: dict[str, Any] = {}
    seen: list[str] = []
    while name:
        if name not in configurations or name in seen:
            known = ", ".join(sorted(configurations))
            raise UserError(
                f"plans.json has no configuration {name!r}; it has {known}; {REMEDY}"
            )
        seen.append(name)
        merged = configurations[name] | merged
        name = configurations[name].get("inherits_from", "")
        name = name if isinstance(name, str) else ""
    return merged


def _find_order(forward: list[int], axes: int) -> tuple[int, ...]:
    """Returns for each axis of the files the axis of nnU-Net, which transposes them."""
    if sorted(forward) != [0, 1, 2]:
        raise UserError(f"plans.json: transpose_forward is {forward}; {REMEDY}")
    if axes == 3:
        return tuple(forward.index(axis) for axis in range(3))
    if forward != [0, 1, 2]:
        raise UserError(
            f"plans.json: transpose_forward is {forward}, so its images are slices "
            "across another axis; import its 3d_fullres, or train with volumes whose "
            "first axis is that of the slices"
        )
    return (0, 1)


def _read_classes(labels: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of the classes by their ids, without the ignored label."""
    if regions := [name for name, value in labels.items() if isinstance(value, list)]:
        raise UserError(
            f"dataset.json: the label {regions[0]!r} is a region of several values, "
            "which is not supported; train nnU-Net without regions"
        )
    ids = {name: value for name, value in labels.items() if name != "ignore"}
    try:
        names = {int(value): name for name, value in ids.items()}
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"dataset.json: labels are not numbers; {REMEDY}") from error
    if sorted(names) != list(range(len(ids))) or len(ids) < 2:
        raise UserError(
            f"dataset.json: the labels must be 0, 1, 2, ..., not {sorted(names)}; "
            f"{REMEDY}"
        )
    return tuple(names[i] for i in range(len(names)))


def _read_normalization(
    plan: _Plans, used: Configuration, channels: int
) -> dict[str, Any]:
    given = used.normalization_schemes
    if unknown := [name for name in given if name not in SCHEMES]:
        raise UserError(
            f"its images are normalised by {unknown[0]}, which is not supported; "
            f"supported: {', '.join(SCHEMES)}"
        )
    schemes = tuple(SCHEMES[name] for name in given)
    masked = zip(schemes, used.use_mask_for_norm, strict=False)
    if any(scheme == "zscore" and mask for scheme, mask in masked):
        raise UserError(
            "use_mask_for_norm: its images are normalised inside a mask of the pixels "
            "that are not 0, which is not supported; train nnU-Net with "
            "use_mask_for_norm set to false in its plans"
        )
    if len(schemes) != channels:
        raise UserError(
            f"plans.json has {len(schemes)} normalization_schemes, and dataset.json "
            f"{channels} channel_names; {REMEDY}"
        )
    spec: dict[str, Any] = {"name": "nnunet", "schemes": schemes}
    if "ct" not in schemes:
        return spec
    numbers = []
    for i, scheme in enumerate(schemes):
        values = _Properties(0.0, 1.0, 0.0, 0.0)
        if scheme == "ct":
            found = plan.foreground_intensity_properties_per_channel.get(str(i))
            place = f"foreground_intensity_properties_per_channel {i} in plans.json"
            values = convert(found, _Properties, place, REMEDY)
        numbers.append(values)
    return spec | {
        "mean": tuple(float(v.mean) for v in numbers),
        "std": tuple(max(float(v.std), 1e-8) for v in numbers),
        "low": tuple(float(v.percentile_00_5) for v in numbers),
        "high": tuple(float(v.percentile_99_5) for v in numbers),
    }
