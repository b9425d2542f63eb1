"""Inspections of reports and records whose numbers are known."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_jax import pictures
from unet_jax.build import dataset
from unet_jax.data import folder
from unet_jax.data.dataset_report import DatasetReport, Issue
from unet_jax.data.record import measure_record
from unet_jax.data.source import Source, Splits
from unet_jax.errors import UserError
from unet_jax.report import formatting
from unet_jax.run import inspect
from unet_jax.run.inspection import examples, statistics
from unet_jax.run.planning.planner import TrainingPlan
from unet_jax.run.planning.rules import PlannedField

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(6)
verb = importlib.import_module("unet_jax.run.inspect")


@pytest.fixture
def planned(monkeypatch):
    """A stand-in for the plan, which compiles a step; returns how often it was made."""
    made = []

    def plan(config, report, splits, given):
        made.append(report.root)
        planned = PlannedField("crop", (16, 16), "the median image is 20 x 24")
        return TrainingPlan(config, (planned,), 2**20, 30.0, "1 x abacus")

    monkeypatch.setattr(verb.planner, "plan_training", plan)
    monkeypatch.setattr(verb.planner, "format_plan", lambda plan, title: f"# {title}\n")
    return made


def record(split, name, image, label, **more):
    record = {"id": name, "image": np.asarray(image, np.uint8)[..., None]}
    return measure_record(
        record | {"label": np.asarray(label, np.int32)}, split, **more
    )


def report(**changes):
    """Two images of four pixels to learn from and one, all background, to test."""
    records = (
        record("train", "a", [[0, 8], [0, 8]], [[0, 1], [-1, 1]], values={"255": 2}),
        record("train", "b", [[9, 9], [0, 0]], [[0, 0], [0, 1]], values={"255": 1}),
        record("test", "c", [[1, 1, 4]], [[0, 0, 0]], kind="png", values={"0": 3}),
    )
    classes = ("soil", "root")
    return DatasetReport("plot", classes, (("0", 0), ("255", 1)), records)._replace(
        **changes
    )


def source(records, name="plot"):
    def load(index):
        shape = (*records[index].shape, 1)
        label = np.zeros(shape[:-1], np.int32)
        return {"id": records[index].id, "image": np.zeros(shape, "u1"), "label": label}

    colours = ((0, 0, 0), (200, 0, 0))
    return Source(name, ("soil", "root"), colours, 1, len(records), load)


def splits(found):
    chosen = {
        split: source([r for r in found.records if r.split == split])
        for split in ("train", "val", "test")
    }
    return Splits(**chosen, report=found)


@pytest.fixture
def of(monkeypatch, tiny, tmp_path, capsys):
    """The exit code, the terminal, the JSON data and the page of a report."""

    def run(found):
        monkeypatch.setattr(verb, "survey_splits", lambda config, split: splits(found))
        code = inspect(tiny, tmp_path)
        data = json.loads((tmp_path / "inspect.json").read_text())
        page = (tmp_path / "inspect.html").read_text()
        return code, capsys.readouterr().out, data, page

    return run


def test_the_numbers_of_an_account(of, planned):
    code, said, data, page = of(report())
    assert code == 0
    train, test = data["splits"]["train"], data["splits"]["test"]
    assert train["shapes"] == {"2 x 2": 2}
    assert test["shapes"] == {"1 x 3": 1}
    assert test["formats"] == {"png": 1}
    soil, root = train["classes"]
    assert (soil["pixels"], soil["images"]) == (4, 2)
    assert (root["pixels"], root["images"]) == (3, 2)
    assert root["share"] == pytest.approx(3 / 7)
    assert train["ignored"] == 1 / 8
    assert (train["empty"], test["empty"]) == ([], ["c"])
    values = [
        (v["value"], v["id"], v["name"], v["pixels"]) for v in data["mask_values"]
    ]
    assert values == [("0", 0, "soil", 3), ("255", 1, "root", 3)]
    assert data["channels"][0][0] == 0
    assert data["channels"][0][-1] == 9
    assert [image["id"] for image in data["images"]] == ["a", "b", "c"]
    assert "thumbnail" not in data["images"][0]
    for words in (said, page):
        assert "42.9 %" in words
        assert "the median image is 20 x 24" in words
    assert page.count("<img ") == 3


def test_the_plan_is_written_beside_and_named(of, planned, tmp_path):
    _, said, data, page = of(report())
    command = f"python main.py --config={tmp_path}/plan.py"
    assert f"train it with: {command}\n" in said
    assert command in page
    assert data["plan"]["choices"] == [
        ["crop", "(16, 16)", "the median image is 20 x 24"]
    ]
    assert (tmp_path / "plan.py").read_text() == "# plot\n"


def test_errors_are_all_told_first_and_there_is_no_plan(of, planned, tmp_path):
    issues = (
        Issue("warning", "empty", "c.png has no root"),
        Issue("error", "size", "a.png is 2 x 2, its mask 2 x 3"),
        Issue("error", "unreadable", "<b>.png is no PNG"),
        Issue("error", "size", "d.png is 9 x 9, its mask 1 x 1"),
    )
    code, said, data, page = of(report(issues=issues, decisions=("0 is soil",)))
    assert code == 1
    assert planned == []
    assert not (tmp_path / "plan.py").exists()
    assert said.splitlines()[:9] == [
        "plot: 3 errors and 1 warning",
        "error: size",
        "  a.png is 2 x 2, its mask 2 x 3",
        "  d.png is 9 x 9, its mask 1 x 1",
        "error: unreadable",
        "  <b>.png is no PNG",
        "warning: empty",
        "  c.png has no root",
        "decisions",
    ]
    assert data["issues"][1] == issues[1]._asdict()
    assert (data["errors"], data["warnings"], data["plan"]) == (3, 1, None)
    assert "&lt;b&gt;.png is no PNG" in page


def test_the_data_are_checked_and_written_before_the_plan(of, monkeypatch, tmp_path):
    def plan(config, report, splits, given):
        data = json.loads((tmp_path / "inspect.json").read_text())
        assert data["splits"]["train"]["images"] == 2
        assert data["plan"] is None
        assert "42.9 %" in (tmp_path / "inspect.html").read_text()
        raise KeyboardInterrupt  # who does not want a plan loses nothing

    monkeypatch.setattr(verb.planner, "plan_training", plan)
    with pytest.raises(KeyboardInterrupt):
        of(report())


def test_zero_seconds_make_no_plan(of, planned, tiny, tmp_path):
    tiny.plan.seconds = 0.0
    code, said, data, _ = of(report())
    assert (code, planned, data["plan"]) == (0, [], None)
    assert said.endswith(f"wrote {tmp_path}/: inspect.json, inspect.html\n")


def test_images_without_labels_have_no_row_about_the_foreground():
    pixels = {"id": "a", "image": np.zeros((4, 4, 1)), "target": np.zeros((4, 4, 1))}
    targets = report(records=(measure_record(pixels, "train"),), classes=())
    of_splits = statistics.split_statistics(targets)
    assert "without foreground" not in dict(formatting.split_rows(of_splits))


def test_the_tables_of_eleven_classes_are_read_at_80_columns(of, planned):
    """The shapes, the classes and the mask values of street scenes, as in CamVid."""
    classes = ("Sky", "Column-Pole", "SignSymbol", *(f"class {k}" for k in range(8)))
    ids = np.arange(11)[:, None] + np.zeros((1, 9), int)
    records = [
        record(split, f"{split}{k}", ids, ids, values=dict.fromkeys(values, 9000))
        for values in [[f"{9 * c},128,{c}" for c in range(11)]]
        for split in ("train", "val", "test")
        for k in range(3)
    ]
    records = [r._replace(shape=(360 + i, 480 + i)) for i, r in enumerate(records)]
    label_map = tuple((value, k) for k, value in enumerate(records[0].values))
    decision = "mask values: " + ", ".join(f"{v} is {classes[k]}" for v, k in label_map)
    changes = {"records": tuple(records), "label_map": label_map}
    _, said, _, _ = of(report(classes=classes, decisions=(decision,), **changes))
    data, command = said.split("train it with: ")
    lines = [line for line in data.splitlines() if not line.startswith("wrote ")]
    assert max(map(len, lines)) <= 80
    for k, name in enumerate(classes):
        (row,) = (line for line in data.splitlines() if line.startswith(f"{name}  "))
        assert len(re.findall(r"\d %", row)) == 4  # train, val, test, all
        assert f"{9 * k},128,{k} -> {k} {name} (81,000)" in data  # in one line
    assert command.startswith("python main.py --config=/")


def test_without_known_classes_no_row_is_about_them(of, planned):
    """The values are measured and stay in inspect.json, sorted as numbers."""
    values = {"10": 1, "9": 2, "100": 3}
    found = report().records[0]._replace(pixels={}, values=values)
    changes = {"classes": ("vine", "leaf"), "label_map": ()}
    unclear = report(records=(found,), issues=(Issue("error", "a", "b"),), **changes)
    code, said, data, page = of(unclear)
    assert code == 1
    for words in (said, page):
        assert "images" in words
        for absent in ("without foreground", "vine", "mask values", "Classes"):
            assert absent not in words.replace("Mask", "mask")
    train = data["splits"]["train"]
    assert (train["classes"], train["empty"], train["images"]) == (None, None, 1)
    assert [(v["value"], v["pixels"]) for v in data["mask_values"]] == [
        ("9", 2),
        ("10", 1),
        ("100", 3),
    ]
    assert {(v["id"], v["name"]) for v in data["mask_values"]} == {(None, None)}


def test_the_terminal_lists_twenty_mask_values_sorted_as_numbers(of, planned):
    values = {str(value): 1 for value in range(124, -1, -1)}
    first = report().records[0]._replace(values=values)
    label_map = (("0", 0), ("1", 1))
    _, said, data, _ = of(report(records=(first,), label_map=label_map))
    said = " ".join(said.split())
    assert "mask values: 0 -> 0 soil (1), 1 -> 1 root (1), 2 -> ? none (1), 3" in said
    assert "19 -> ? none (1), and 105 more" in said
    assert [v["value"] for v in data["mask_values"]] == [str(v) for v in range(125)]


def test_of_a_large_image_only_the_shown_pixels_are_loaded(monkeypatch, tmp_path):
    monkeypatch.setattr(examples, "LARGE", 100)
    image = np.arange(40 * 800, dtype=np.uint16).reshape(40, 800)
    mask = (image % 6 // 3).astype(np.uint8) * 255
    tifffile.imwrite(tmp_path / "i.tif", image)
    tifffile.imwrite(tmp_path / "m.tif", mask)
    stats = record("train", "a", image, mask // 255)._replace(
        image="i.tif", mask="m.tif", values={"0": 1, "255": 1}
    )
    found = report(root=str(tmp_path), records=(stats,))
    thin = examples._load_thin(stats, found)
    np.testing.assert_array_equal(thin["image"][..., 0], image[::3, ::3])
    np.testing.assert_array_equal(thin["label"], mask[::3, ::3] // 255)

    def load(_):
        raise AssertionError("the whole record")

    made = splits(found)
    made = made._replace(train=made.train._replace(load=load))
    (example,) = examples.draw_examples(made, found)
    assert example.caption.startswith("40 x 800")


def test_large_files_are_read_as_the_records_are(monkeypatch, tmp_path):
    """The palette of the masks has the colours of the label map, one of them grey."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for i in range(10):
        image = RNG.integers(0, 255, (2, 24, 20), np.uint8)
        path = tmp_path / f"images/{i}.tif"
        tifffile.imwrite(path, image, photometric="minisblack")
        mask = Image.fromarray((image[0] % 3).astype(np.uint8))
        mask.putpalette([255, 0, 0, 7, 7, 7, 0, 0, 255])
        mask.save(tmp_path / f"masks/{i}.png")
    options = {"tiff_axes": "CYX", "classes": ("road", "car", "sky")}
    options |= {"label_map": (("255,0,0", 1), ("7", 2), ("0,0,255", 0))}
    made = folder(root=str(tmp_path), leaks="allow", **options)
    assert not made.report.errors
    whole = examples.draw_examples(made, made.report)
    monkeypatch.setattr(examples, "LARGE", 100)

    def load(_):
        raise AssertionError("the whole record")

    sources = {k: s._replace(load=load) for k, s in made.sources.items()}
    assert examples.draw_examples(made._replace(**sources), made.report) == whole


