"""A folder is read once: with its survey at hand, only what has changed is read."""

import copy
import json
import os
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_jax import json_file
from unet_jax.data import folder
from unet_jax.data.folders import cache, reading, survey
from unet_jax.data.folders.cache import SURVEY_FILE
from unet_jax.data.folders.pairing import find_pairs
from unet_jax.data.folders.patterns import Patterns
from unet_jax.data.folders.reading import ReadOptions
from unet_jax.data.folders.survey_file import survey_from_json

RNG = np.random.default_rng(8)


@pytest.fixture
def rich(home):
    """A folder of everything: pairs, ids, targets, stacks, others, odd files."""
    for i in range(10):
        ids = np.zeros((24, 20), np.uint16)
        ids[2:5, 2:5], ids[5:9, 2:5] = 7, 300
        (home / "instances").mkdir(exist_ok=True)
        Image.fromarray(ids).save(home / f"instances/{i}.png")
        (home / "targets").mkdir(exist_ok=True)
        tifffile.imwrite(home / f"targets/{i}.tif", RNG.random((24, 20), np.float32))
    for kind in ("images", "masks", "instances", "targets"):
        stack = RNG.integers(0, 2, (3, 24, 20), dtype=np.uint8) * 255
        stack[1] = 0  # a constant page, with a warning about it
        axes = {"photometric": "minisblack", "metadata": {"axes": "TYX"}}
        tifffile.imwrite(home / f"{kind}/stack.tif", stack, **axes)
    (home / "unlabelled").mkdir()
    for i in range(3):
        image = RNG.integers(0, 255, (16, 30), dtype=np.uint8)
        Image.fromarray(image).save(home / f"unlabelled/{i}.png")
    return home


@pytest.fixture
def opened(monkeypatch):
    """The pairs whose files are opened, as they are."""
    found, whole = [], reading.open_pair

    def note(pair, options):
        found.append(pair.id)
        return whole(pair, options)

    for module in (reading, survey):
        monkeypatch.setattr(module, "open_pair", note)
    return found


def kept(splits, path):
    path.write_text(json.dumps(splits.notes[SURVEY_FILE]))
    return str(path)


def assert_same(one, other):
    """All that two readings found, to the bit; and the records that they load."""
    assert one.report._replace(records=()) == other.report._replace(records=())
    for a, b in zip(one.report.records, other.report.records, strict=True):
        assert a._replace(thumbnail=None) == b._replace(thumbnail=None)
        np.testing.assert_array_equal(a.thumbnail, b.thumbnail, strict=True)
    assert json.dumps(one.notes) == json.dumps(other.notes)
    sources = [{**s.sources, "unlabelled": s.unlabelled} for s in (one, other)]
    for name, source in sources[0].items():
        again = sources[1][name]
        assert source._replace(load=None) == again._replace(load=None)
        for i in range(source.length):
            first, second = source.load(i), again.load(i)
            assert first.keys() == second.keys()
            for key, value in first.items():
                np.testing.assert_array_equal(value, second[key], strict=True)


def test_with_a_survey_nothing_is_read_and_everything_is_the_same(
    rich, tmp_path, opened
):
    anew = folder(root=str(rich))
    assert len(opened) == 14
    assert [issue.kind for issue in anew.report.issues].count("flat") == 2
    survey = kept(anew, tmp_path / "survey.json")
    opened.clear()
    again = folder(root=str(rich), survey=survey)
    assert not opened
    assert_same(anew, again)
    other_split = folder(root=str(rich), survey=survey, seed=3, channels=3)
    opened.clear()
    folder(root=str(rich), survey=survey, label_map=((0, 0), (255, 1)))
    assert not opened
    assert_same(other_split, folder(root=str(rich), seed=3, channels=3))


