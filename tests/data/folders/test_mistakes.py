"""One broken folder for every mistake that people make, and what they are text."""

import shutil

import numpy as np
import pytest
import tifffile
from ml_collections import ConfigDict
from PIL import Image

from unet_jax import command, run
from unet_jax.configs import folder as config_of_a_folder
from unet_jax.data import folder
from unet_jax.errors import UserError

RNG = np.random.default_rng(1)
NOISE = RNG.integers(0, 200, (24, 20), dtype=np.uint8)


def png(home, name, array):
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def mask(home, i):
    return np.array(Image.open(home / f"masks/{i}.png"))


def no_mask(home):
    (home / "masks/3.png").unlink()


def no_image(home):
    (home / "images/3.png").unlink()


def another_name(home):
    (home / "masks/3.png").rename(home / "masks/3_mask.png")


def size(home):
    png(home, "masks/3.png", mask(home, 3)[:23])


def values(home):
    png(home, "masks/3.png", np.where(mask(home, 3), 7, 0).astype(np.uint8))


def all_values(home):
    for i in range(10):
        png(home, f"masks/{i}.png", np.where(mask(home, i), 7, 3).astype(np.uint8))


def colours(home):
    for i in range(10):
        red = np.stack([mask(home, i), *2 * [0 * mask(home, i)]], axis=-1)
        png(home, f"masks/{i}.png", red)


def smoothed(home):
    big = Image.fromarray(mask(home, 3)).resize((100, 100), Image.Resampling.BICUBIC)
    big.resize((20, 24), Image.Resampling.BILINEAR).save(home / "masks/3.png")


def jpeg(home):
    Image.fromarray(mask(home, 3)).save(home / "masks/3.jpg")
    (home / "masks/3.png").unlink()


def empty(home):
    for i in range(10):
        png(home, f"masks/{i}.png", 0 * mask(home, i))


def nan(home):
    image = NOISE.astype(np.float32)
    image[2, 3], image[5, 5] = np.nan, np.inf
    tifffile.imwrite(home / "images/3.tif", image)
    (home / "images/3.png").unlink()