def test_without_a_background_class_0_is_drawn_and_no_image_is_empty():
    found = report()
    made = splits(found)
    assert statistics.split_statistics(found)[1].empty == ("c",)
    assert [name for name, _ in examples.class_legend(made.train, found)] == ["root"]
    shown = examples.draw_examples(made, found)
    sources = {k: s._replace(background=False) for k, s in made.sources.items()}
    made = made._replace(**sources)
    legend = examples.class_legend(made.train, found)
    assert [name for name, _ in legend] == ["soil", "root"]
    of_splits = statistics.split_statistics(found, background=False)
    assert [split.empty for split in of_splits] == [None, None, None]
    for known, row in ((statistics.split_statistics(found), True), (of_splits, False)):
        rows = dict(formatting.split_rows(known))
        assert ("without foreground" in rows) == row
    drawn = examples.draw_examples(made, found)
    assert not any("foreground" in e.caption + e.reason for e in drawn)
    assert any("foreground" in e.caption for e in shown)
    assert {e.png for e in drawn}.isdisjoint(e.png for e in shown)  # all are tinted
    several = made.train._replace(independent=True, background=True)
    assert len(examples.class_legend(several, found)) == 1


def test_warnings_alone_do_not_fail(of, planned):
    assert of(report(issues=(Issue("warning", "empty", "c"),)))[0] == 0
    assert planned == ["plot"]


