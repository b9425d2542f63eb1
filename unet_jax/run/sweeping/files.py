"""The files and folders that a sweep has in its folder, beside those of its runs."""

from pathlib import Path

from unet_jax.checkpoint import (
    CHECKPOINTS,
    FOLDS_FILE,
    JOURNAL,
    holds_folds,
    list_steps,
)
from unet_jax.errors import UserError
from unet_jax.run.run_config import CONFIG
from unet_jax.run.run_folder import PICTURE, REPORT, SCORES

LOGS = "logs"  # a file for each run
REPLACED = "replaced"  # the folders of runs that never completed
WORKERS = "workers"  # a file for each worker
LOCK = "sweep"  # Optuna appends .lock
RESULTS_CSV, RESULTS_MD, FIGURE = "results.csv", "results.md", "figure.svg"
RESERVED = {  # by the sweep, or by the scores of a cross-validation, or by a run
    *(JOURNAL, f"{JOURNAL}.lock", f"{LOCK}.lock", LOGS, REPLACED, WORKERS),
    *(RESULTS_CSV, RESULTS_MD, FIGURE),
    *(FOLDS_FILE, SCORES, REPORT, PICTURE, "predictions"),
    *(CONFIG, CHECKPOINTS),
}


def check_folder(workdir: Path, kind: str) -> None:
    """Raises UserError if the folder of a sweep holds something else."""
    if holds_folds(workdir) and kind == "sweep":
        raise UserError(
            f"{workdir} holds a cross-validation; continue it with --mode=crossval, or "
            "choose another --workdir for the sweep"
        )
    if list_steps(workdir) or (workdir / CONFIG).exists():
        raise UserError(
            f"{workdir} holds a run; choose another --workdir for the sweep"
        )
