"""The weight map of the paper on nuclei, between which the background is thin."""

base = "configs/folder.py"
seeds = (0, 1, 2)
scores = (
    "test/average_precision(thresholds=(0.5,))",
    "test/average_precision",
    "test/dice",
)
STEPS = 400
fields = {
    "steps": STEPS,
    "eval_every": STEPS,
    "checkpoint_every": STEPS,
    "logs": (),
    "crop": (128, 128),
    "model.widths": (8, 16, 32, 64),
    "model.norm": "batch",
    "augment": ({"name": "flip"}, {"name": "turn"}),
    "metrics": (
        {"name": "average_precision", "thresholds": (0.5,)},
        {"name": "average_precision"},
        {"name": "dice"},
    ),
}


def points() -> dict[str, dict]:
    """Returns the weight between nuclei, with and without class weights."""
    border = {"name": "border", "sigma": 5.0}
    return {
        "uniform": {"weight_map": {"name": "uniform"}},
        **{
            f"w0_{w0}{'_balance' if balance else ''}": {
                "weight_map": {**border, "w0": float(w0), "balance": balance}
            }
            for balance in (False, True)
            for w0 in (0, 3, 10)
            if w0 or balance
        },
    }
