"""Three labelled slices alone, and with fifteen that have no labels; three seeds."""

from collections.abc import Iterator

CONFIG = "configs/isbi_semi.py"
METHODS = {
    "supervised": {"method": "{'name':'supervised'}", "ema": "0.99"},
    "mean_teacher": {"method": "{'name':'mean_teacher','ramp_up':100}"},
}
SEEDS = (0, 1, 2)


def points() -> Iterator[tuple[str, dict[str, str]]]:
    """The name of each run and the fields that it sets."""
    for method, fields in METHODS.items():
        for seed in SEEDS:
            steps = {"steps": "300", "eval_every": "300", "checkpoint_every": "300"}
            yield f"{method}-{seed}", {"seed": str(seed), **steps, **fields}
