"""Few labelled slices: alone, with elastic deformation, or with unlabelled ones."""

base = "configs/isbi_semi.py"
seeds = (0, 1, 2)
scores = ("test/v_rand", "test/pixel_error")
STEPS = 400
fields = {
    "steps": STEPS,
    "eval_every": STEPS,
    "checkpoint_every": STEPS,
    "logs": (),
    "crop": (128, 128),
    "model.widths": (8, 16, 32, 64),
    "metrics": tuple({"name": n} for n in ("v_rand", "pixel_error", "v_info", "dice")),
}
SLICES = (1, 3, 6, 12, 18)
ALL = SLICES[-1]
SUPERVISED = {"method": {"name": "supervised"}, "ema": 0.99}
ELASTIC = (
    {"name": "flip"},
    {"name": "turn"},
    {"name": "elastic", "sigma": 10.0, "grid": 3},
)


def points() -> dict[str, dict]:
    """Returns the number of labelled slices and the scheme of each point."""
    supervised = {f"slices_{n}": {"data.labelled": n, **SUPERVISED} for n in SLICES}
    elastic = {
        f"{name}_elastic": {**point, "augment": ELASTIC}
        for name, point in supervised.items()
    }
    teacher = {
        f"slices_{n}_teacher": {
            "data.labelled": n,
            "method": {"name": "mean_teacher", "ramp_up": STEPS // 3},
        }
        for n in SLICES
        if n < ALL
    }
    return {**supervised, **elastic, **teacher}
