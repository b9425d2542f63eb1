"""The pre-processing of a run: JSON data in its checkpoints, for prediction."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
from ml_collections import ConfigDict
from msgspec import Meta

from unet_jax.build import binding, field_checks
from unet_jax.data import normalize
from unet_jax.data.source import Source, Splits
from unet_jax.errors import UserError, prefix_errors
from unet_jax.json_file import FiniteNumber, PositiveNumber, convert
from unet_jax.tasks import Task, TaskData

MAX_MEASURED = 64  # training images for the scale of generated images

MOST_CHANNELS = 2**16
Byte = Annotated[int, Meta(ge=0, le=255)]


class _Samples(TypedDict, total=False):
    """The scale and the type of generated images; empty for other methods."""

    offset: list[FiniteNumber]
    width: list[PositiveNumber]
    dtype: Annotated[str, Meta(pattern=r"^(u?int(8|16|32|64)|float(16|32|64))\Z")]


class Preprocessing(TypedDict):
    """The facts about the training data that prediction needs, as JSON data.

    Attributes:
      classes: the names of the classes.
      background: True if class 0 is the background. A run that is older than this key
        averages its scores over all classes.
      colours: their colours; empty if there are none.
      channels: of an image.
      target_channels: of a target image; 0 without targets.
      spatial_axes: 2 for images, 3 for volumes.
      normalize: the spec of `config.normalize`.
      convert: True if grey images are converted to RGB, or RGB images to grey.
      label_map: pairs of a value in the masks and a class.
      spacing: of the pixels for the network; empty without resampling.
      file_spacing: of the pixels of the files; empty if unknown.
      target_scale: the offsets and the widths of the targets, for each channel, if the
        task predicts in their units.
      member_scales: the `target_scale` of each member of an ensemble; in no checkpoint.
        The mean over the members is on the scale that `target_scale` gives.
      samples: the scale of generated images.
    """

    classes: Annotated[list[str], Meta(max_length=2**16)]
    background: NotRequired[bool]
    colours: list[Annotated[list[Byte], Meta(min_length=3, max_length=3)]]
    channels: Annotated[int, Meta(ge=1, le=MOST_CHANNELS)]
    target_channels: Annotated[int, Meta(ge=0, le=MOST_CHANNELS)]
    spatial_axes: Annotated[int, Meta(ge=2, le=3)]
    normalize: Any
    convert: bool
    label_map: list[tuple[str, int]]
    spacing: list[PositiveNumber]
    file_spacing: list[PositiveNumber]
    target_scale: list[list[FiniteNumber]]
    member_scales: NotRequired[list[list[list[FiniteNumber]]]]
    samples: _Samples


def check_preprocessing(data: Any, workdir: Path) -> Preprocessing:
    """Validates the pre-processing in the checkpoint of a run folder.

    Raises:
      UserError: a value is missing, or its type or its size is wrong.
    """
    place = f"{workdir}: the pre-processing in its checkpoint"
    remedy = "name the folder of a run of this program"
    found = convert(data, Preprocessing, place, remedy)
    sizes = (
        len(found["spacing"]) in (0, found["spatial_axes"]),
        len(found["file_spacing"]) in (0, found["spatial_axes"]),
        len(found["colours"]) in (0, len(found["classes"])),
        all(len(row) == found["target_channels"] for row in found["target_scale"]),
        len(found["target_scale"]) in (0, 2),
        not found.get("member_scales"),  # a run has no members
        len(found["samples"]) in (0, 3),
    )
    if not all(sizes):
        raise UserError(f"{place} is not valid (lengths do not agree); {remedy}")
    return found


def merge_preprocessing(members: Sequence[Preprocessing]) -> Preprocessing:
    """Returns the pre-processing of an ensemble: that of the first member.

    If values have units of their own, each member has measured their scale on its own
    training images. So the members are averaged in these units, unscaled.
    """
    first = members[0]
    if len(members) == 1 or not first["target_scale"]:
        return first
    channels = first["target_channels"]
    return {
        **first,
        "target_scale": [[0.0] * channels, [1.0] * channels],
        "member_scales": [member["target_scale"] for member in members],
    }


def read_task_data(preprocessing: Preprocessing) -> TaskData:
    """Returns the facts about the training data that a task depends on."""
    axes, channels = preprocessing["spatial_axes"], preprocessing["channels"]
    classes = tuple(preprocessing["classes"])
    return TaskData(
        classes,
        axes,
        channels,
        preprocessing["target_channels"],
        background=preprocessing.get("background", True),
    )


def check_label_map(trained: Preprocessing, splits: Splits) -> None:
    """Checks that a value in the masks means the class that it meant in training.

    Args:
      trained: the pre-processing of the run.
      splits: the data as they are now.

    Raises:
      UserError: a value has another class.
    """
    ids = dict(splits.report.label_map if splits.report else ())
    for value, before in trained["label_map"]:
        now = ids.get(value, before)
        if now != before:
            was, now = ("ignored" if i < 0 else f"class {i}" for i in (before, now))
            raise UserError(
                f"config.data: {value} in the masks is now {now}, and was {was} in "
                "training; restore the masks, or start a new run"
            )


def make_measure(config: ConfigDict, channels: int) -> Callable:
    """Returns the function that measures the scale of an image."""
    measure = normalize.in_memory(binding.bind_field(normalize, config, "normalize"))
    with prefix_errors("config.normalize"):
        measure(np.zeros((1, 1, channels), np.float32))  # raises errors of the spec
    return measure


def collect_preprocessing(
    config: ConfigDict, splits: Splits, task: Task, *, generates: bool
) -> Preprocessing:
    """Returns the pre-processing of a run.

    Args:
      config: the config of the run.
      splits: its data.
      task: its task.
      generates: True if the method generates images.
    """
    source, report = splits.train, splits.report
    own = task.units == "own"
    return {
        "classes": list(source.classes),
        "background": source.background,
        "colours": [list(colour) for colour in source.colours],
        "channels": source.channels,
        "target_channels": source.target_channels,
        "spatial_axes": len(config.crop),
        "normalize": field_checks.to_plain(config.normalize),
        "convert": source.convert,
        "label_map": list(report.label_map) if report else [],
        "spacing": list(config.spacing),
        "file_spacing": list(source.spacing),
        "target_scale": _measure_target_scale(source) if own else [],
        "samples": _measure_sample_scale(config, source) if generates else {},
    }


def _measure_target_scale(source: Source) -> list[list[float]]:
    """Returns the mean and the deviation of all training targets, per channel."""
    targets = (source.load(i)["target"] for i in range(source.length))
    first = next(targets)
    scale = normalize.standard(lambda: itertools.chain([first], targets))
    return [scale.offset.tolist(), scale.width.tolist()]


def _measure_sample_scale(config: ConfigDict, source: Source) -> _Samples:
    """Returns the mean scale and the type of training images, for generated ones."""
    measure = make_measure(config, source.channels)
    images = [source.load(i)["image"] for i in range(min(source.length, MAX_MEASURED))]
    scales = [measure(image) for image in images]
    return {
        "offset": np.mean([scale.offset for scale in scales], axis=0).tolist(),
        "width": np.mean([scale.width for scale in scales], axis=0).tolist(),
        "dtype": str(images[0].dtype),
    }
