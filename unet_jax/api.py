"""Training and evaluation from Python and notebooks: `unet_jax.train` and others.

    config = unet_jax.load_config("isbi")
    config.steps = 2000
    scores = unet_jax.train(config, "runs/isbi")
    scores = unet_jax.evaluate("runs/isbi", tta="d4")

A mistake raises `unet_jax.errors.UserError`. If a run has several processes, each calls
`jax.distributed.initialize` first, and process 0 alone returns the scores.
"""

import json
import runpy
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unet_jax import command, run
from unet_jax.build.fields import from_plain
from unet_jax.errors import UserError
from unet_jax.run import run_folder
from unet_jax.run.scoring import Scores


def load_config(source: str | Path) -> ConfigDict:
    """Returns a config, whose fields may then be changed.

    Args:
      source: the name of a config that comes with this package, such as 'isbi', or a
        Python file with a function `get_config()`. 'saved:runs/isbi' is the config of a
        run folder.

    Raises:
      UserError: there is no such config.
    """
    file, argument = command.split_argument(command.find_config(str(source)))
    names = runpy.run_path(file)
    if "get_config" not in names:
        raise UserError(f"{file} has no function get_config()")
    return names["get_config"](*([argument[1:]] if argument else []))


def train(config: ConfigDict | str | Path, workdir: str | Path | None = None) -> Scores:
    """Trains a run, or continues it, and scores its best checkpoint on the test split.

    A finished run is not trained further, only scored again. The Stop button of a
    notebook saves a checkpoint first.

    Args:
      config: the config, or what `load_config` takes.
      workdir: the run folder; `runs/<config.name>` by default.

    Returns:
      The scores of the test split: 'test/dice' is that of all classes, 'test/dice/cell'
      that of one. None means undefined. `scores.json` in the run folder has more.

    Raises:
      UserError: the config or the folder is wrong, or a number is no longer finite.
      KeyboardInterrupt: the run was interrupted; the same call continues it.
      SystemExit: the run was stopped by SIGTERM; the same call continues it.
    """
    chosen = load_config(config) if isinstance(config, str | Path) else config
    workdir = Path(workdir or f"runs/{chosen.name}").expanduser()
    if code := run.train(chosen, workdir):
        interrupted = code == 128 + signal.SIGINT
        raise KeyboardInterrupt if interrupted else SystemExit(code)
    return _test_scores(workdir)


def evaluate(
    workdir: str | Path,
    *,
    metrics: Sequence[str | Mapping[str, Any]] | None = None,
    trust: bool = False,
    **options: Any,
) -> Scores:
    """Scores the best checkpoint of a run on the test split.

    It writes `scores.json` and `report.html` in the run folder again.

    Args:
      workdir: the run folder.
      metrics: names or specs that replace `config.metrics`. The best checkpoint stays
        the one that the run's first metric chose.
      trust: allows imports of the external code that the config of the run names.
      options: fields of `config.predict` that replace those of the run's config, such
        as `tta='d4'`.

    Returns:
      The scores of the test split, as `train` returns them.

    Raises:
      UserError: the folder holds no checkpoint, or an option is wrong.
    """
    workdir = Path(workdir).expanduser()
    config = load_config(f"saved:{workdir}")
    if metrics is not None:
        config.metrics = from_plain(
            [{"name": m} if isinstance(m, str) else dict(m) for m in metrics]
        )
    with config.predict.ignore_type():  # the build checks the types
        config.predict.update(options)
    run_folder.check_trusted(
        run_folder.read_config(workdir), workdir, trust=trust, used=config
    )
    run.evaluate(config, workdir)
    return _test_scores(workdir)


def _test_scores(workdir: Path) -> Scores:
    path = workdir / run_folder.SCORES
    content = json.loads(path.read_text()) if path.exists() else {}
    return {name: x for name, x in content.items() if name.startswith("test/")}
