"""The benchmark of experiments/against_peers: its scores, its clock and its tables."""

import csv
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from unet_jax import metrics
from unet_jax.metrics.metric import EvaluatedImage

FOLDER = Path(__file__).parents[1] / "experiments/against_peers"
MODULES = ("budget", "contender", "data", "measure", "peers", "score")


@pytest.fixture(autouse=True)
def _modules(monkeypatch):
    """Makes the files of the experiment importable, for one test."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    yield
    for name in list(sys.modules):
        if name.partition(".")[0] in MODULES:
            del sys.modules[name]


def draw_membranes(seed):
    """Returns the truth of cells (1) between membranes, and a noisy probability."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 96, (30, 2))
    y, x = np.mgrid[:96, :96]
    distance = np.sort(np.hypot(*(points.T[:, :, None, None] - [[y], [x]])), axis=0)
    gap = distance[1] - distance[0]  # 0 half-way between two points
    noise = ndimage.gaussian_filter(rng.normal(size=gap.shape), 2) * 8
    return (gap > 2).astype(np.int32), 1 / (1 + np.exp(2 - gap - noise))


def evaluate(truth, probability, objects=None, true_objects=None):
    """Returns the record that the metrics of unet_jax measure."""
    return EvaluatedImage(
        spacing=(1.0, 1.0),
        truth=truth,
        prediction=(probability > 0.5).astype(np.int32),
        probabilities=np.stack([1 - probability, probability], -1),
        true_objects=true_objects,
        objects=objects,
    )


def compute(metric, images):
    return metric.score(sum(metric.measure(image) for image in images))


def test_membranes_are_scored_as_by_unet_jax():
    import score

    pairs = [draw_membranes(seed) for seed in range(3)]
    images = [evaluate(*pair) for pair in pairs]
    scores = score.score_membranes(*zip(*pairs, strict=True))
    assert 0.5 < scores["v_rand"] < 0.99  # not a trivial case
    # scikit-image counts pairs of different pixels, and its lines may lie elsewhere
    for name, tolerance in (("v_rand", 5e-3), ("v_info", 5e-3), ("pixel_error", 1e-9)):
        expected = compute(getattr(metrics, name)(), images).overall
        assert scores[name] == pytest.approx(expected, abs=tolerance)


def test_perfect_and_empty_membranes():
    import score

    truth, _ = draw_membranes(0)
    perfect = score.score_membranes([truth], [truth.astype(float)])
    assert perfect["v_rand"] == pytest.approx(1)
    assert perfect["v_info"] == pytest.approx(1)
    assert perfect["pixel_error"] == 0
    empty = score.score_membranes([truth], [np.zeros(truth.shape)])
    assert empty["v_rand"] == pytest.approx(0)  # each pixel is a segment
    assert empty["pixel_error"] == pytest.approx(truth.mean())


def test_nuclei_are_scored_as_by_unet_jax():
    import score

    truths, found, images = [], [], []
    for seed in range(3):
        label, probability = draw_membranes(seed)
        truths.append(ndimage.label(label)[0])
        found.append(ndimage.label(probability > 0.5)[0])
        images.append(evaluate(label, probability, found[-1], truths[-1]))
    ap = score.score_average_precision(truths, found)
    assert 0 < ap.mean() < 1
    expected = compute(metrics.average_precision(), images).overall
    assert ap.mean() == pytest.approx(expected, abs=1e-12)


def test_touching_nuclei_are_divided():
    import score

    y, x = np.mgrid[:40, :60]
    discs = [np.hypot(y - 20, x - centre) < 12 for centre in (20, 40)]
    divided = score.divide_nuclei(discs[0] | discs[1])
    assert divided.max() == 2
    assert divided[20, 20] != divided[20, 40]


def test_dice_is_pooled_over_images():
    import score

    truths = [np.array([0, 1, 1, 2]), np.array([0, 0, 0, 1])]
    labels = [np.array([0, 1, 0, 2]), np.array([0, 0, 0, 1])]
    found = score.score_dice(truths, labels, ("a", "b", "c"))
    assert found == {"dice_a": 8 / 9, "dice_b": 4 / 5, "dice_c": 1}


