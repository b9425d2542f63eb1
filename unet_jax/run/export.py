"""Mode `export`: writes a trained run, or an ensemble, for other programs."""

import importlib.util
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax import tasks
from unet_jax.build.field_checks import read_section
from unet_jax.build.pipeline import build_pipeline, complete_spec
from unet_jax.data import normalize
from unet_jax.data.files import channel_converter
from unet_jax.errors import UserError
from unet_jax.export.description import describe_model
from unet_jax.logs import say
from unet_jax.run import run_folder
from unet_jax.run.ensemble import list_members
from unet_jax.run.exporting.formats import FORMATS
from unet_jax.run.exporting.job import Files, Job
from unet_jax.run.exporting.readme import write_readme
from unet_jax.run.exporting.samples import choose_halo, predict_samples
from unet_jax.run.exporting.zoo import check_license
from unet_jax.run.predictor import Predictor
from unet_jax.run.run_config import config_to_json

NETWORK_FIELDS = ("model", "task", "normalize", "precision")


def export(
    config: ConfigDict, workdir: Path, *, output: str, ensemble: Sequence[str] = ()
) -> int:
    """Writes the formats of `config.export`, each checked against `Predictor`.

    The folder appears when all files are written and checked.

    Args:
      config: the config of the run; `predict` and `export` may be changed.
      workdir: the run folder, or that of a cross-validation.
      output: the folder to write to; it must not exist, or be empty.
      ensemble: further run folders, whose predictions are averaged in each file.

    Returns:
      0.

    Raises:
      UserError: a format cannot hold a part of the prediction, a package is missing,
        the folder is not empty, or a file predicts something else than this program.
    """
    options = SimpleNamespace(**read_section(config, "export"))
    target = Path(output).expanduser()
    formats = tuple(dict.fromkeys(options.formats))
    check_packages(formats)
    if "bioimageio" in formats:
        check_license(options.license)
    _check_empty(target)
    runs = list_members(workdir, ensemble)
    run_folder.create_or_check(runs[0], config)  # refuses the config of another run
    whole = _set_whole_images(config, options)
    predictor = Predictor.from_config(whole, runs)
    job = _make_job(whole, predictor, runs[0], options)
    _check_formats(job, formats)
    samples = predict_samples(predictor, job.pipeline, job.halo)
    say(f"checking each file on {len(samples.images)} images")
    run_folder.create(target.parent, "output")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        partial = Path(folder) / "files"
        partial.mkdir()
        for name in formats:
            files = FORMATS[name].write(job, samples)
            _write(partial, files.contents)
            _report(files)
        _write(
            partial,
            {
                "model.json": json.dumps(job.description, indent=1).encode(),
                "README.md": write_readme(job, formats).encode(),
            },
        )
        if target.exists():
            target.rmdir()
        partial.chmod(0o755)
        os.replace(partial, target)
    say(f"exported to {target}; its README.md tells how to use each file")
    return 0


def check_packages(formats: Sequence[str]) -> None:
    """Raises UserError if a package that a format needs is not installed."""
    if not formats:
        raise UserError("config.export.formats names no format; name one, such as onnx")
    for name in formats:
        for package in FORMATS[name].packages:
            if importlib.util.find_spec(package) is None:
                raise UserError(
                    f"config.export.formats: {name!r} needs the package {package}, "
                    "which is not installed; run pip install 'unet_jax[export]'"
                )


def _check_formats(job: Job, formats: Sequence[str]) -> None:
    """Raises UserError if a format cannot hold the prediction."""
    for name in formats:
        try:
            FORMATS[name].check(job)
        except UserError as error:
            raise UserError(
                f"config.export.formats: {name!r} is impossible here: {error}; leave "
                f"{name!r} out"
            ) from error


def _check_empty(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UserError(f"--output={target} is no folder; name a new one")
    if target.exists() and any(target.iterdir()):
        raise UserError(f"--output={target} is not empty; name a new folder")


def _set_whole_images(config: ConfigDict, options: SimpleNamespace) -> ConfigDict:
    """Returns the config of the predictions of the files, of whole images."""
    setting = dict(config.predict)
    if setting.get("tile"):
        say(
            "config.predict.tile is not part of the files: they predict whole images, "
            "which differ from blended tiles if the norm has spatial statistics"
        )
    whole = config.copy_and_resolve_references()
    changes = {"runtime": "xla", "tiling": "auto", "tile": (), "batch": 0}
    converts = options.channels or setting.get("channels") == "convert"
    with whole.predict.ignore_type():
        whole.predict.update(changes)
        if converts:
            whole.predict.channels = "convert"
    return whole


def _make_job(
    config: ConfigDict, predictor: Predictor, run: Path, options: SimpleNamespace
) -> Job:
    setup = predictor.setup
    pipeline = build_pipeline(config, setup, predictor.members)
    halo = setup.model.geometry(pipeline.axes).halo
    tile = choose_halo(halo, pipeline.axes)
    picture = run / run_folder.PICTURE
    return Job(
        name=config.name,
        pipeline=pipeline,
        halo=tile,
        exact=tile == halo,
        description=describe_model(pipeline, _describe_run(config, setup), halo),
        options=options,
        convert=channel_converter(
            pipeline.channels, pipeline.network_channels, convert=True
        ),
        normalize=lambda image: normalize.in_memory(setup.measure)(image)(image),
        picture=picture.read_bytes() if picture.is_file() else b"",
    )


def _describe_run(config: ConfigDict, setup: Any) -> Mapping[str, Any]:
    """Returns the facts of model.json that the pipeline does not hold.

    The config has the fields of the network alone, and no paths of the user.
    """
    whole = config_to_json(config)
    return {
        "name": config.name,
        "task": config.task.name,
        "task_options": complete_spec(tasks, config, "task"),
        "converts_channels": config.predict.channels == "convert",
        "colours": [list(colour) for colour in setup.preprocessing["colours"]],
        "versions": {"jax": jax.__version__, "numpy": np.__version__},
        "preprocessing": dict(setup.preprocessing),
        "config": {name: whole[name] for name in NETWORK_FIELDS},
    }


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    for name, data in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _report(files: Files) -> None:
    """Prints a line for each format: its first file, the size, and the check."""
    name = next(iter(files.contents))
    size = sum(map(len, files.contents.values()))
    check = ""
    if files.difference is not None:
        check = f", differs by {files.difference:.1g} at most ({files.checked_by})"
    say(f"{name}: {size / 1e6:.1f} MB{check}")
