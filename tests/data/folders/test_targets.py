"""Targets beside masks and alone, and images without labels."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_jax.data import folder
from unet_jax.errors import UserError

RNG = np.random.default_rng(6)


def png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


def tif(path, array, axes="YX"):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array, photometric="minisblack", metadata={"axes": axes})


def pixels(path):
    return np.array(Image.open(path))


def records(splits):
    return {
        record["id"]: record
        for source in splits.sources.values()
        for record in map(source.load, range(source.length))
    }


def errors(**options):
    return [issue.text for issue in folder(**options).report.errors]


def sharp(home):
    """Gives each image of `home` a target of two channels of 16 bits."""
    truth = {}
    for i in range(10):
        truth[str(i)] = RNG.integers(0, 60000, (2, 24, 20), dtype=np.uint16)
        tif(home / f"targets/{i}.tif", truth[str(i)], "CYX")
    return {name: np.moveaxis(two, 0, -1) for name, two in truth.items()}


def test_targets_beside_masks_are_the_arrays_of_their_files(home):
    truth = sharp(home)
    splits = folder(root=str(home))
    assert not splits.report.issues
    assert splits.train.target_channels == 2
    assert splits.train.channels == 1
    for name, record in records(splits).items():
        assert record["target"].dtype == np.uint16
        np.testing.assert_array_equal(record["target"], truth[name])
        mask = pixels(home / f"masks/{name}.png")
        np.testing.assert_array_equal(record["label"], mask == 255)
    record = splits.report.records[3]
    assert (record.target, record.target_dtype) == ("targets/3.tif", "uint16")
    ends = [(row[0], row[-1]) for row in record.target_intensity]
    assert ends == [(c.min(), c.max()) for c in np.moveaxis(truth["3"], -1, 0)]
    assert record.mask == "masks/3.png"


@pytest.mark.parametrize("kind", ["jpg", "float"])
def test_with_targets_masks_are_optional(home, kind):
    for i in range(10):
        (home / f"masks/{i}.png").unlink()
        if kind == "jpg":
            (home / "targets").mkdir(exist_ok=True)
            image = RNG.integers(0, 255, (24, 20, 3), dtype=np.uint8)
            Image.fromarray(image).save(home / f"targets/{i}.jpg")
        else:
            tif(home / f"targets/{i}.tif", RNG.normal(0, 5, (24, 20)).astype("f4"))
    splits = folder(root=str(home))
    assert not splits.report.issues
    assert splits.train.classes == splits.train.colours == splits.report.classes == ()
    assert splits.train.pixels is None
    assert splits.train.target_channels == (3 if kind == "jpg" else 1)
    assert not any(record.labelled for record in splits.report.records)
    for name, record in records(splits).items():
        assert record.keys() == {"id", "image", "target"}
        if kind == "jpg":
            wanted = pixels(home / f"targets/{name}.jpg")
        else:
            wanted = tifffile.imread(home / f"targets/{name}.tif")[..., None]
        assert record["target"].dtype == wanted.dtype
        np.testing.assert_array_equal(record["target"], wanted)


def test_targets_of_volumes_and_of_the_pages_of_a_stack(tmp_path):
    image = RNG.integers(0, 255, (6, 16, 12), dtype=np.uint8)
    target = RNG.normal(0, 1, (6, 16, 12)).astype(np.float32)
    for i in range(4):
        tif(tmp_path / f"images/{i}.tif", image + np.uint8(i), "ZYX")
        tif(tmp_path / f"targets/{i}.tif", target + i, "ZYX")
    volumes = records(folder(root=str(tmp_path), axes=3))
    pages = records(folder(root=str(tmp_path)))
    for i in range(4):
        np.testing.assert_array_equal(volumes[f"{i}"]["target"][..., 0], target + i)
        for z in range(6):
            found = pages[f"{i}/{z:03d}"]["target"]
            np.testing.assert_array_equal(found[..., 0], target[z] + i)


def test_a_target_that_is_mirrored_in_the_world_is_refused(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    for i in range(4):
        for kind in ("images", "targets"):
            (tmp_path / kind).mkdir(exist_ok=True)
            left = -1.0 if (kind, i) == ("targets", 2) else 1.0
            array = RNG.integers(0, 255, (5, 6, 7), dtype=np.uint8)
            file = nibabel.Nifti1Image(array, np.diag([left, 1.0, 1.0, 1.0]))
            nibabel.save(file, tmp_path / kind / f"v{i}.nii.gz")
    (text,) = errors(root=str(tmp_path), axes=3)
    assert text.startswith("targets/v2.nii.gz: its axes point to LAS, those of its")


def test_grey_and_colour_targets_become_one_kind_and_colour_alone_stays(home):
    for i in range(10):
        grey = RNG.integers(0, 255, (24, 20), dtype=np.uint8)
        png(home / f"targets/{i}.png", np.repeat(grey[..., None], 3, -1))
    assert folder(root=str(home)).train.target_channels == 3  # though all are grey
    coloured = RNG.integers(0, 255, (24, 20, 3), dtype=np.uint8)
    png(home / "targets/4.png", coloured)
    png(home / "targets/5.png", grey)
    splits = folder(root=str(home))
    assert splits.train.target_channels == 3
    (warning,) = splits.report.issues
    assert warning.text == (
        "1 of 10 targets (targets/5.png) is grey and becomes RGB, because 1 "
        "(targets/4.png) is in colour"
    )
    found = records(splits)
    np.testing.assert_array_equal(found["4"]["target"], coloured)
    for channel in range(3):
        np.testing.assert_array_equal(found["5"]["target"][..., channel], grey)
    png(home / "targets/4.png", grey)
    assert folder(root=str(home)).train.target_channels == 1  # nothing is coloured


def test_splits_that_are_given_bring_their_own_targets(home):
    truth = sharp(home)
    for part, of in (("train", range(6)), ("val", (6, 7)), ("test", (8, 9))):
        for kind, end in (("images", "png"), ("masks", "png"), ("targets", "tif")):
            (home / part / kind).mkdir(parents=True)
            for i in of:
                path = home / f"{kind}/{i}.{end}"
                path.rename(home / part / kind / path.name)
    for kind in ("images", "masks", "targets"):
        (home / kind).rmdir()
    found = records(folder(root=str(home)))
    np.testing.assert_array_equal(found["test/9"]["target"], truth["9"])
    for i in (6, 7):
        (home / f"val/targets/{i}.tif").unlink()
    assert errors(root=str(home)) == [
        "val: there are no targets, but train has some; add some to val, or remove "
        "those of train"
    ]


def test_images_alone_need_that_it_is_said(home):
    for i in range(10):
        (home / f"masks/{i}.png").unlink()
    (text,) = errors(root=str(home))
    assert text.startswith("masks: there are no masks; put masks there with the names")
    splits = folder(root=str(home), masks="")
    assert not splits.report.issues
    assert {tuple(record) for record in records(splits).values()} == {("id", "image")}


def lost(home):
    (home / "targets/3.tif").unlink()


def alone(home):
    tif(home / "targets/new.tif", np.zeros((2, 24, 20), np.uint16), "CYX")


def size(home):
    tif(home / "targets/3.tif", RNG.random((2, 24, 19)), "CYX")


def pages(home):
    tif(home / "targets/3.tif", RNG.random((3, 24, 20)), "TYX")


def nan(home):
    target = RNG.random((2, 24, 20)).astype(np.float32)
    target[0, 3, 4], target[1, 5, 6] = np.nan, np.inf
    tif(home / "targets/3.tif", target, "CYX")


def text(home):
    (home / "targets/3.tif").write_text("I am no image")


def channels(home):
    tif(home / "targets/3.tif", RNG.random((4, 24, 20)), "CYX")


def other_names(home):
    for i in range(10):
        (home / f"targets/{i}.tif").rename(home / f"targets/{i}_sharp.tif")


def unknown(home):
    (home / "targets/3.tif").rename(home / "targets/3.webp")


def link(home):
    outside = home.parent / f"{home.name}-target.tif"
    (home / "targets/3.tif").rename(outside)
    (home / "targets/3.tif").symlink_to(outside)


def jpeg(home):
    (home / "masks/3.png").unlink()
    png(home / "masks/3.jpg", np.zeros((24, 20)))


MISTAKES = [
    (lost, "images/3.png: an image without a target in targets; add the target or"),
    (
        alone,
        "targets/new.tif: a target without an image; add the image or remove the t",
    ),
    (size, "targets/3.tif: the target is 24 x 19, its image 24 x 20; save it with"),
    (pages, "targets/3.tif: 3 pages, where its image has 1; save one for each"),
    (nan, "targets/3.tif: 2 values are NaN or infinite; replace them, or remove"),
    (text, "targets/3.tif: cannot be read"),
    (channels, "targets/3.tif: 4 channels, where most targets have 2; save it with 2"),
    (
        other_names,
        "none of 10 images has a target of its name, such as images/0.png and "
        "targets/0_sharp.tif; describe their names by globs: --config.data."
        "images='images/*.png' --config.data.targets='targets/*_sharp.tif'",
    ),
    (unknown, "targets/3.webp: an unknown format; save it as one of .png"),
    (link, "targets/3.tif: a link that leaves"),
    (jpeg, "masks/3.jpg: a JPEG does not keep the values of a mask"),
]


@pytest.mark.parametrize(
    ("mistake", "text"), MISTAKES, ids=[m.__name__ for m, _ in MISTAKES]
)
def test_a_mistake_is_one_line(mistake, text, home):
    sharp(home)
    mistake(home)
    (line,) = errors(root=str(home))
    assert line.startswith(text)


@pytest.mark.parametrize("kind", ["instances", "targets", "unlabelled"])
def test_a_place_that_is_named_must_hold_something(kind, home):
    assert errors(root=str(home), **{kind: "sharp"}) == [
        f"sharp: there are no {kind}; correct --config.data.{kind}, or remove it"
    ]


def test_classes_need_masks(home):
    sharp(home)
    with pytest.raises(UserError, match="^classes=a,b need masks, and there are none"):
        folder(root=str(home), masks="", classes=("a", "b"))


def more(home, names, where="unlabelled", shape=(24, 20)):
    truth = {name: RNG.integers(0, 100, shape, dtype=np.uint8) for name in names}
    for name, image in truth.items():
        png(home / where / f"{name}.png", image)
    return truth


def test_images_without_labels_are_a_source_of_their_own(home):
    before = folder(root=str(home))
    assert before.unlabelled is None
    truth = more(home, "abc", shape=(9, 30))
    splits = folder(root=str(home), spacing=(2.0, 1.0))
    assert not splits.report.issues
    source = splits.unlabelled
    assert (source.length, source.channels, source.target_channels) == (3, 1, 0)
    assert source.classes == splits.train.classes
    assert source.name == f"{home.name}/unlabelled"
    for i, name in enumerate("abc"):
        record = source.load(i)
        assert record.keys() == {"id", "image", "spacing"}
        assert record["id"] == f"unlabelled/{name}"
        np.testing.assert_array_equal(record["image"][..., 0], truth[name])
    assert splits.notes["split.json"] == before.notes["split.json"]
    assert len(records(splits)) == 10
    stats = [record for record in splits.report.records if record.split == "unlabelled"]
    assert [record.shape for record in stats] == [(9, 30)] * 3
    assert not any(record.labelled for record in stats)


def test_unlabelled_images_beside_given_splits_and_of_a_glob(home):
    for part, of in (("train", range(8)), ("test", range(8, 10))):
        for kind in ("images", "masks"):
            (home / part / kind).mkdir(parents=True)
            for i in of:
                (home / f"{kind}/{i}.png").rename(home / part / kind / f"{i}.png")
    for kind in ("images", "masks"):
        (home / kind).rmdir()
    truth = more(home, "ab") | more(home, "cd", "train/unlabelled")
    more(home, "e", "test/unlabelled")
    source = folder(root=str(home)).unlabelled
    names = [source.load(i)["id"] for i in range(source.length)]
    wanted = ["unlabelled/a", "unlabelled/b"]
    assert names == [*wanted, "train/unlabelled/c", "train/unlabelled/d"]
    np.testing.assert_array_equal(source.load(2)["image"][..., 0], truth["c"])
    of_glob = folder(root=str(home), unlabelled="*nlab*/*.png").unlabelled
    assert of_glob.length == 4
    absolute = folder(root=str(home), unlabelled=str(home / "unlabelled")).unlabelled
    assert absolute.length == 2


def test_unlabelled_images_have_the_channels_of_the_others(home):
    more(home, "a")
    coloured = more(home, "bc", shape=(24, 20, 3))
    splits = folder(root=str(home))
    assert splits.train.channels == splits.unlabelled.channels == 1
    (warning,) = splits.report.issues
    assert warning.text == (
        "2 of 3 unlabelled images (unlabelled/b.png and 1 more) are RGB and become "
        "grey, as the images to train on are"
    )
    luma = np.rint(coloured["b"] @ [299, 587, 114] / 1000)
    np.testing.assert_array_equal(splits.unlabelled.load(1)["image"][..., 0], luma)
    tif(home / "unlabelled/d.tif", RNG.random((2, 24, 20)), "CYX")
    (home / "unlabelled/e.png").write_text("I am no image")
    nan = np.full((24, 20), np.nan, np.float32)
    tif(home / "unlabelled/f.tif", nan)
    found = {text.split(": ")[0]: text for text in errors(root=str(home))}
    assert found.keys() == {f"unlabelled/{n}" for n in ("d.tif", "e.png", "f.tif")}
    assert (
        "2 channels, where the images to train on have 1" in found["unlabelled/d.tif"]
    )
    assert "480 values are NaN" in found["unlabelled/f.tif"]


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_an_unlabelled_copy_of_what_is_measured_is_a_leak(home, part):
    name = folder(root=str(home)).notes["split.json"][part][0]
    for copy in ("copy", "other"):
        png(home / f"unlabelled/{copy}.png", pixels(home / f"images/{name}.png"))
    found = errors(root=str(home))
    if part == "train":
        assert not found
        return
    assert found == [
        f"unlabelled/copy.png: the same image as images/{name}.png ({part}), and 1 "
        "more like this; remove the unlabelled image, because training must not see "
        "it, or set --config.data.leaks=allow"
    ]
    allowed = folder(root=str(home), leaks="allow").report.issues
    assert [(issue.level, issue.kind) for issue in allowed] == [("warning", "leak")]


def test_constant_images_are_no_copies(home):
    name = folder(root=str(home)).notes["split.json"]["test"][0]
    for path in (f"images/{name}.png", "unlabelled/dark.png"):
        png(home / path, np.full((24, 20), 7))
    found = folder(root=str(home)).report.issues
    assert [issue.kind for issue in found] == ["flat", "flat"]


def test_records_on_disk_hold_targets_and_unlabelled_images(home, tmp_path):
    truth = sharp(home) | more(home, "ab")
    for _ in range(2):  # written, and read
        splits = folder(root=str(home), records=str(tmp_path / "records"))
        assert (splits.test.target_channels, splits.unlabelled.target_channels) == (
            2,
            0,
        )
        for name, record in records(splits).items():
            np.testing.assert_array_equal(record["target"], truth[name])
        for i in range(2):
            record = splits.unlabelled.load(i)
            wanted = truth[record["id"].split("/")[1]]
            np.testing.assert_array_equal(record["image"][..., 0], wanted)
