"""Three labelled slices alone, and with fifteen that have no labels; three seeds."""

base = "configs/isbi_semi.py"
seeds = (0, 1, 2)
scores = ("test/dice/membrane", "test/pixel_error", "test/v_rand")
fields = {"steps": 500, "eval_every": 500, "checkpoint_every": 500}


def points() -> dict[str, dict]:
    """Returns the method of each point."""
    return {
        "supervised": {"method": {"name": "supervised"}, "ema": 0.99},
        "mean_teacher": {"method": {"name": "mean_teacher", "ramp_up": 200}},
    }