def test_only_what_has_changed_is_read_again(rich, tmp_path, opened):
    survey = kept(folder(root=str(rich)), tmp_path / "survey.json")
    image = RNG.integers(0, 255, (24, 20), dtype=np.uint8)
    Image.fromarray(image).save(rich / "images/3.png")
    os.utime(rich / "masks/5.png", ns=(1, 1))
    os.utime(rich / "targets/6.tif", ns=(1, 1))
    os.utime(rich / "instances/7.png", ns=(1, 1))
    (rich / "unlabelled/1.png").unlink()
    shutil.copy(rich / "unlabelled/0.png", rich / "unlabelled/new.png")
    opened.clear()
    again = folder(root=str(rich), survey=survey)
    assert sorted(opened) == ["3", "5", "6", "7", "unlabelled/new"]
    (record,) = [record for record in again.report.records if record.id == "3"]
    assert record.intensity[0][2] == np.median(image)
    assert_same(again, folder(root=str(rich)))


@pytest.mark.parametrize(
    "options",
    [
        {"spacing": (2.0, 1.0)},
        {"multilabel": True},
        {"ignore_label": 9},
        {"axes": 3},
        {"label_map": ((0, 0), ((255, 0, 0), 1))},  # palettes are read as colours
    ],
)
def test_other_options_read_all_files_again(options, rich, tmp_path, opened):
    survey = kept(folder(root=str(rich)), tmp_path / "survey.json")
    opened.clear()
    folder(root=str(rich), survey=survey, **options)
    assert len(opened) == 14


def test_the_folder_may_move(rich, tmp_path, opened):
    survey = kept(folder(root=str(rich)), tmp_path / "survey.json")
    with_times = shutil.copytree(rich, tmp_path / "elsewhere", symlinks=True)
    opened.clear()
    splits = folder(root=str(with_times), survey=survey)
    assert not opened
    assert splits.train.name == "elsewhere/train"


def test_files_are_named_from_the_root_on_and_others_in_full(rich, tmp_path, opened):
    options = {"root": str(rich / "images"), "images": "*.png"}
    options |= {"masks": str(rich / "masks/*.png"), "targets": "", "instances": ""}
    splits = folder(**options)
    first = splits.notes[SURVEY_FILE]["pairs"][0]["files"]
    sizes = [(rich / f"{kind}/0.png").stat() for kind in ("images", "masks")]
    assert [list(stamp) for stamp in first] == [
        ["image", "0.png", sizes[0].st_size, sizes[0].st_mtime_ns],
        ["mask", str(rich / "masks/0.png"), sizes[1].st_size, sizes[1].st_mtime_ns],
    ]
    survey = kept(splits, tmp_path / "survey.json")
    opened.clear()
    folder(**options, survey=survey)
    assert not opened


def begin_run(root, tmp_path):
    """Saves what a run saves of its data; returns the arguments that resume it."""
    splits = folder(root=str(root))
    split = tmp_path / "split.json"
    split.write_text(json.dumps(splits.notes["split.json"]))
    return {"split": str(split), "survey": kept(splits, tmp_path / "survey.json")}


def changed_files(root, **run):
    issues = folder(root=str(root), **run).report.issues
    return [issue.text for issue in issues if issue.kind == "changed files"]


def test_files_that_changed_since_a_run_began_are_named(rich, tmp_path):
    run = begin_run(rich, tmp_path)
    consequence = "so its scores are not comparable; restore them, or start a new run"
    for i in range(10):  # the same number of pixels of each value
        mask = np.asarray(Image.open(rich / f"masks/{i}.png"))
        Image.fromarray(mask[::-1]).save(rich / f"masks/{i}.png")
        os.utime(rich / f"images/{i}.png", ns=(1, 1))
    (text,) = changed_files(rich, **run)
    assert text == (
        "10 files have changed since this run began (masks/0.png, masks/1.png and 8 "
        f"more), {consequence}"
    )
    assert changed_files(rich, survey=run["survey"]) == []  # inspected, not trained
    assert changed_files(rich, **(run | {"survey": ""})) == []
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert changed_files(rich, **begin_run(rich, elsewhere)) == []