def truncated(home):
    data = (home / "images/3.png").read_bytes()
    (home / "images/3.png").write_bytes(data[: len(data) // 2])


def text(home):
    (home / "masks/3.png").write_text("I am no image")


def channels(home):
    (home / "images/3.png").unlink()
    two = RNG.integers(0, 200, (2, 24, 20), dtype=np.uint8)
    tifffile.imwrite(home / "images/3.tif", two, metadata={"axes": "CYX"})


def stems(home):
    tifffile.imwrite(home / "images/3.tif", NOISE)


def unknown(home):
    (home / "images/3.png").rename(home / "images/3.webp")


def link(home):
    outside = home.parent / f"{home.name}-outside.png"
    (home / "images/3.png").rename(outside)
    (home / "images/3.png").symlink_to(outside)


def leak(home):
    for part, of in (("train", range(6)), ("test", range(6, 10))):
        for kind in ("images", "masks"):
            (home / part / kind).mkdir(parents=True)
            for i in of:
                (home / f"{kind}/{i}.png").rename(home / part / kind / f"{i}.png")
    for kind in ("images", "masks"):
        copy = home / f"test/{kind}/copy.png"
        copy.write_bytes((home / f"train/{kind}/2.png").read_bytes())
        (home / kind).rmdir()


def ids(home):
    for i in range(10):
        png(home, f"masks/{i}.png", RNG.integers(0, 90, (24, 20), dtype=np.uint8))


def numbered(home):
    for i in range(10):
        ids = np.zeros((24, 20), np.uint8)
        ids.flat[: 3 + i] = np.arange(1, 4 + i)
        png(home, f"masks/{i}.png", ids)


def void(home):
    for i in range(10):
        of_voc = np.where(mask(home, i), 1 + i % 3, 0).astype(np.uint8)
        of_voc[0] = 255
        png(home, f"masks/{i}.png", of_voc)


def nearly(home):
    off = mask(home, 3)
    off[off > 0] -= np.arange((off > 0).sum(), dtype=np.uint8) % 2
    png(home, "masks/3.png", off)


def transparent(home):
    white = np.full((24, 20, 4), 255, np.uint8)
    for i in range(10):
        white[..., 3] = mask(home, i)
        png(home, f"masks/{i}.png", white)


def empty_class(home):
    (home / "masks/cell").mkdir()
    (home / "masks/debris").mkdir()
    for i in range(10):
        (home / f"masks/{i}.png").rename(home / f"masks/cell/{i}.png")


def suffix(home):
    for i in range(10):
        (home / f"images/{i}.png").rename(home / f"images/{i}_0000.png")


def other_depth(home):
    for i in range(10):
        count = 3 if i == 3 else 2
        stack = np.stack([mask(home, i)] * count)
        (home / f"masks/{i}.png").unlink()
        axes = {"photometric": "minisblack", "metadata": {"axes": "CYX"}}
        tifffile.imwrite(home / f"masks/{i}.tif", stack, **axes)


def nothing(home):
    """No mistake in the files."""


def class_folders(home):
    for name in ("cell", "debris"):
        for i in range(10):
            png(home, f"masks/{name}/{i}.png", mask(home, i))
    for i in range(10):
        (home / f"masks/{i}.png").unlink()


def all_broken(home):
    class_folders(home)
    for i in range(10):
        (home / f"images/{i}.png").write_bytes(b"no image")


def other_folders(home):
    class_folders(home)
    for part, of in (("train", range(8)), ("val", range(8, 10))):
        for kind in ("images", "masks/cell", "masks/debris"):
            (home / part / kind).mkdir(parents=True)
            for i in of:
                (home / f"{kind}/{i}.png").rename(home / part / f"{kind}/{i}.png")
    (home / "val/masks/debris").rename(home / "val/masks/nucleus")
    shutil.rmtree(home / "images")


def mixed(home):
    for i in (3, 4):
        png(home, f"masks/{i}.png", mask(home, i) // 255)


def bands(home):
    for i in range(10):
        five = np.array([0, 64, 128, 192, 255], np.uint8)
        png(home, f"masks/{i}.png", np.tile(five, (24, 4)))


def few(home):
    for kind in ("images", "masks"):
        for i in range(2, 10):
            (home / f"{kind}/{i}.png").unlink()


def swapped(home):
    (home / "masks").rename(home / "labels")
    (home / "images").rename(home / "masks")
    (home / "labels").rename(home / "images")


def swapped_jpeg(home):
    swapped(home)
    for i in range(10):
        image = Image.open(home / f"masks/{i}.png")
        image.save(home / f"masks/{i}.jpg", quality=95)
        (home / f"masks/{i}.png").unlink()


def swapped_colours(home):
    swapped(home)
    for i in range(10):
        png(home, f"masks/{i}.png", RNG.integers(0, 256, (24, 20, 3), dtype=np.uint8))


def write_tiffs(home, convert):
    """Replaces each image and mask by `convert(image, mask)`; None keeps the file."""
    for i in range(10):
        files = [home / f"{kind}/{i}.png" for kind in ("images", "masks")]
        arrays = convert(*(np.array(Image.open(file)) for file in files))
        for file, array in zip(files, arrays, strict=True):
            if array is not None:
                planes = {"photometric": "rgb", "planarconfig": "separate"}
                how = planes if len(array) == 3 and array.dtype == np.uint8 else {}
                tifffile.imwrite(file.with_suffix(".tif"), array, **how)
                file.unlink()


def three_pages(home):
    write_tiffs(
        home,
        lambda image, mask: (
            np.stack([image, image + 1, image + 2]),
            np.stack([mask, mask // 255 * 7, mask]) // 255,
        ),
    )


def three_boolean_pages(home):
    write_tiffs(
        home,
        lambda image, mask: (np.stack([image] * 3), np.stack([mask] * 3) > 0),
    )


def five_first(home):
    write_tiffs(home, lambda image, _: (np.stack([image] * 5), None))


def five_last(home):
    write_tiffs(home, lambda image, _: (np.stack([image] * 5, axis=-1), None))


def two_last(home):
    write_tiffs(home, lambda image, _: (np.stack([image] * 2, axis=-1), None))


def twelve_values(home):
    for i in range(10):
        png(home, f"masks/{i}.png", RNG.integers(0, 12, (24, 20), dtype=np.uint8))


def seven_in_one(home):
    for i in range(10):
        png(home, f"masks/{i}.png", mask(home, i) // 255 * (1 if i else 7))


def three_values(home):
    for i in range(10):
        png(home, f"masks/{i}.png", RNG.integers(0, 3, (24, 20), dtype=np.uint8))


def three_colours(home):
    palette = np.array([[0, 0, 0], [9, 0, 0], [0, 0, 9]], np.uint8)
    for i in range(10):
        png(home, f"masks/{i}.png", palette[RNG.integers(0, 3, (24, 20))])


def void_of_two(home):
    for i in range(10):
        ids = mask(home, i) // 255
        ids[0] = 255
        png(home, f"masks/{i}.png", ids)


def half_mixed(home):
    for i in range(5, 10):
        png(home, f"masks/{i}.png", mask(home, i) // 255)


def half_16_bit(home):
    for i in range(5, 10):
        png(home, f"masks/{i}.png", mask(home, i).astype(np.uint16) * 257)


def stray_of_ids(home, foreground=1):
    for i in range(10):
        of_two = mask(home, i) // 255 * np.uint8(foreground)
        of_two[:3, :3] = 7 if i == 7 else 0
        png(home, f"masks/{i}.png", of_two)


def stray_of_greys(home):
    stray_of_ids(home, 100)


THREE = {"classes": ("bg", "a", "b")}
TWO = {"classes": ("bg", "a")}
MISTAKES = [
    (
        swapped,
        {},
        "images and masks seem to be swapped: images/0.png has 2 values, as a mask, "
        "and masks/0.png at least 141, as an image; exchange them: "
        "--config.data.images='masks' --config.data.masks='images'",
    ),
    (swapped_jpeg, {}, "--config.data.images='masks' --config.data.masks='images'"),
    (swapped_colours, {}, "--config.data.images='masks' --config.data.masks='images'"),
    (
        three_pages,
        {},
        "masks/0.tif: a mask of 3 planes with the values 0, 1, which are no colours; "
        "its image is stored as axes SYX 3 x 24 x 20, photometric RGB, planarconfig "
        "SEPARATE; if its first axis is pages, set --config.data.tiff_axes=ZYX",
    ),
    (
        three_boolean_pages,
        {},
        "3 pages, where its image has 1; its image is stored as axes SYX 3 x 24 x 20, "
        "photometric RGB, planarconfig SEPARATE; if its first axis is pages, set "
        "--config.data.tiff_axes=ZYX",
    ),
    (
        five_first,
        {},
        "masks/4.png and 5 more: 1 pages, where its image has 5; its image is stored "
        "as axes QYX 5 x 24 x 20, photometric MINISBLACK; if its first axis is "
        "channels, set --config.data.tiff_axes=CYX",
    ),
    (five_last, {}, "if its last axis is channels, set --config.data.tiff_axes=YXC"),
    (
        two_last,
        {},
        "is stored as 24 x 20 x 2 without names of its axes, so it may be 20 x 2 "
        "pixels on each page, or 2 channels; if channels are last, set "
        "--config.data.tiff_axes=YXC, else --config.data.tiff_axes=ZYX",
    ),
    (
        twelve_values,
        THREE,
        "masks have 12 values (0; 1; 2; 3; 4; 5; 6; 7 and 4 more), and classes names "
        "3 (bg, a, b); name every class: "
        "--config.data.classes=\"('bg', 'a', 'b', 'class 3', ",
    ),
    (
        three_values,
        TWO,
        "masks have 3 values (0; 1; 2), and classes names 2 (bg, a); name every "
        "class: --config.data.classes=\"('bg', 'a', 'class 2')\", or give each value "
        'one of the named classes: --config.data.label_map="((0,0),(1,1),(2,1),)"',
    ),
    (
        three_colours,
        TWO,
        'classes: --config.data.label_map="((0,0),((0,0,9),1),((9,0,0),1),)"',
    ),
    (void_of_two, TWO, "--config.data.ignore_label=255, if it marks unannotated"),
    (
        half_mixed,
        {},
        "5 masks (masks/0.png and 4 more) have 0; 255 and 5 masks (masks/5.png and 4 "
        "more) have 0; 1; if both mean foreground: "
        '--config.data.label_map="((0,0),(1,1),(255,1),)"; if 255 marks unannotated '
        "pixels: --config.data.ignore_label=255",
    ),
    (half_mixed, TWO, "(masks/5.png and 4 more) have 0; 1; if both mean foreground: "),
    (
        half_16_bit,
        {},
        "have 0; 255 and 5 masks (masks/5.png and 4 more) have 0; 65535; if both mean "
        'foreground: --config.data.label_map="((0,0),(255,1),(65535,1),)"',
    ),
    (
        stray_of_ids,
        {},
        "masks/7.png: the value 7 in 9 pixels, where masks have 0, 1; correct the "
        "file, or give the value a class: "
        '--config.data.label_map="((0,0),(1,1),(7,2),)"',
    ),
    (
        stray_of_greys,
        {},
        "masks/7.png: the value 7 in 9 pixels, where masks have 0, 100; correct the "
        "file, or give the value a class: "
        '--config.data.label_map="((0,0),(100,1),(7,2),)"',
    ),
    (
        stray_of_greys,
        {},
        "masks/4.png and 4 more: masks have the values 0; 100, whose classes are not "
        'known; give the values classes: --config.data.label_map="((0,0),(100,1),)"',
    ),
    (
        seven_in_one,
        TWO,
        "masks/0.png: the value 7 in 54 pixels, where masks have 0, 1; correct the "
        'file, or ignore the value: --config.data.label_map="((7,-1),(0,0),(1,1),)"',
    ),
    (no_mask, {}, "images/3.png: an image without a mask in masks; add"),
    (no_image, {}, "masks/3.png: a mask without an image; add"),
    (another_name, {}, "(is it 3_mask.png? then rename it to 3.png)"),
    (size, {}, "masks/3.png: the mask is 23 x 20, its image 24 x 20"),
    (
        values,
        {},
        "masks/3.png: the value 7 in 81 pixels, where masks have 0, 255; correct "
        "the file, or give the value a class: "
        '--config.data.label_map="((0,0),(255,1),(7,2),)"',
    ),
    (
        all_values,
        {},
        "masks/4.png and 5 more: masks have the values 3; 7, whose classes are not "
        'known; give the values classes: --config.data.label_map="((3,0),(7,1),)"',
    ),
    (colours, {}, '--config.data.label_map="((0,0),((255,0,0),1),)"'),
    (smoothed, {}, "values between 0 and 255, so the mask is anti-aliased"),
    (jpeg, {}, "masks/3.jpg: a JPEG does not keep the values of a mask; export it"),
    (empty, {}, "masks to train on hold only background"),
    (
        no_mask,
        {"classes": ("background", "cell", "debris"), "label_map": ((0, 0), (255, 1))},
        "images/3.png: an image without a mask in masks; add the mask or remove",
    ),
    (nan, {}, "images/3.tif: 2 values are NaN or infinite; replace them"),
    (truncated, {}, "images/3.png: is cut off"),
    (text, {}, "masks/3.png: cannot be read"),
    (channels, {}, "images/3.tif: 2 channels, where most have 1; save it with 1"),
    (stems, {}, "images/3.tif, images/3.png: two files of one stem; rename or"),
    (unknown, {}, "images/3.webp: an unknown format; save it as one of .png, .jpg"),
    (link, {}, "images/3.png: a link that leaves"),
    (leak, {}, "test/images/copy.png (test): the same image as train/images/2.png"),
    (ids, {}, "if these are object ids, put the files into instances/"),
    (numbered, {}, "if these are object ids, put the files into instances/"),
    (void, {}, "--config.data.ignore_label=255, if it marks unannotated pixels"),
    (nearly, {}, '--config.data.label_map="((0,0),(254,1),(255,1),)"'),
    (transparent, {}, "a mask with transparent parts, which are ignored; save it"),
    (empty_class, {}, "masks/debris: no masks in it; put the masks of the class there"),
    (
        suffix,
        {},
        "none of 10 images has a mask of its name, such as images/0_0000.png and "
        "masks/0.png; describe their names by globs: "
        "--config.data.images='images/*_0000.png' --config.data.masks='masks/*.png'",
    ),
    (
        other_depth,
        {"multilabel": True},
        "masks/3.tif: 3 channels, one for each class, and not 2",
    ),
    (
        nothing,
        {"label_map": ((0, 0), (254, 1))},
        "masks have the values 0; 255, and the label map has the values 0; 254; give "
        'the values classes: --config.data.label_map="((0,0),(255,1),)"',
    ),
    (
        class_folders,
        {},
        "each class has its own mask, so classes may overlap; set --config.task.",
    ),
    (all_broken, {}, "images/4.png and 5 more: cannot be read"),
    (
        other_folders,
        {},
        "val/masks: has a folder for each of cell, nucleus, but train/masks has a "
        "folder for each of cell, debris; make them equal",
    ),
    (mixed, {}, '--config.data.label_map="((0,0),(1,1),(255,1),)"'),
    (bands, {}, '--config.data.label_map="((0,0),(64,1),(128,2),(192,3),(255,4),)"'),
    (few, {}, "2 images cannot be split into train, val, test; add some"),
]


@pytest.mark.parametrize(
    ("mistake", "options", "text"), MISTAKES, ids=[m.__name__ for m, *_ in MISTAKES]
)
def test_a_mistake_is_told_and_nothing_is_trained(
    mistake, options, text, home, capsys, tmp_path_factory
):
    mistake(home)
    config = config_of_a_folder.get_config()
    config.crop, config.model.widths = (16, 16), (2, 4)
    config.data.root = str(home)
    for name, value in options.items():
        config.data[name] = value
    workdir = tmp_path_factory.mktemp("run")
    with pytest.raises(SystemExit) as end, command.report_user_errors():
        run.train(config, workdir)
    assert text in end.value.code
    assert "Traceback" not in end.value.code
    assert not list(workdir.iterdir())
    assert run.inspect(config, workdir) == 1
    assert text in " ".join(capsys.readouterr().out.split("\n"))


@pytest.mark.parametrize(
    ("mistake", "options", "channels", "pages"),
    [
        (swapped, {"images": "masks", "masks": "images"}, 1, 1),
        (swapped_jpeg, {"images": "masks", "masks": "images"}, 1, 1),
        (three_pages, {"tiff_axes": "ZYX"}, 1, 3),
        (three_boolean_pages, {"tiff_axes": "ZYX"}, 1, 3),
        (five_first, {"tiff_axes": "CYX"}, 5, 1),
        (five_last, {"tiff_axes": "YXC"}, 5, 1),
        (half_mixed, {"label_map": ((0, 0), (1, 1), (255, 1))}, 1, 1),
        (half_16_bit, {"label_map": ((0, 0), (255, 1), (65535, 1))}, 1, 1),
        (two_last, {"tiff_axes": "YXC"}, 2, 1),
        (seven_in_one, TWO | {"label_map": ((7, -1), (0, 0), (1, 1))}, 1, 1),
    ],
)
def test_the_remedy_helps(mistake, options, channels, pages, home):
    image = np.array(Image.open(home / "images/3.png"))
    label = np.array(Image.open(home / "masks/3.png")) // 255
    mistake(home)
    splits = folder(root=str(home), **options)
    assert not splits.report.errors
    records = {
        record["id"]: record
        for source in splits.sources.values()
        for record in map(source.load, range(source.length))
    }
    assert len(records) == 10 * pages
    record = records["3/000" if pages > 1 else "3"]
    if mistake is not swapped_jpeg:
        expected = np.repeat(image[..., None], channels, axis=-1)
        np.testing.assert_array_equal(record["image"], expected)
    np.testing.assert_array_equal(record["label"], label)


def test_classes_that_no_mask_has_are_a_warning(home):
    splits = folder(root=str(home), classes=("bg", "a", "b", "c"))
    (issue,) = splits.report.issues
    assert issue.level == "warning"
    assert issue.text == (
        "in no mask: class 2 'b', 3 'c'; such a class is not learnt and has no score. "
        "Add masks that have it, or remove its name from --config.data.classes"
    )


def test_a_class_that_only_the_test_images_have(home):
    for part, of in (("train", range(6)), ("val", (6, 7)), ("test", (8, 9))):
        for kind in ("images", "masks"):
            (home / part / kind).mkdir(parents=True)
            for i in of:
                (home / f"{kind}/{i}.png").rename(home / part / kind / f"{i}.png")
    for i in (8, 9):
        png(home, f"test/masks/{i}.png", mask(home / "test", i) // 255 * 2)
    for part, of in (("train", range(6)), ("val", (6, 7))):
        for i in of:
            png(home, f"{part}/masks/{i}.png", mask(home / part, i) // 255)
    shutil.rmtree(home / "images")
    shutil.rmtree(home / "masks")
    (issue,) = folder(root=str(home)).report.errors
    assert "only test/images/8.png, test/images/9.png has it" in issue.text
    assert issue.text.endswith("move an image with it to the training images")


def test_folders_that_are_not_read_are_mentioned_once(home):
    for name in ("masks_2nd_observer", "__MACOSX", "empty"):
        (home / name).mkdir()
    for name in ("masks_2nd_observer/0.png", "annotations/x/0.png", "__MACOSX/0.png"):
        png(home, name, mask(home, 0))
    splits = folder(root=str(home))
    assert not splits.report.issues
    assert splits.report.decisions == (
        "mask values: 0 is background, 255 is foreground",
        "folders that are not read: annotations, masks_2nd_observer; to read one "
        "instead of masks: --config.data.masks='annotations'",
    )


def test_images_in_the_place_of_object_ids_are_suspected(home):
    swapped(home)
    (home / "masks").rename(home / "instances")
    texts = [i.text for i in folder(root=str(home)).report.issues]
    assert "exchange them: --config.data.images='instances'" in " ".join(texts)


def test_all_mistakes_are_told_at_once(home):
    size(home)
    data = (home / "images/5.png").read_bytes()
    (home / "images/5.png").write_bytes(data[: len(data) // 2])
    png(home, "masks/4.png", mask(home, 4)[:, :19])
    png(home, "images/extra.png", NOISE)
    kinds = sorted(issue.kind for issue in folder(root=str(home)).report.errors)
    assert kinds == ["missing pair", "size", "size", "unreadable"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "root: name the folder"),
        ({"root": "nowhere"}, "there is no folder nowhere"),
        ({"images": "raw"}, "has no images in raw, nor in train|val|test/raw"),
        ({"masks": "drawn"}, "drawn: there are no masks"),
        ({"label_map": ((0, 0), (255, 2))}, "label_map leaves class 1 out"),
        ({"label_map": (0, 255)}, "label_map must be pairs"),
        (
            {"classes": ("bg",)},
            "classes=('bg',) needs a name for each class, the background first: "
            "--config.data.classes=\"('bg', 'object')\"",
        ),
        ({"tiff_axes": "XYC"}, "tiff_axes='XYC' must name each axis once"),
        ({"label_map": ((255, "cell"),)}, "label_map names cell and no background"),
        ({"group": "case_(.)"}, "group='case_(.)' is not found in 10 of 10 names"),
        ({"group": "("}, "is not a regular expression"),
        ({"group": "([a-z]*)"}, "finds 1 groups, fewer than there are splits"),
        (
            {"folds": 11},
            "folds must be at least 3 and at most 10, the number of groups",
        ),
        ({"spacing": (1.0,)}, "spacing=(1.0,) must have 2 sizes, one for each axis"),
        ({"split": "no.json"}, "split: no.json is not a file; name the split.json"),
        ({"colours": ("red", "green")}, "colours must have red, green and blue"),
        (
            {"colours": ((1, 2, 3),) * 3},
            "colours must have one for each class; it has 3 of 2",
        ),
        ({"val": 0.7, "test": 0.5}, "val=0.7 and test=0.5 leave nothing to train on"),
    ],
)
def test_an_argument_that_cannot_be(options, text, home):
    options = {"root": str(home)} | options if options else {}
    try:
        errors = [issue.text for issue in folder(**options).report.errors]
    except UserError as error:
        errors = [str(error)]
    assert text in errors[0], errors


@pytest.mark.parametrize("crop", [(64, 64)])
def test_a_crop_beyond_the_images_is_announced(crop, home, capsys, tmp_path):
    from unet_jax.build.training import build

    config = config_of_a_folder.get_config()
    config.crop, config.model.widths = crop, (2, 4)
    config.data = ConfigDict(dict(config.data) | {"root": str(home)})
    build(config)
    said = capsys.readouterr().out
    assert "config.crop=64,64 is larger than 8 of 8 images" in said
    assert "mask values: 0 is background, 255 is foreground" in said
