"""Three labelled slices alone, and with fifteen that have no labels; three seeds."""

from collections.abc import Iterator

CONFIG = "configs/isbi_semi.py"
METHODS = {
    "supervised": {"method": "{'name':'supervised'}", "ema": "0.99"},
    "mean_teacher": {"method": "{'name':'mean_teacher','ramp_up':200}"},
}
SEEDS = (0, 1, 2)
SHORT = {"steps": "500", "eval_every": "500", "checkpoint_every": "500"}


def points() -> Iterator[tuple[str, dict[str, str]]]:
    """The name of each run and the fields that it sets."""
    for seed in SEEDS:
        for method, fields in METHODS.items():
            yield f"{method}-{seed}", {"seed": str(seed), **SHORT, **fields}
