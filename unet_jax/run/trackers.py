"""Other programs that show the numbers of runs: TensorBoard, Weights & Biases.

`config.logs` names them. Each is a function of this module that opens a `Tracker`.
"""

import contextlib
import importlib
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import msgspec
import numpy as np
from ml_collections import ConfigDict

from unet_jax.errors import UserError
from unet_jax.json_file import read_json
from unet_jax.run import run_config, run_folder
from unet_jax.text import one_line

UPLOADING = ("wandb",)  # trackers that send numbers to a server
WANDB_FILE = "wandb.json"  # in a run folder; the id of its run in Weights & Biases


class Tracker(NamedTuple):
    """A program that shows the numbers of runs.

    Attributes:
      start: `(step)`; training starts or resumes after this step, and what was written
        about later steps is void.
      write_scalars: `(step, scalars)`, numbers by name.
      write_picture: `(step, name, picture u8[H, W, 3])`.
      write_test_scores: `(step, scores)`; the step is that of the checkpoint.
      close: `(*, failed)`; writes what is waiting. `failed` is True after an error.
      visible: True if the user sees the numbers at once, so that they are not printed.
    """

    start: Callable[[int], None]
    write_scalars: Callable[[int, Mapping[str, float]], None]
    write_picture: Callable[[int, str, np.ndarray], None]
    write_test_scores: Callable[[int, Mapping[str, float]], None]
    close: Callable[..., None]
    visible: bool = False


class _WandbRun(msgspec.Struct, forbid_unknown_fields=True):
    """The content of wandb.json."""

    id: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]


def check_installed(names: Sequence[str]) -> None:
    """Raises UserError if the package of a tracker is not installed."""
    if "wandb" in names:
        _import_wandb()


def _import_wandb() -> Any:
    try:
        module = importlib.import_module("wandb")
    except ImportError:
        module = None
    if not hasattr(module, "init"):  # Python imports a folder of this name, too
        raise UserError(
            "config.logs: the package wandb is not installed; run pip install "
            "'unet_jax[wandb]', or remove 'wandb'"
        )
    return module


@contextlib.contextmanager
def open_trackers(
    config: ConfigDict,
    workdir: Path,
    more: Sequence[Tracker] = (),
    *,
    upload: bool = True,
) -> Iterator[list[Tracker]]:
    """Opens the trackers that `config.logs` names, in process 0 only.

    Args:
      config: the config of the run.
      workdir: the run folder.
      more: trackers that are open already; they are closed with the others.
      upload: False to leave out those of `UPLOADING`. An evaluation does so, because
        the config may come from the run folder of a stranger.

    Raises:
      UserError: the package of a tracker is missing, or it cannot start.
    """
    opened = list(more)
    failed = True
    try:
        names = dict.fromkeys(config.logs if jax.process_index() == 0 else ())
        for name in [n for n in names if upload or n not in UPLOADING]:
            open_tracker = {"tensorboard": tensorboard, "wandb": wandb}[name]
            opened.append(open_tracker(workdir, run_config.config_to_json(config)))
        yield opened
        failed = False
    finally:
        for tracker in opened:
            tracker.close(failed=failed)


def tensorboard(workdir: Path, config: Mapping[str, Any]) -> Tracker:
    """Opens an event file of TensorBoard in the run folder."""
    with _without_torch():
        from tensorboardX import SummaryWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import hparams

    writer = SummaryWriter(str(workdir))
    file = writer.file_writer
    assert file is not None  # it is open

    def start(step: int) -> None:
        log = SessionLog(status=SessionLog.START)  # hides events from this step on
        file.add_event(Event(step=step + 1, session_log=log))

    def write_scalars(step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            writer.add_scalar(name, value, step)

    def write_picture(step: int, name: str, picture: np.ndarray) -> None:
        writer.add_image(name, picture, step, dataformats="HWC")

    def write_test_scores(step: int, scores: Mapping[str, float]) -> None:
        write_scalars(step, scores)
        whole = {name: x for name, x in scores.items() if name.count("/") < 2}
        # not SummaryWriter.add_hparams, which makes a run of its own of them
        for summary in hparams(flatten_config(config), whole):
            file.add_summary(summary)

    def close(*, failed: bool) -> None:
        writer.close()

    return Tracker(start, write_scalars, write_picture, write_test_scores, close)


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """Makes `import torch` fail in the context, unless PyTorch is already loaded.

    tensorboardX imports PyTorch wherever it is installed, which takes a second or more,
    and works without. Python documents None in `sys.modules` as the way to prevent an
    import.
    """
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore
    try:
        yield
    finally:
        del sys.modules["torch"]


def wandb(workdir: Path, config: Mapping[str, Any]) -> Tracker:
    """Starts a run in Weights & Biases, or resumes that of the run folder.

    The id is in wandb.json, beside the folder wandb/ with the files of the program. Its
    own environment variables choose the project and the mode, and log the user in.

    Raises:
      UserError: wandb.json is not valid, or the program does not start.
    """
    module = _import_wandb()
    try:
        run = module.init(
            project=os.environ.get("WANDB_PROJECT", "unet_jax"),
            id=_choose_wandb_id(workdir),
            name=workdir.resolve().name,
            dir=str(workdir),
            config=dict(config),
            resume="allow",
            allow_val_change=True,  # some fields may change in a resumed run
        )
    except UserError:
        raise
    except Exception as error:  # of several types without a common base
        raise UserError(
            f"config.logs: Weights & Biases does not start ({one_line(error)}); run "
            "wandb login, set WANDB_MODE=offline, or remove 'wandb'"
        ) from error
    # Their own count of steps cannot go back, and a resumed run may repeat steps.
    run.define_metric("step")
    run.define_metric("*", step_metric="step")

    def write_scalars(step: int, scalars: Mapping[str, float]) -> None:
        run.log({"step": step, **scalars})

    def write_picture(step: int, name: str, picture: np.ndarray) -> None:
        run.log({"step": step, name: module.Image(picture)})

    return Tracker(
        start=lambda step: None,
        write_scalars=write_scalars,
        write_picture=write_picture,
        write_test_scores=lambda step, scores: run.summary.update(dict(scores)),
        close=lambda *, failed: run.finish(exit_code=int(failed)),
    )


def _choose_wandb_id(workdir: Path) -> str:
    """Returns the id in wandb.json, or writes a new one."""
    path = workdir / WANDB_FILE
    if not path.exists():
        run_folder.write_json(path, {"id": secrets.token_hex(8)})
    remedy = "delete the file to start another run in Weights & Biases"
    return read_json(path, _WandbRun, remedy).id


def flatten_config(value: Any, name: str = "") -> dict[str, str | bool | int | float]:
    """Returns the fields of a config by their names on the command line.

    `{"loss": [{"name": "dice"}], "crop": [64, 64]}` gives `loss[0].name` and `crop`,
    the string "64, 64".
    """
    if isinstance(value, Mapping):
        items = {f"{name}.{k}".lstrip("."): v for k, v in value.items()}
    elif isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
        items = {f"{name}[{i}]": v for i, v in enumerate(value)}
    elif isinstance(value, list):
        return {name: ", ".join(map(str, value))}
    else:
        return {} if value is None else {name: value}
    flat: dict[str, str | bool | int | float] = {}
    for key, inner in items.items():
        flat |= flatten_config(inner, key)
    return flat
