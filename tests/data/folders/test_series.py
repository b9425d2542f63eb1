"""Series in the names and in the content of files, and the splits that follow."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from tests.data.folders.conftest import save
from unet_jax.data.folders.folder import folder
from unet_jax.data.folders.series import find_named_groups, find_series

RNG = np.random.default_rng(5)


def texture():
    return ndimage.gaussian_filter(RNG.normal(size=(48, 48)), 3, mode="wrap")


def unrelated(count):
    return [texture() for _ in range(count)]


def drifting(count, step=0.35):
    """Images of which each is like the one before it, and no longer like the fifth."""
    series = [texture()]
    while len(series) < count:
        series.append(np.cos(step) * series[-1] + np.sin(step) * texture())
    return series


def of_kinds(count):
    """Unrelated images under four lights; those of one light follow each other."""
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    lights = [0.3 * y, 0.3 * x, -0.3 * y, -0.3 * x]
    return [texture() + lights[4 * i // count] for i in range(count)]


def write(root, names, images):
    for name, image in zip(names, images, strict=True):
        save(root / "images" / name, 128 + 400 * image)
        save(root / "masks" / name, 255 * (image > 0))
    return root


def series_issues(splits):
    return [i.text for i in splits.report.issues if i.kind == "series"]


def named_groups(paths):
    folders = [path.rpartition("/")[0] for path in paths]
    return find_named_groups(list(map(Path, paths)), folders)


def split_of(splits):
    return json.loads(json.dumps(splits.notes["split.json"]))


def offered(text):
    """Returns the value of the flag that a text offers, as a shell passes it on."""
    command = re.search(r"--config\.data\.group=.*", text)[0]
    return shlex.split(command)[0].rstrip(",;").partition("=")[2]


def test_one_series_becomes_three_blocks(tmp_path):
    names = [f"{i}.png" for i in range(20)]  # '10' is before '2' in the alphabet
    root = write(tmp_path, names, drifting(20))
    splits = folder(root=str(root))
    split = split_of(splits)
    assert sorted(map(int, split["train"])) == list(range(14))
    assert sorted(map(int, split["val"])) == [14, 15, 16]  # 15 % of 20
    assert sorted(map(int, split["test"])) == [17, 18, 19]
    (text,) = series_issues(splits)
    assert "train 0 to 13, val 14 to 16, test 17 to 19" in text
    assert "--config.data.series=apart" in text
    apart = folder(root=str(root), series="apart")
    assert series_issues(apart) == []
    assert split_of(apart) != split


def split_remedy(root, **options):
    return folder(root=str(root), **options).report.split_remedy


def test_only_what_changes_the_split_is_offered(tmp_path):
    """The seed changes neither blocks of a series nor blocks of pages."""
    names = [f"{i:02d}.png" for i in range(20)]
    root = write(tmp_path / "series", names, drifting(20))
    folders = "give the splits as folders train/, val/ and test/"
    assert split_remedy(root) == f"set --config.data.series=apart, or {folders}"
    fold = "choose another fold, such as --config.data.fold="
    assert split_remedy(root, folds=4, fold=3) == f"{fold}0"
    seed = "choose another split, such as --config.data.seed="
    assert split_remedy(root, series="apart", seed=4) == f"{seed}5"
    pages = np.stack(unrelated(9))
    for kind, array in (("images", 400 * pages), ("masks", 255.0 * (pages > 0))):
        path = tmp_path / "pages" / kind / "a.tif"
        path.parent.mkdir(parents=True)
        tifffile.imwrite(path, array.clip(0, 255).astype(np.uint8))
    assert split_remedy(tmp_path / "pages") == folders
    for split, few in (("train", names[:16]), ("val", names[16:])):
        write(tmp_path / "given" / split, few, unrelated(len(few)))
    given = split_remedy(tmp_path / "given")
    assert given == "move images from training to the other splits"


def test_the_folds_of_one_series_are_blocks(tmp_path):
    root = write(tmp_path, [f"{i:02d}.png" for i in range(20)], drifting(20))
    tests = []
    for fold in range(4):
        split = split_of(folder(root=str(root), folds=4, fold=fold))
        tests.append(sorted(map(int, split["test"])))
    assert sorted(tests) == [list(range(k, k + 5)) for k in (0, 5, 10, 15)]


@pytest.mark.parametrize("images", [unrelated, of_kinds])
@pytest.mark.parametrize("count", [20, 100])
def test_numbers_of_unrelated_pictures_mean_nothing(tmp_path, images, count):
    names = [f"{i:03d}.png" for i in range(count)]
    root = write(tmp_path, names, images(count))
    splits = folder(root=str(root))
    assert series_issues(splits) == []
    assert split_of(splits) == split_of(folder(root=str(root), series="apart"))


def test_series_that_look_alike_stay_whole_and_the_offered_flag_does_the_same(tmp_path):
    names = [f"patient_{p}_slice_{i}.png" for p in range(12) for i in range(1, 7)]
    images = [image for _ in range(12) for image in drifting(6)]
    root = write(tmp_path, names, images)
    splits = folder(root=str(root))
    (text,) = series_issues(splits)
    assert offered(text) == r"^(.*)_slice_\d+\."
    for found in (splits, folder(root=str(root), group=offered(text))):
        groups = {
            name: {re.match(r"patient_\d+", i)[0] for i in ids}
            for name, ids in split_of(found).items()
        }
        assert sum(map(len, groups.values())) == 12
        assert all(groups.values())


def test_two_series_are_cut_into_blocks(tmp_path):
    names = [f"{s}{i:02d}.png" for s in "ab" for i in range(10)]
    root = write(tmp_path, names, drifting(10) + drifting(10))
    split = split_of(folder(root=str(root)))
    assert split["test"] == ["b07", "b08", "b09"]
    assert split["val"] == ["b04", "b05", "b06"]


def test_both_eyes_are_named_with_a_flag_that_keeps_them_together(tmp_path):
    names = [f"Image_{i:02d}{side}.png" for i in range(1, 15) for side in "LR"]
    root = write(tmp_path, names, unrelated(28))
    splits = folder(root=str(root))
    (text,) = series_issues(splits)
    assert re.match(r"Image_(\d+)L\.png \((\w+)\) and Image_\1R\.png \((?!\2)", text)
    together = folder(root=str(root), group=offered(text))
    assert series_issues(together) == []
    numbers = [
        {re.search(r"\d+", i)[0] for i in ids} for ids in split_of(together).values()
    ]
    assert sum(map(len, numbers)) == 14
    assert series_issues(folder(root=str(root), series="apart")) == []


def test_given_splits_are_kept_and_neighbours_in_two_of_them_are_named(tmp_path):
    images = drifting(24)
    for i, image in enumerate(images):
        home = tmp_path / ("val" if i % 4 == 1 else "test" if i % 4 == 3 else "train")
        save(home / f"images/f{i:02d}.png", 128 + 400 * image)
        save(home / f"masks/f{i:02d}.png", 255 * (image > 0))
    splits = folder(root=str(tmp_path))
    assert len(split_of(splits)["train"]) == 12
    (text,) = series_issues(splits)
    assert text.startswith("f01.png, f03.png, f05.png and 9 more: consecutive images")


@pytest.mark.parametrize("given", ["", "val"])
def test_blocks_of_a_training_folder_are_mentioned_once(tmp_path, given):
    root = write(tmp_path / "train", [f"{i:02d}.png" for i in range(20)], drifting(20))
    if given:  # the frames after those of train/
        names = [f"{i}.png" for i in range(20, 24)]
        write(tmp_path / given, names, drifting(4))
    splits = folder(root=str(root.parent))
    (text,) = series_issues(splits)
    assert "the splits are blocks of consecutive images" in text


def test_a_given_split_beside_blocks_is_checked(tmp_path):
    for i, image in enumerate(drifting(24)):
        home = tmp_path / ("val" if i % 4 == 1 else "train")
        write(home, [f"f{i:02d}.png"], [image])
    blocks, leak = series_issues(folder(root=str(tmp_path)))
    assert "the splits are blocks" in blocks
    assert leak.startswith("f01.png, f05.png, f09.png and 3 more: consecutive images")


def test_a_subject_of_a_given_split_must_be_moved(tmp_path):
    """A flag cannot: it is refused if one of its groups is in two given splits."""
    for split, patients, slices in (("train", range(8), "012"), ("val", (7, 8), "345")):
        names = [f"patient_{p}_slice_{i}.png" for p in patients for i in slices]
        write(tmp_path / split, names, unrelated(len(names)))
    (text,) = series_issues(folder(root=str(tmp_path)))
    assert text.startswith("patient_7_slice_3.png (val) and patient_7_slice_")
    assert "if so, move the files of each subject into one split" in text


def test_a_letter_may_count_the_images_of_a_subject(tmp_path):
    for split, letters in (("train", "ab"), ("val", "c"), ("test", "d")):
        names = [f"patient{p}_{letter}.png" for p in range(4) for letter in letters]
        write(tmp_path / split, names, unrelated(len(names)))
    (text,) = series_issues(folder(root=str(tmp_path)))
    assert text.startswith("patient0_d.png (test) and patient0_c.png (val) may show")
    assert "3 more groups are divided" in text


def test_equal_frames_of_a_series_stay_in_one_split(tmp_path):
    images = drifting(20)
    images[18] = images[3]
    root = write(tmp_path, [f"{i:02d}.png" for i in range(20)], images)
    splits = folder(root=str(root))
    assert not splits.report.errors
    assert {"03", "18"} <= set(split_of(splits)["train"])


@pytest.mark.parametrize(
    ("names", "groups", "pattern"),
    [
        (
            [f"city_{d:06d}_{f:06d}" for d in (123, 124) for f in (19, 20, 21)],
            {"city_000123", "city_000124"},
            r"^(.*)_\d+\.",
        ),
        (
            [f"{f}_{y}_{x}" for f in "abc" for y in range(2) for x in range(2)],
            set("abc"),
            r"^(.*)_\d+_\d+\.",
        ),
        (
            [f"pos{p}_t{t:03d}_z{z}" for p in "12" for t in range(3) for z in range(2)],
            {"pos1", "pos2"},
            r"^(.*)_t\d+_z\d+\.",
        ),
        (
            [f"{side}_{i}" for i in range(4) for side in ("left", "right")],
            set("0123"),
            r"^(?i:left|right)[-_. ]+(.*)\.",
        ),
        (
            [f"{i}_{side}_fundus" for i in range(4) for side in ("OD", "OS")],
            set("0123"),
            r"^(.*)(?:_OD|_OS)_fundus\.",
        ),
        (
            [f"a's {i} (x)-frame{k}" for i in range(3) for k in range(3)],
            {"a's 0 (x)", "a's 1 (x)", "a's 2 (x)"},
            r"^(.*)-frame\d+\.",
        ),
        *(
            (
                [f"{head}{p}{place}{letter}" for p in "123" for letter in letters],
                {f"{head}{p}" for p in "123"},
                pattern,
            )
            for head, place, letters, pattern in (
                ("patient", "_", "abc", r"^(.*)_[a-z]\."),
                ("case_0", "_", "abcdef", r"^(.*)_[a-z]\."),
                ("patient_0", "-", "AB", r"^(.*)-[A-Z]\."),
                ("scan-", ".", "Ab", r"^(.*)(?:\.[A-Z]|\.[a-z])\."),
                ("case_0", "_slice_", "abc", r"^(.*)_slice_[a-z]\."),
                ("case_0", "_t1_", "abc", r"^(.*)_t\d+_[a-z]\."),
                ("case_0", "_a_", "12", r"^(.*)_[a-z]_\d+\."),
            )
        ),
    ],
)
def test_subjects_in_the_names_of_files(names, groups, pattern):
    found = named_groups([f"d/images/{name}.png" for name in names])
    assert found.certain
    assert set(found.groups) == groups
    assert found.pattern == pattern
    assert len({re.search(pattern, f"{n}.png")[1] for n in names}) == len(groups)


@pytest.mark.parametrize(
    "names",
    [
        [f"{i:03d}" for i in range(20)],
        [f"hippocampus_{i:03d}" for i in range(20)],
        [f"{i}_training" for i in range(21, 41)],
        [f"case_{i}_0000" for i in range(20)],  # one channel of nnU-Net
        [f"{i * 7919:x}e" for i in range(1000, 1020)],  # hashes
        ["one", "two", "three"],
        [f"{word}_{letter}" for word in ("pug", "beagle") for letter in "abc"],
        [f"{i}_a" for i in range(20)],
        [*(f"case_{i}_{letter}" for i in range(3) for letter in "ab"), "case_4_ab"],
        [],
    ],
)
def test_names_without_subjects(names):
    found = named_groups([f"d/{name}.png" for name in names])
    assert found is None


def test_folders_are_subjects():
    paths = [f"d/p{p}/img/{i:02d}.png" for p in range(3) for i in range(4)]
    found = named_groups(paths)
    assert (len(set(found.groups)), found.pattern) == (3, "([^/]+)/img/[^/]*$")
    assert found.certain
    folders = [path.rpartition("/")[0] for path in paths]
    series = find_series(list(map(Path, paths)), folders)
    assert [len(one) for one in series] == [4, 4, 4]


def test_a_word_and_a_number_are_not_certain():
    names = [f"{kind}_{i}" for kind in ("pug", "beagle") for i in range(10)]
    assert not named_groups([f"d/{name}.jpg" for name in names]).certain
