"""The weight map of the paper on membranes, which lie between cells."""

base = "configs/isbi_modern.py"
seeds = (0, 1, 2)
scores = ("test/v_rand", "test/v_info", "test/pixel_error")
STEPS = 2000
fields = {
    "steps": STEPS,
    "eval_every": STEPS,
    "checkpoint_every": STEPS,
    "logs": (),
    "predict.tta": "none",
    "metrics": tuple({"name": n} for n in ("v_rand", "v_info", "pixel_error", "dice")),
}


def points() -> dict[str, dict]:
    """Returns the weight between objects, with and without class weights."""
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