def test_the_schedule_is_over_the_steps():
    from budget import Budget, decay_cosine, decay_polynomial

    assert list(Budget(4)) == [0, 0.25, 0.5, 0.75]
    assert [decay_cosine(p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert [decay_polynomial(p) for p in (0, 0.5, 1)] == [1, 0.5**0.9, 0]


def test_the_speed_leaves_out_the_first_steps():
    from budget import Budget

    times = iter([10.0, 25.0, 27.0, 28.0, 29.0])  # the start, and the ends of steps
    budget = Budget(100, seconds=19, clock=lambda: next(times))
    assert len(list(budget)) == 4  # 19 s are over
    speed = budget.find_speed()
    assert speed == (15, 1)  # two steps took 17 s instead of 2
    assert speed.count_steps(minutes=1) == 45
    assert speed.count_steps(minutes=0.1) == 1


def test_the_speed_of_unet_jax_has_compilation():
    from peers import ours

    # 5 steps are logged at a time; the first ones are over 14 s after the beginning
    assert ours.find_speed(100.0, [114.0, 116.0, 118.0]) == (12.0, 0.4)


def test_each_recipe_of_unet_jax_has_its_contender():
    from contender import CONTENDERS
    from peers import ours

    named = {
        (name, data)
        for name, (module, sets) in CONTENDERS.items()
        for data in sets
        if module == "ours"
    }
    assert named == set(ours.RECIPES)


@pytest.mark.slow
def test_views_are_undone():
    pytest.importorskip("torch")
    from peers import torch_loop

    image = np.arange(24.0).reshape(1, 4, 6)
    average = torch_loop.average_views(lambda view: 2 * view, image)
    np.testing.assert_array_equal(average, 2 * image)


@pytest.mark.slow
def test_a_contender_trains_and_is_scored(tmp_path):
    pytest.importorskip("torch")
    import data
    import score

    for split in data.SPLITS:
        (tmp_path / "isbi" / split).mkdir(parents=True)
        label, probability = draw_membranes(len(split))
        image = np.uint8(255 * probability)[..., None]
        arrays = {"id": split, "image": image, "label": label}
        np.savez(tmp_path / "isbi" / split / "000.npz", **arrays)
    (tmp_path / "isbi/classes.txt").write_text("membrane\ncell")
    arguments = "torch", tmp_path / "isbi", "0", tmp_path / "run", "--cores=0"
    command = [sys.executable, FOLDER / "contender.py", *arguments, "--steps=2"]
    subprocess.run(command, check=True, timeout=300)
    scores = score.score_run(data.read(tmp_path / "isbi"), tmp_path / "run")
    for suffix in ("", "_views"):
        assert 0 < scores[f"v_rand{suffix}"] <= 1
        assert 0 <= scores[f"pixel_error{suffix}"] < 1


def test_arrays_of_another_folder_are_not_used(tmp_path):
    import data

    (tmp_path / "cache/isbi").mkdir(parents=True)
    (tmp_path / "cache/isbi/source.txt").write_text(str(tmp_path))
    data.write("isbi", tmp_path, tmp_path / "cache")  # these are there already
    with pytest.raises(SystemExit, match="was made of .*; take other --runs"):
        data.write("isbi", tmp_path / "other", tmp_path / "cache")


def test_a_finished_run_is_not_repeated(tmp_path):
    import measure

    table = tmp_path / "results-isbi.csv"
    run = measure.Run("isbi", "torch", 5.0, 1)._asdict()
    assert measure.find_row(table, run) is None
    key = {"contender": "torch", "minutes": 5, "seed": 1}
    measure.add_row(table, {**key, "v_rand": 0.9})
    measure.add_row(table, {**key, "seed": 2, "v_rand_views": 0.8})
    row = measure.find_row(table, run)
    assert row is not None
    assert row["v_rand"] == "0.9"
    assert measure.find_row(table, {**run, "minutes": 0.5}) is None
    with table.open(newline="") as file:
        assert [row["v_rand_views"] for row in csv.DictReader(file)] == ["", "0.8"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "no data set; give its folder, such as --isbi=DIR"),
        (["--isbi=absent"], "--isbi: there is no folder absent"),
        (["--isbi=.", "--contenders=unet"], "--contenders: no unet; there are modern"),
        (["--isbi=.", "--minutes=two"], "--minutes: numbers with commas between them"),
        (["--isbi=.", "--minutes=0"], "--minutes: budgets are above 0"),
    ],
)
def test_wrong_options_are_one_line(flags, message, monkeypatch, capsys):
    import measure

    monkeypatch.setattr(sys, "argv", ["measure.py", *flags])
    with pytest.raises(SystemExit) as stop:
        measure.main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("jobs", [1, 2])
def test_runs_share_the_cores(jobs, monkeypatch):
    import measure

    monkeypatch.setattr(measure.os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert measure._share_cores(jobs) == [[[0, 1, 2]], [[0, 2], [1]]][jobs - 1]


def test_a_failure_leaves_the_other_runs(tmp_path, monkeypatch, capsys):
    import measure

    def run(command, **options):
        failed = "stdout" in options and "smp" in command  # git and data.py succeed
        if "torch" in command and "--steps=150" not in command:  # its speed
            (Path(command[5]) / "speed.json").write_text(
                '{"before": 0, "step": 0.4, "preparation": 0}'
            )
        if failed:
            options["stdout"].write("it broke\n")
        return SimpleNamespace(returncode=int(failed), stdout="")

    monkeypatch.setattr(measure.subprocess, "run", run)
    monkeypatch.setattr(measure, "read", lambda _: None)
    monkeypatch.setattr(measure, "score_run", lambda *_: {"v_rand": 0.9})
    flags = [f"--isbi={tmp_path}", "--minutes=1", "--contenders=torch,smp"]
    folders = [f"--runs={tmp_path}/runs", f"--output={tmp_path}/out"]
    monkeypatch.setattr(sys, "argv", ["measure.py", *flags, *folders])
    with pytest.raises(SystemExit) as stop:
        measure.main()
    assert stop.value.code == 1
    text = capsys.readouterr().out
    assert text.count("it broke") == 1
    assert "isbi: torch, 1 minutes, seed 0: 150 steps" in text
    assert "failed: smp on isbi, 1 minutes" in text
    [row] = measure.read_table(tmp_path / "out/results-isbi.csv")
    assert (row["contender"], row["steps"], row["v_rand"]) == (
        "torch",
        "150",
        "0.90000",
    )
