"""Training and evaluation from Python and notebooks: `unet_jax.train` and others.

    config = unet_jax.load_config("isbi")
    config.steps = 2000
    scores = unet_jax.train(config, "runs/isbi")
    scores = unet_jax.evaluate("runs/isbi", tta="d4")

A mistake raises `unet_jax.errors.UserError`. If a run has several processes, each calls
`jax.distributed.initialize` first, and process 0 alone returns the scores.
"""

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unet_jax import command, compilation_cache, run
from unet_jax.build.fields import from_plain
from unet_jax.json_file import read_json
from unet_jax.run import provenance, run_config, run_folder
from unet_jax.run.scoring import Scores


def load_config(source: str | Path, *, trust: bool = False) -> ConfigDict:
    """Returns a config, whose fields may then be changed.

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
    return config


def train(
    config: ConfigDict | str | Path,
    workdir: str | Path | None = None,
    *,
    trust: bool = False,
) -> Scores:
    """Trains a run, or continues it, and scores its best checkpoint on the test split.

    A finished run is not trained further, only scored again. The Stop button of a
    notebook saves a checkpoint first.

    Args:
      config: the config, or what `load_config` takes.
      workdir: the run folder; `runs/<config.name>` by default.
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
    if isinstance(config, str | Path):
        file, chosen = str(config), load_config(config, trust=trust)
    else:
        file, chosen = None, config
    workdir = Path(workdir or f"runs/{chosen.name}").expanduser()
    compilation_cache.enable()
    with provenance.use_config_source(file and command.name_config(file), chosen):
        code = run.train(chosen, workdir)
    if code:
        interrupted = code == 128 + signal.SIGINT
        raise KeyboardInterrupt if interrupted else SystemExit(code)
    return _test_scores(workdir)


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
