"""A sweep whose runs are stubs: a few lines of Python instead of a training."""

import csv

from unet_jax.build.sweep_file import Point, Sweep
from unet_jax.run.sweeping import presence, study
from unet_jax.run.sweeping.plan import plan_sweep

STUB = """
import json, pathlib, signal, sys, time
flags = dict(argument.split("=", 1) for argument in sys.argv[1:])
folder = pathlib.Path(flags["--workdir"])
folder.mkdir(exist_ok=True)
with (folder / "starts").open("a") as file:
    file.write("started\\n")
name, rate = folder.name, float(flags["--config.optimizer.learning_rate"])
seed = int(flags.get("--config.seed", 0))
if name.startswith("fail"):
    sys.exit("error: the disk is full")
scores = [rate * step + seed for step in (1, 2)]
metrics = folder / "metrics.jsonl"
with metrics.open("w") as file:
    for step, score in enumerate(scores, 1):
        row = {"step": step, "seconds": 30 * step, "val/dice": score}
        file.write(json.dumps(row) + "\\n")
def save(*_):
    (folder / "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
if "slow" in name and not (folder / "saved").exists() or rate < 1:
    time.sleep(60)
scores = {"step": 2, "test/dice": 10 * rate + seed, "test/loss": 1 / rate}
(folder / "scores.json").write_text(json.dumps(scores))
"""
RATE = "optimizer.learning_rate"


def make_sweep(**changes):
    rates = {"low": 1.0, "high": 2.0}
    points = tuple(Point(name, {RATE: rate}) for name, rate in rates.items())
    sweep = Sweep("quickstart", points, scores=("test/dice", "test/loss"))
    return sweep._replace(**changes)


def count_starts(folder):
    return (folder / "starts").read_text().count("started")


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def abandon_a_run(sweep, config, folder):
    """Takes a run as a worker that is then killed."""
    folder.mkdir()
    plan = plan_sweep(sweep, config, folder)
    with presence.announce(folder) as present:
        claim = study.Study(plan, folder, present).claim()
        assert claim is not None
        left = (folder / "workers" / present.name).read_bytes()
    (folder / "workers" / present.name).write_bytes(left)
    return claim, folder / "workers" / present.name