@pytest.mark.parametrize(
    "name",
    ["images/3.png", "instances/3.png", "targets/stack.tif", "unlabelled/2.png"],
)
def test_any_file_of_a_run_may_have_changed(name, rich, tmp_path):
    run = begin_run(rich, tmp_path)
    path = rich / name
    if path.suffix == ".tif":
        pages = tifffile.imread(path)
        axes = {"photometric": "minisblack", "metadata": {"axes": "TYX"}}
        tifffile.imwrite(path, pages[:, ::-1], **axes)
    else:
        Image.fromarray(np.asarray(Image.open(path))[:, ::-1]).save(path)
    (text,) = changed_files(rich, **run)
    assert text.startswith(f"1 file has changed since this run began ({name}), so")


def test_a_copy_with_other_times_has_not_changed(rich, tmp_path):
    run = begin_run(rich, tmp_path)
    for path in rich.rglob("*.*"):
        os.utime(path, ns=(1, 1))
    assert changed_files(rich, **run) == []


def test_a_file_that_cannot_be_read_is_tried_again(rich, tmp_path, opened):
    content = (rich / "images/3.png").read_bytes()
    (rich / "images/3.png").write_bytes(content[: len(content) // 2])
    (rich / "images/4.png").write_text("I am no image")
    first = folder(root=str(rich))
    survey = kept(first, tmp_path / "survey.json")
    opened.clear()
    again = folder(root=str(rich), survey=survey)
    assert sorted(opened) == ["3", "4"]
    assert again.report.issues == first.report.issues


def test_a_change_within_an_ome_zarr_is_seen(tmp_path):
    inside = tmp_path / "images/0.ome.zarr/0/0.0"
    inside.parent.mkdir(parents=True)
    inside.write_text("chunk")
    (tmp_path / "images/0.ome.zarr/.zattrs").write_text("{}")
    found = find_pairs(tmp_path, Patterns(masks=""))
    before = cache.file_stamps(found.pairs, tmp_path)
    assert cache.file_stamps(found.pairs, tmp_path) == before
    inside.write_text("other")  # as large
    os.utime(inside, ns=(1, 1))
    assert cache.file_stamps(found.pairs, tmp_path) != before


def test_records_on_disk_hold_the_survey_too(rich, tmp_path, opened):
    records = {"root": str(rich), "records": str(tmp_path / "records")}
    anew = folder(**records)
    opened.clear()
    assert_same(anew, folder(**records))
    assert not opened


def test_a_survey_is_small(rich):
    splits = folder(root=str(rich))
    size = len(json.dumps(splits.notes[SURVEY_FILE], separators=(",", ":")))
    assert size / len(splits.report.records) < 2000  # bytes: 20 MB of 10,000 pairs


def whole(rich):
    return json.loads(json.dumps(folder(root=str(rich)).notes[SURVEY_FILE]))


NONSENSE = [
    "",
    "{",
    "[]",
    "null",
    "3",
    '"survey"',
    "{}",
    '{"version": 3}',
    '{"version": 3, "options": {}, "pairs": 3}',
    "[" * 100_000,
    "9" * 10_000,
    '{"version": ' + "9" * 10_000 + "}",
    b"\xff\xfe\x00",
    "import os; os.abort()",
]


@pytest.mark.parametrize("text", NONSENSE, ids=range(len(NONSENSE)))
def test_a_survey_of_nonsense_is_ignored(text, home, tmp_path, opened):
    path = tmp_path / "survey.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = folder(root=str(home), survey=str(path))
    assert len(opened) == 10
    assert not found.report.issues


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data | {"version": 2},
        lambda data: data | {"options": ["2", *data["options"][1:]]},
        lambda data: data | {"pairs": data["pairs"][0]},
        lambda data: data | {"pairs": {str(i): p for i, p in enumerate(data["pairs"])}},
        lambda data: data | {"pairs": [p | {"pages": []} for p in data["pairs"]]},
        lambda data: data | {"pairs": [p | {"count": 0} for p in data["pairs"]]},
    ],
)
def test_a_survey_of_another_form_is_ignored(change, rich, tmp_path, opened):
    data = whole(rich)
    for pair in data["pairs"]:
        pair["issues"] = []
    path = tmp_path / "survey.json"
    path.write_text(json.dumps(change(data)))
    opened.clear()
    found = folder(root=str(rich), survey=str(path))
    assert len(opened) == 14
    assert_same(found, folder(root=str(rich)))