def test_where_no_plan_can_be_made_that_is_an_error(of, monkeypatch, planned, tmp_path):
    def plan(*_):
        raise UserError("config.crop is odd")

    monkeypatch.setattr(verb.planner, "plan_training", plan)
    with pytest.raises(UserError, match="^plot: cannot plan: config.crop is odd$"):
        of(report())
    data = json.loads((tmp_path / "inspect.json").read_text())
    assert data["issues"][0]["text"] == "config.crop is odd"
    assert (data["errors"], data["plan"]) == (1, None)


def test_nothing_that_could_be_read_is_still_a_report(of, planned):
    found = report(records=(), issues=(Issue("error", "empty", "no images"),))
    code, said, data, _ = of(found)
    assert code == 1
    assert said.startswith("plot: 1 error and no warnings\nerror: empty\n  no images\n")
    assert data["images"] == []


def test_it_reads_the_cells_and_leaves_a_run_as_it_was(trained, planned, capsys):
    config, run = trained
    files = [p for p in run.iterdir() if p.is_file() and not p.name.startswith("insp")]
    before = {path: path.read_bytes() for path in files}
    assert inspect(config, run) == 0
    assert {path: path.read_bytes() for path in files} == before
    data = json.loads((run / "inspect.json").read_text())
    cells = dataset.survey_splits(config)
    for split, made in cells.sources.items():
        records = [made.load(i) for i in range(made.length)]
        there = data["splits"][split]
        assert there["images"] == made.length
        assert there["objects"] == [int(r["instances"].max()) for r in records]
        pixels = sum(int((r["label"] == 1).sum()) for r in records)
        assert there["classes"][1]["pixels"] == pixels
        assert there["shapes"] == {"20 x 24": made.length}
    page = (run / "inspect.html").read_bytes()
    assert inspect(config, run) == 0
    assert (run / "inspect.html").read_bytes() == page
    for name in ("inspect.json", "inspect.html", "plan.py"):
        (run / name).unlink()


