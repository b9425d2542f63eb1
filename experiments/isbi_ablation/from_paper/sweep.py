"""From the paper's recipe to isbi_modern, one change after the other.

Each `path` keeps the changes of those before it; the last one is isbi_modern. Each
`paper` changes the weights, the learning rate or the norm of the paper's recipe alone.
All have about the same number of output pixels in a step, and the same width.
"""

base = "configs/isbi_modern.py"
seeds = (0, 1, 2)
scores = ("test/v_rand", "test/pixel_error", "val/v_rand", "val/pixel_error")
STEPS = 2000
fields = {
    "steps": STEPS,
    "eval_every": STEPS,
    "checkpoint_every": STEPS,
    "logs": (),
    "predict.tta": "none",
    "metrics": tuple({"name": n} for n in ("v_rand", "pixel_error", "v_info", "dice")),
}

ELASTIC = {"name": "elastic", "sigma": 10.0, "grid": 3}
ROTATION = {"name": "rotation", "degrees": 180.0}
SHIFT = {"name": "shift", "pixels": 10.0}
BRIGHTNESS = {"name": "brightness", "sigma": 0.2}
CONTRAST = {"name": "contrast", "low": 0.8, "high": 1.25}
BORDER = {"name": "border", "w0": 10.0, "sigma": 5.0, "balance": True}
SGD = {"name": "sgd", "learning_rate": 1e-3, "momentum": 0.99, "clip": 1.0}

# What the paper's recipe has instead, in the order in which it is replaced.
PAPER = {
    "padding": {"model.padding": "VALID", "crop": (572, 572), "batch_size": 1},
    "norm": {"model.norm": "none", "model.dropout": 0.5},
    "optimizer": {
        "optimizer": SGD,
        "schedule": {"name": "polynomial", "warmup": 100},
    },
    "weights": {"weight_map": BORDER},
    "augment": {"augment": (ELASTIC, ROTATION, SHIFT, BRIGHTNESS, CONTRAST)},
    "loss": {"loss": ({"name": "cross_entropy"},)},
    "levels": {"model.widths": (16, 32, 64, 128, 256)},
}

CHANGES = {
    "no_balance": {"weight_map": {**BORDER, "balance": False}},
    "no_border": {"weight_map": {**BORDER, "w0": 0.0}},
    "uniform": {"weight_map": {"name": "uniform"}},
    "rate_1e-4": {"optimizer": {**SGD, "learning_rate": 1e-4}},
    "rate_1e-2": {"optimizer": {**SGD, "learning_rate": 1e-2}},
    "rate_1e-2_uniform": {
        "optimizer": {**SGD, "learning_rate": 1e-2},
        "weight_map": {"name": "uniform"},
    },
    "norm": {"model.norm": "batch"},
}


def points() -> dict[str, dict]:
    """Returns the fields of each recipe."""
    path, left = {"path_0_paper": _join(PAPER)}, dict(PAPER)
    for i, part in enumerate(PAPER, 1):
        del left[part]
        path[f"path_{i}_{part}"] = _join(left)
    return {
        **path,
        **{f"paper_{name}": {**_join(PAPER), **x} for name, x in CHANGES.items()},
    }


def _join(parts: dict[str, dict]) -> dict:
    return {field: x for fields in parts.values() for field, x in fields.items()}
