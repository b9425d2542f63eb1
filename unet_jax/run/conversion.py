"""Writes the weights of another program as a run folder, which predicts."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax import logs
from unet_jax.build import binding, field_checks
from unet_jax.build.fields import from_plain, make_default_config
from unet_jax.build.prediction import bind_options
from unet_jax.build.preprocessing import (
    Preprocessing,
    check_preprocessing,
    read_task_data,
)
from unet_jax.checkpoint import Checkpoints
from unet_jax.colours import choose_colours
from unet_jax.data import normalize as normalizations
from unet_jax.errors import UserError, prefix_errors
from unet_jax.optimizers import format_path
from unet_jax.pytorch import Architecture, Imported, recognise
from unet_jax.run import run_config, run_folder
from unet_jax.text import listing

STEP = 1  # of the only checkpoint; the run counts as finished
CROP = 256  # of an edge, for later training


class Conversion(NamedTuple):
    """An imported network as the parts of a run folder.

    Attributes:
      config: of the run.
      preprocessing: for prediction.
      variables: of the network.
    """

    config: ConfigDict
    preprocessing: Preprocessing
    variables: Any


def convert_weights(
    source: Path,
    workdir: Path,
    *,
    normalize: Mapping[str, Any] | None = None,
    classes: Sequence[str] = (),
    task: str = "",
) -> None:
    """Writes a run folder that predicts what the network of another program predicts.

    Args:
      source: a checkpoint of PyTorch, a safetensors file, or a folder of nnU-Net v2.
      workdir: the run folder, new or empty.
      normalize: the spec of the normalisation, if it is not the one that is assumed.
      classes: the names of the classes by id, the background first; (): those of the
        file, or made up.
      task: 'semantic' or 'multilabel'; '': that of the file, or assumed.

    Raises:
      UserError: the network is not known, or is only an encoder, or the folder is not
        empty, or the task does not suit the network.
    """
    imported = _complete(recognise(source), normalize, classes, task)
    architecture = imported.architecture
    if not architecture.outputs:
        encoder = architecture.model["encoder"]
        raise UserError(
            f"{source} has the weights of {architecture.name}, an encoder without a "
            f"decoder, which predicts nothing; train with --config.init_from={source} "
            f"--config.model.encoder={encoder}"
        )
    if workdir.is_dir() and any(workdir.iterdir()):
        raise UserError(
            f"--output={workdir} is not empty; name a new folder, or empty this one"
        )
    conversion = make_conversion(imported, workdir.resolve().name)
    run_folder.create(workdir, "output")
    _write(conversion, workdir)
    count = sum(x.size for x in jax.tree.leaves(conversion.variables["params"]))
    logs.say(f"{imported.path} has the weights of {architecture.name}")
    logs.say(
        f"{count:,} parameters; {architecture.axes}-D images of "
        f"{architecture.channels} channels; classes: "
        f"{listing(conversion.preprocessing['classes'])}"
    )
    assumed = list(architecture.assumed)
    if "task" not in architecture.fields:
        assumed.append(
            "the output is a sigmoid for the foreground"
            if architecture.outputs == 1
            else "the classes exclude each other, and the first is the background "
            "(otherwise --task=multilabel)"
        )
    for line in assumed:
        logs.say(f"note: assumed: {line}")
    if "normalize" not in architecture.fields:
        logs.say(
            "note: the file does not say how images are normalised; assumed: integers "
            "are divided by the largest value of their type (--normalize=unit)"
        )
    logs.say(f"wrote {workdir}/; --mode=predict --workdir={workdir} segments images")


def _complete(
    imported: Imported,
    normalize: Mapping[str, Any] | None,
    classes: Sequence[str],
    task: str,
) -> Imported:
    """Adds what the user knows and the file does not say."""
    architecture = imported.architecture
    fields = dict(architecture.fields)
    if normalize:
        fields["normalize"] = normalize
    if task:
        if "task" in fields:
            raise UserError(
                f"--task={task}: the file says that the task of {architecture.name} is "
                f"{fields['task']['name']}; leave --task out"
            )
        if task == "semantic" and architecture.outputs == 1:
            raise UserError(
                "--task=semantic: the network has one output, and needs one for each "
                "class; leave --task out"
            )
        fields["task"] = {"name": task}
    architecture = architecture._replace(fields=fields)
    count = _count_classes(architecture)
    if classes and len(classes) != count:
        raise UserError(
            f"--classes has {len(classes)} names, and the network has {count} classes, "
            "the background included; name each of them"
        )
    return imported._replace(
        architecture=architecture, classes=tuple(classes) or imported.classes
    )


def make_conversion(imported: Imported, name: str) -> Conversion:
    """Returns the parts of a run folder for an imported network.

    Args:
      imported: the network.
      name: of the run.

    Raises:
      UserError: a field of the config would not be valid.
    """
    architecture = imported.architecture
    classes = imported.classes or _name_classes(_count_classes(architecture))
    config = make_default_config()
    axes = architecture.axes
    fields = {
        "name": name,
        "steps": STEP,
        "crop": (CROP,) * axes if axes == 2 else (CROP // 4,) * axes,
        "data": _make_data(imported, classes),
        "normalize": {"name": "unit"},
        "task": _choose_task(architecture),
        **{f"model.{key}": value for key, value in architecture.model.items()},
        **architecture.fields,
    }
    with config.ignore_type():  # `check_fields` checks the types
        for field, value in fields.items():
            outer, _, key = field.rpartition(".")
            (config[outer] if outer else config)[key] = from_plain(value)
    with prefix_errors(str(imported.path)):
        field_checks.check_fields(config)
        preprocessing = _make_preprocessing(config, architecture.channels, classes)
        binding.bind_field(normalizations, config, "normalize")
        task = binding.build_task(config, read_task_data(preprocessing))
        bind_options(config, task)
        model = binding.build_model(config, None).clone(outputs=task.channels)
        shapes = binding.read_variable_shapes(config, model, architecture.channels)
        variables = _arrange(imported.load(), shapes)
    return Conversion(config, preprocessing, variables)


def format_flags(fields: Mapping[str, Any]) -> str:
    """Returns fields as flags of the command line."""
    flags = []
    for field, value in fields.items():
        text = value if isinstance(value, str) else str(value).replace(" ", "")
        flags.append(f"--config.{field}={shlex.quote(text)}")
    return " ".join(flags)


def _choose_task(architecture: Architecture) -> Mapping[str, Any]:
    """Returns the spec of the task; one output is a sigmoid for the foreground."""
    name = "multilabel" if architecture.outputs == 1 else "semantic"
    return architecture.fields.get("task", {"name": name})


def _count_classes(architecture: Architecture) -> int:
    """Returns the number of classes; in `multilabel`, class 0 has no output."""
    independent = _choose_task(architecture)["name"] == "multilabel"
    return architecture.outputs + (1 if independent else 0)


def _name_classes(count: int) -> tuple[str, ...]:
    if count == 2:
        return ("background", "foreground")
    return ("background", *(f"class{i}" for i in range(1, count)))


def _make_data(imported: Imported, classes: tuple[str, ...]) -> dict[str, Any]:
    """Returns the spec of the data set, for evaluation with images of the user."""
    data = {"name": "folder", "root": "", "axes": imported.architecture.axes}
    data["classes"] = classes
    if len(imported.mask_values) == len(classes):  # not in `multilabel`
        pairs = enumerate(imported.mask_values)
        data["label_map"] = tuple((value, i) for i, value in pairs)
    return data


def _make_preprocessing(
    config: ConfigDict, channels: int, classes: tuple[str, ...]
) -> Preprocessing:
    plain = {
        "classes": list(classes),
        "background": True,
        "colours": [list(colour) for colour in choose_colours(len(classes))],
        "channels": channels,
        "target_channels": 0,
        "spatial_axes": len(config.crop),
        "normalize": field_checks.to_plain(config.normalize),
        "convert": False,
        "label_map": [],
        "spacing": list(config.spacing),
        "file_spacing": [],
        "target_scale": [],
        "samples": {},
    }
    return check_preprocessing(plain, Path(config.name))


def _arrange(arrays: Mapping[str, np.ndarray], shapes: Any) -> Any:
    """Returns the arrays as a tree like that of the shapes of the variables."""
    left = dict(arrays)

    def take(path: Any, expected: Any) -> np.ndarray:
        array = left.pop(format_path(path))
        assert array.shape == expected.shape, format_path(path)
        return array

    tree = jax.tree_util.tree_map_with_path(take, shapes)
    assert not left, sorted(left)
    return tree


def _write(conversion: Conversion, workdir: Path) -> None:
    """Writes config.json and one checkpoint without a state of training."""
    config = conversion.config
    run_folder.write_config(workdir, config, {})
    name = run_folder.read_selection_score(workdir, config)
    about = {
        "config": run_config.config_to_json(config),
        "preprocessing": conversion.preprocessing,
        "chosen_by": name,
    }
    state = {"step": np.asarray(STEP, np.int32), "variables": conversion.variables}
    with Checkpoints(workdir, name) as checkpoints:
        checkpoints.save(STEP, state, lambda s: s["variables"], about, {})