def test_independent_classes_share_pixels():
    """Of four pixels one is both, one is the first alone, one is not annotated."""
    label = np.array([[[1, 1], [1, 0]], [[0, 0], [-1, -1]]], np.int32)
    found = record("train", "a", np.zeros((2, 2)), label)
    data = DatasetReport("x", ("none", "cell", "nucleus"), records=(found,))
    (split,) = statistics.split_statistics(data)
    assert [each.share for each in split.classes] == [1 / 3, 2 / 3, 1 / 3]
    assert split.ignored == 1 / 4
    assert statistics.compute_foreground_share(found) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("scale", "odd"), [(9, False), (11, True), (0, True)])
def test_a_range_that_is_far_from_the_others_is_odd(scale, odd):
    ramp = np.linspace(0, 10, 1001)[:, None]
    label = np.zeros((1001, 1), np.int32)
    records = [
        {"id": str(i), "image": (ramp * s)[..., None].astype("f4"), "label": label}
        for i, s in enumerate((1, 1, scale, 1))
    ]
    measured = tuple(measure_record(record, "train") for record in records)
    (channel,) = statistics.channel_statistics(
        DatasetReport("x", ("a", "b"), records=measured)
    )
    assert [each.odd for each in channel.ranges] == [False, False, odd, False]
    assert channel.ranges[2].times == pytest.approx(scale)
    low, *middle, high = channel.percentiles
    assert (low, high) == (0, pytest.approx(max(10, 10 * scale)))
    np.testing.assert_allclose(middle, [0.05, 5, 9.95], rtol=1e-5)