def test_a_survey_that_was_cut_off_is_ignored(home, tmp_path, opened):
    text = json.dumps(folder(root=str(home)).notes[SURVEY_FILE])
    path = tmp_path / "survey.json"
    for length in range(0, len(text), len(text) // 7):
        path.write_text(text[:length])
        opened.clear()
        folder(root=str(home), survey=str(path))
        assert len(opened) == 10


def test_a_file_too_large_for_a_survey_is_not_read(home, tmp_path, opened, monkeypatch):
    survey = kept(folder(root=str(home)), tmp_path / "survey.json")
    for largest, read in ((10**6, 0), (10**3, 10)):
        monkeypatch.setattr(json_file, "MOST_BYTES", largest)
        opened.clear()
        folder(root=str(home), survey=survey)
        assert len(opened) == read


def places(data, *path):
    """The paths of all values within JSON data."""
    yield path
    keys = data if isinstance(data, dict) else ()
    keys = range(len(data)) if isinstance(data, list) else keys
    for key in keys:
        yield from places(data[key], *path, key)


ODD = (None, True, -1, 0, 10**400, 1e400, float("nan"), "\x1b[2J", "", [], {}, [[3]])


def test_any_value_may_be_odd(rich):
    """A broken pair is read again, and the others are not; nothing is raised."""
    data, options = whole(rich), ReadOptions(axes=2)
    data["pairs"] = [data["pairs"][i] for i in (0, 10, 13)]  # a pair, a stack, an image
    found = find_pairs(rich, Patterns())
    pairs = [found.pairs[0], found.pairs[10], found.unlabelled[2]]
    stamps = cache.file_stamps(pairs, rich)
    load = survey_from_json
    good = load(data, pairs, stamps, rich, options)
    assert [len(result.pages) for result in good] == [1, 3, 1]
    refused = 0
    for path in list(places(data)):
        for odd in ODD:
            broken = copy.deepcopy({"": data})
            *parents, last = ("", *path)
            parent = broken
            for key in parents:
                parent = parent[key]
            parent[last] = odd
            results = load(broken[""], pairs, stamps, rich, options)
            refused += results.count(None)
            for result in filter(None, results):
                for issue in result.issues:
                    assert issue.text.isprintable()
                for page in result.pages:
                    assert page.stats.thumbnail.shape == (24, 24)
                    assert len(page.stats.shape) == 2
                    assert all(type(n) is int for n in page.stats.shape)
    assert refused > 2000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shape", [24, 20, 1]),
        ("shape", [24, 21]),  # of which the mask's values are too few
        ("channels", 2),
        ("dtype", "object"),
        ("spacing", [0.0, 1.0]),
        ("intensity", [[0.0, 1.0, 2.0, 3.0]]),
        ("values", [["zero", 480]]),
        ("values", []),
        ("pixels", [[0, 480]]),
        ("objects", None),
        ("digest", "g" * 40),
        ("thumbnail", "AAAA"),
        ("target_channels", 0),
        ("target_dtype", ""),
        ("target_intensity", []),
        ("number", 1),
        ("grey", 1),
        ("finite", "yes"),
        ("classes", 1),
        ("digests", {"mask": "0" * 40}),  # without instances and target
        ("orientation", "UPS"),
        ("target_grey", None),
    ],
)
def test_a_page_that_cannot_be_of_its_files_is_refused(field, value, rich):
    data, options = whole(rich), ReadOptions(axes=2)
    found = find_pairs(rich, Patterns())
    pairs, stamps = found.pairs[:2], cache.file_stamps(found.pairs[:2], rich)
    page = data["pairs"][0]["pages"][0]
    place = page if field in page else page["stats"]
    assert repr(place[field]) != repr(value)
    place[field] = value
    results = survey_from_json(data, pairs, stamps, rich, options)
    assert results[0] is None
    assert results[1] is not None
