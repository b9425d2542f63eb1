"""Training and evaluation from Python and notebooks: `unet_jax.train` and others.

    config = unet_jax.load_config("isbi")
    config.steps = 2000
    scores = unet_jax.train(config, "runs/isbi")
    scores = unet_jax.evaluate("runs/isbi", tta="d4")

    config = unet_jax.load_config("folder")
    config.data.root = "my_images"
    plan = unet_jax.inspect(config, "runs/mine")
    scores = unet_jax.train(plan)

A mistake raises `unet_jax.errors.UserError`. If a run has several processes, each calls
`jax.distributed.initialize` first, and process 0 alone returns the scores.
"""

import signal
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unet_jax import command, compilation_cache, notebook, run
from unet_jax.build.fields import from_plain
from unet_jax.build.locked_config import LockedConfig, lock_fields
from unet_jax.errors import UserError
from unet_jax.json_file import read_json
from unet_jax.run import provenance, run_config, run_folder
from unet_jax.run.inspect import PAGE, PLAN
from unet_jax.run.scoring import Scores


def load_config(source: str | Path, *, trust: bool = False) -> LockedConfig:
    """Returns a config, whose fields may then be changed.

    A field that does not exist, or a value of another type, is refused when it is set.
    The keys of specs are checked when the config is used.

    Args:
      source: the name of a config that comes with this package, such as 'isbi', or a
        Python file with a function `get_config()`. 'saved:runs/isbi' is the config of a
        run folder.
      trust: allows what the config of a run folder names outside of it: external code,
        and folders that the data set writes.

    Raises:
      UserError: there is no such config, or it is that of a run folder and names
        something outside of it.
    """
    config = command.load_config(str(source))
    if folder := command.find_run_folder(command.find_config(str(source))):
        run_config.check_trusted(config, folder, trust=trust)
    return lock_fields(config)


def train(
    config: ConfigDict | str | Path,
    workdir: str | Path | None = None,
    *,
    live: bool = True,
    trust: bool = False,
) -> Scores:
    """Trains a run, or continues it, and scores its best checkpoint on the test split.

    A finished run is not trained further, only scored again. A notebook shows curves
    and predictions while the run trains; its Stop button saves a checkpoint first.

    Args:
      config: the config, or what `load_config` takes.
      workdir: the run folder; `runs/<config.name>` by default.
      live: False to print lines of numbers in a notebook instead.
      trust: as in `load_config`.

    Returns:
      The scores of the test split: 'test/dice' is the mean over the classes that count,
      'test/dice/cell' the score of one. None means undefined. `scores.json` in the run
      folder has more.

    Raises:
      UserError: the config or the folder is wrong, or a number is no longer finite.
      KeyboardInterrupt: the run was interrupted; the same call continues it.
      SystemExit: the run was stopped by SIGTERM; the same call continues it.
    """
    file, chosen, workdir = _open_config(config, workdir, trust=trust)
    trackers = []
    if live and notebook.is_running():
        from unet_jax.run.live_figure import live_figure  # late: loads matplotlib

        trackers = [live_figure(workdir)]
    with provenance.use_config_source(file, chosen):
        code = run.train(chosen, workdir, trackers)
    if code:
        interrupted = code == 128 + signal.SIGINT
        raise KeyboardInterrupt if interrupted else SystemExit(code)
    return _test_scores(workdir)


def inspect(
    config: ConfigDict | str | Path,
    workdir: str | Path | None = None,
    *,
    keep: Collection[str] = (),
    trust: bool = False,
) -> Path | None:
    """Reads a whole data set, reports what it holds, and plans the training.

    The findings are printed and written to `inspect.html`, which a notebook also shows.
    The plan is a config whose sizes suit the images and this machine. Measuring it
    takes up to `config.plan.seconds`.

    Args:
      config: the config, or what `load_config` takes.
      workdir: the folder to write to; `runs/<config.name>` by default.
      keep: fields whose values the plan does not change, such as `['crop']`.
      trust: as in `load_config`.

    Returns:
      The file of the plan, for `load_config` and `train`; None if `config.plan.seconds`
      is 0.

    Raises:
      UserError: the data have errors, a field of the config is wrong, or no plan is
        possible.
    """
    file, chosen, workdir = _open_config(config, workdir, trust=trust)
    with provenance.use_config_source(file, chosen):
        code = run.inspect(chosen, workdir, given=keep)
    if notebook.is_running():
        notebook.show_page(workdir / PAGE)
    if code:
        raise UserError(
            f"the data have errors, which are listed above and in {workdir / PAGE}; "
            "correct them and inspect the data again"
        )
    return workdir / PLAN if chosen.plan.seconds else None


def _open_config(
    config: ConfigDict | str | Path, workdir: str | Path | None, *, trust: bool
) -> tuple[str | None, ConfigDict, Path]:
    """Returns the name of the config file if there is one, the config, the run folder.

    It also makes JAX keep what is compiled from now on.
    """
    file = None
    if isinstance(config, str | Path):
        file = command.name_config(str(config))
        config = load_config(config, trust=trust)
    compilation_cache.enable()
    return file, config, Path(workdir or f"runs/{config.name}").expanduser()


def evaluate(
    workdir: str | Path,
    *,
    metrics: Sequence[str | Mapping[str, Any]] | None = None,
    ensemble: Sequence[str | Path] = (),
    trust: bool = False,
    **options: Any,
) -> Scores:
    """Scores the best checkpoint of a run on the test split.

    It writes `scores.json` and `report.html` in the run folder again, or
    `scores-ensemble.json` and `report-ensemble.html`.

    Args:
      workdir: the run folder.
      metrics: names or specs that replace `config.metrics`. The best checkpoint stays
        the one that the run's first metric chose.
      ensemble: more run folders; the mean of the predictions of all runs is scored.
      trust: as in `load_config`.
      options: fields of `config.predict` that replace those of the run's config, such
        as `tta='d4'`.

    Returns:
      The scores of the test split, as `train` returns them.

    Raises:
      UserError: a folder holds no checkpoint, an option is wrong, or the runs do not
        fit together.
    """
    workdir = Path(workdir).expanduser()
    compilation_cache.enable()
    saved, config = (command.load_config(f"saved:{workdir}") for _ in range(2))
    if metrics is not None:
        config.metrics = from_plain(
            [{"name": m} if isinstance(m, str) else dict(m) for m in metrics]
        )
    with config.predict.ignore_type():  # the build checks the types
        config.predict.update(options)
    run_config.check_trusted(
        run_config.read_config(workdir), workdir, trust=trust, used=config
    )
    with provenance.use_config_source(f"saved:{workdir}", saved):
        run.evaluate(config, workdir, ensemble=[str(folder) for folder in ensemble])
    name = run_folder.SCORES
    return _test_scores(
        workdir, run_folder.name_ensemble_file(name) if ensemble else name
    )


def _test_scores(workdir: Path, name: str = run_folder.SCORES) -> Scores:
    path = workdir / name
    if not path.exists():
        return {}
    content = read_json(path, dict[str, Any], "evaluate the run again")
    return {name: x for name, x in content.items() if name.startswith("test/")}