def test_the_images_that_are_shown():
    label = np.zeros((1, 10), np.int32)
    records = []
    for i, pixels in enumerate([3, 3, 9, 3, 3, 0, 3, 3]):
        records.append(record("train", f"{i}", label, np.arange(10)[None] < pixels))
    chosen = examples.choose_examples(records)
    assert chosen[2] == "most foreground"
    assert chosen[5] == "least foreground"
    assert [i for i, rank in chosen.items() if not rank] == [1, 6]
    assert examples.choose_examples(records[:1]) == {0: ""}
    assert examples.choose_examples([]) == {}


def test_the_legend_has_the_colours_of_the_overlay():
    """A colour that is grey is replaced; objects have colours of their own."""
    colours = ((0, 0, 0), (235, 235, 235), (9, 200, 7))
    made = source([])._replace(classes=("a", "b", "c"), colours=colours)
    report = DatasetReport("x", made.classes)
    legend = examples.class_legend(made, report)
    assert [name for name, _ in legend] == ["b", "c"]
    label = np.array([[0, 0, 1, 1, 2, 2]])
    drawn = pictures.draw_overlay(np.zeros((1, 6, 1)), label, colours)[0, ::2]
    assert drawn[1:].tolist() == [list(colour) for _, colour in legend]
    assert legend[1] == ("c", (9, 200, 7))
    two = made._replace(classes=("a", "b"), colours=colours[:2])
    assert len(examples.class_legend(two, report)) == 1
    mask = np.array([[0, 1]])
    counted = record("train", "0", mask, mask)._replace(objects=1)
    assert examples.class_legend(two, report._replace(records=(counted,))) == []
    assert examples.class_legend(made._replace(classes=(), colours=()), report) == []


def test_a_folder_that_cannot_be_made_is_one_line(tiny, tmp_path):
    file = Path(tmp_path / "file")
    file.write_text("")
    with pytest.raises(UserError, match="name a folder you may write to"):
        inspect(tiny, file / "run")


@pytest.mark.slow
def test_an_offered_flag_works_in_a_shell_and_the_plan_keeps_what_flags_set(tmp_path):
    rng = np.random.default_rng(0)
    for name in [f"Image_{i}{side}.png" for i in range(8) for side in "LR"]:
        image = rng.integers(0, 255, (32, 32), dtype=np.uint8)
        for place, array in (("images", image), ("masks", image // 128 * 255)):
            (tmp_path / place).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / place / name)
    command = f"{sys.executable} main.py --mode=inspect --config=configs/folder.py "
    command += f"--config.data.root={tmp_path} --workdir={tmp_path}/run "

    def run(flags):
        done = subprocess.run(
            command + flags, shell=True, cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        data = json.loads((tmp_path / "run/inspect.json").read_text())
        splits = {}
        for image in data["images"]:
            splits.setdefault(image["id"][:-1], set()).add(image["split"])
        return done.stdout, splits

    said, splits = run("--config.plan.seconds=0")
    assert any(len(of_child) > 1 for of_child in splits.values())
    flag = re.search(r"--config\.data\.group='[^']+'", said)[0]
    said, splits = run(f"{flag} --config.crop=16,16 --config.model.widths=2,4")
    assert "series" not in said
    assert [len(of_child) for of_child in splits.values()] == [1] * 8
    plan = (tmp_path / "run/plan.py").read_text()
    assert "config.crop = (16, 16)" in plan
    assert '"widths": (2, 4)' in plan
