"""The verb `predict`: input files, result files and printed lines."""

import json
import os
import shutil

import numpy as np
import pytest
import tifffile
from ml_collections import ConfigDict
from PIL import Image

import unet_jax
from unet_jax import pictures
from unet_jax.colours import choose_colours
from unet_jax.errors import UserError
from unet_jax.inference import Inference
from unet_jax.run import predict, train


@pytest.fixture(scope="module")
def predictor(trained):
    return unet_jax.Predictor.load(trained[1])


def grey(*shape):
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)


@pytest.mark.slow
def test_images_and_stacks(trained, predictor, tmp_path, capsys):
    config, run = trained
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    flat, stack = grey(37, 53), grey(4, 21, 30).astype(np.uint16)
    Image.fromarray(flat).save(images / "flat.png")
    Image.fromarray(flat).save(images / "twice.bmp")
    (images / "notes.txt").write_text("no image")
    tifffile.imwrite(images / "stack.tif", stack, photometric="minisblack")
    assert predict(config, run, input=str(images), output=str(out)) == 0

    labels = np.asarray(Image.open(out / "flat_labels.png"))
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, predictor.labels(flat))
    pages = tifffile.imread(out / "stack_labels.tif")
    assert (pages.shape, pages.dtype) == (stack.shape, np.uint8)
    for page, image in zip(pages, stack, strict=True):
        np.testing.assert_array_equal(page, predictor.labels(image))
    overlay = np.asarray(Image.open(out / "flat_overlay.png"))
    expected = pictures.draw_overlay(flat[..., None], labels, choose_colours(2))
    np.testing.assert_array_equal(overlay, expected)
    overlay = np.asarray(Image.open(out / "stack_overlay.png"))
    expected = pictures.draw_overlay(stack[2][..., None], pages[2], choose_colours(2))
    np.testing.assert_array_equal(overlay, expected)
    assert len(list(out.iterdir())) == 6

    skipped, started, *lines = capsys.readouterr().out.splitlines()
    assert started == "predicting files ..."
    assert skipped == "skipped, not images: notes.txt"
    assert [line.split(":")[0] for line in lines] == [
        "flat.png",
        "stack.tif",
        "twice.bmp",
    ]
    share = 100 * (labels == 1).mean()
    assert f"37 x 53, background {100 - share:.1f} %, cell {share:.1f} %" in lines[0]
    assert "4 x 21 x 30," in lines[1]


def test_all_optional_results(trained, predictor, tmp_path, capsys):
    config, run = trained
    config = config.copy_and_resolve_references()
    config.predict.save_probabilities = config.predict.save_uncertainty = True
    config.predict.postprocess = (ConfigDict({"name": "components"}),)
    image = grey(37, 53)
    Image.fromarray(image).save(tmp_path / "a.png")
    out = tmp_path / "out"
    assert predict(config, run, input=str(tmp_path / "*.png"), output=str(out)) == 0
    saved = tifffile.imread(out / "a_probabilities.tif")
    assert saved.dtype == np.float32
    np.testing.assert_array_equal(
        np.moveaxis(saved, 0, -1), predictor.probabilities(image)
    )
    uncertainty = tifffile.imread(out / "a_uncertainty.tif")
    np.testing.assert_array_equal(uncertainty[0], predictor.uncertainty(image))
    objects = np.asarray(Image.open(out / "a_instances.png"))
    assert objects.dtype == np.uint16
    np.testing.assert_array_equal(objects, predictor.objects(image))
    assert f"{objects.max()} objects" in capsys.readouterr().out


def test_each_faulty_file_gets_one_line_and_the_others_are_predicted(
    trained, tmp_path, capsys
):
    config, run = trained
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    Image.fromarray(grey(20, 20)).save(images / "good.png")
    (images / "broken.png").write_bytes((images / "good.png").read_bytes()[:150])
    (images / "empty.tif").write_bytes(b"")
    Image.fromarray(grey(20, 20, 3)).save(images / "colour.png")
    nan = grey(20, 20).astype(np.float32)
    nan[3, 4] = np.nan
    tifffile.imwrite(images / "nan.tif", nan)
    code = predict(config, run, input=str(images), output=str(out))
    stdout, stderr = capsys.readouterr()
    assert code == 1
    errors = stderr.splitlines()
    assert len(errors) == 4
    for name, words in [
        ("broken.png", "is cut off"),
        (
            "colour.png",
            "has 3 channels, the network takes 1; --config.predict.channels",
        ),
        ("empty.tif", ""),
        ("nan.tif", "NaN"),
    ]:
        (line,) = [line for line in errors if f"{name}:" in line]
        assert line.startswith("error: ")
        assert words in line
    assert "4 of 5 files could not be predicted:" in stdout
    assert sorted(p.name for p in out.iterdir()) == [
        "good_labels.png",
        "good_overlay.png",
    ]
    config = config.copy_and_resolve_references()
    config.predict.channels = "convert"
    colour = str(images / "colour.png")
    assert predict(config, run, input=colour, output=str(out)) == 0


def test_results_of_an_earlier_run_are_not_read_as_images(trained, tmp_path, capsys):
    config, run = trained
    Image.fromarray(grey(20, 20)).save(tmp_path / "a.png")
    where = {"input": f"{tmp_path}/**/*", "output": str(tmp_path / "out")}
    for _ in range(2):
        assert predict(config, run, **where) == 0
        _, line = capsys.readouterr().out.splitlines()
        assert line.startswith("a.png: ")


def test_inputs_and_outputs_that_cannot_work_are_refused(trained, tmp_path):
    config, run = trained
    Image.fromarray(grey(20, 20)).save(tmp_path / "a.png")
    image, out = str(tmp_path / "a.png"), str(tmp_path / "out")
    with pytest.raises(UserError, match="no such file; known extensions are .png"):
        predict(config, run, input=str(tmp_path / "b.png"), output=out)
    with pytest.raises(UserError, match="does not exist"):
        predict(config, tmp_path / "no", input=image, output=out)
    with pytest.raises(UserError, match="is the folder of the images"):
        predict(config, run, input=image, output=str(tmp_path))
    with pytest.raises(UserError, match="is the folder of the images"):
        predict(config, run, input=f"{tmp_path}/**/*", output=str(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--output=.*file.*name a folder"):
        predict(config, run, input=image, output=str(tmp_path / "file"))
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_without_write_permission_is_refused(trained, tmp_path):
    config, run = trained
    Image.fromarray(grey(20, 20)).save(tmp_path / "a.png")
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(UserError, match="name a folder you may write to"):
        predict(
            config, run, input=str(tmp_path / "a.png"), output=str(tmp_path / "out")
        )


@pytest.mark.slow
def test_a_large_image_is_predicted_by_rows(trained, tmp_path, monkeypatch):
    config, run = trained
    config = config.copy_and_resolve_references()
    config.predict.tile, config.predict.batch = (128,), 8
    image = grey(1024, 4096)
    tifffile.imwrite(tmp_path / "wide.tif", image, tile=(256, 256))
    heights = []
    rows = Inference.predict_rows

    def record_heights(*args, **kwargs):
        for answer in rows(*args, **kwargs):
            heights.append(len(answer["label"]))
            yield answer

    monkeypatch.setattr(Inference, "predict_rows", record_heights)
    predict(config, run, input=str(tmp_path / "*.tif"), output=str(tmp_path / "out"))
    assert sum(heights) == 1024
    assert max(heights) <= 128
    labels = np.asarray(Image.open(tmp_path / "out" / "wide_labels.png"))
    whole = unet_jax.Predictor.load(run, tile=(4096,)).labels(image)
    assert (labels == whole).mean() > 0.9999  # SAME padding: equal up to rounding
    with Image.open(tmp_path / "out" / "wide_overlay.png") as overlay:
        assert overlay.size == (2048, 512)


@pytest.mark.slow
def test_volumes_keep_their_affine(tiny, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    tiny.crop, tiny.data.shape, tiny.steps = (8, 8, 8), (9, 12, 10), 1
    run, out = tmp_path / "run", tmp_path / "out"
    train(tiny, run)
    voxels = grey(11, 9, 14).astype(np.int16)
    affine = np.diag([0.5, 2.0, 1.0, 1.0])
    affine[:3, 3] = 3, -4, 5
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "scan.nii.gz")
    tifffile.imwrite(tmp_path / "scan.tif", voxels.astype("u2"))
    assert predict(tiny, run, input=str(tmp_path / "scan.*"), output=str(out)) == 0
    predictor = unet_jax.Predictor.load(run)
    written = nibabel.load(out / "scan_nii_gz_labels.nii.gz")
    np.testing.assert_array_equal(written.affine, affine)
    np.testing.assert_array_equal(
        np.asarray(written.dataobj).T, predictor.labels(voxels.T)
    )
    np.testing.assert_array_equal(
        tifffile.imread(out / "scan_tif_labels.tif"), predictor.labels(voxels)
    )


def test_prediction_needs_only_the_checkpoints(trained, tmp_path):
    """The config file is not needed: the checkpoint holds a copy."""
    config, run = trained
    shutil.copytree(run / "checkpoints", tmp_path / "moved" / "checkpoints")
    image = grey(20, 24)
    np.testing.assert_array_equal(
        unet_jax.Predictor.load(tmp_path / "moved").labels(image),
        unet_jax.Predictor.load(run).labels(image),
    )
    assert json.loads((run / "config.json").read_text())["predict"]["tta"] == "none"


@pytest.mark.slow
def test_blended_tiles_are_reported(tiny, tmp_path, capsys):
    tiny.model.norm, tiny.steps = "instance", 1
    train(tiny, tmp_path / "run")
    tiny.predict.tile = (32,)
    image = grey(90, 70)
    Image.fromarray(image).save(tmp_path / "a.png")
    source, out = str(tmp_path / "a.png"), str(tmp_path / "out")
    assert predict(tiny, tmp_path / "run", input=source, output=out) == 0
    assert "are blended" in capsys.readouterr().out
    labels = np.asarray(Image.open(tmp_path / "out" / "a_labels.png"))
    assert (labels.dtype, labels.shape) == (np.uint8, (90, 70))


def test_objects_are_counted_and_numbered_from_1_in_each_image(
    trained, tmp_path, capsys
):
    config, run = trained
    config = config.copy_and_resolve_references()
    config.predict.postprocess = (
        ConfigDict({"name": "components"}),
        ConfigDict({"name": "remove_small", "pixels": 5}),
    )
    tifffile.imwrite(tmp_path / "s.tif", grey(3, 40, 40), photometric="minisblack")
    source, out = str(tmp_path / "s.tif"), str(tmp_path / "out")
    assert predict(config, run, input=source, output=out) == 0
    objects = tifffile.imread(tmp_path / "out" / "s_instances.tif")
    assert objects.dtype == np.uint32
    for page in objects:
        assert list(np.unique(page[page > 0])) == list(range(1, page.max() + 1))
    found = sum(int(page.max()) for page in objects)
    assert f"{found} objects" in capsys.readouterr().out


def test_an_unexpected_error_does_not_stop_the_other_files(
    trained, tmp_path, monkeypatch, capsys
):
    config, run = trained
    for name in "ab":
        Image.fromarray(grey(20, 20)).save(tmp_path / f"{name}.png")
    overlay = pictures.draw_overlay
    fits = iter([False, True])

    def fail_once(*args, **options):
        if not next(fits):
            raise MemoryError("too large")
        return overlay(*args, **options)

    monkeypatch.setattr(pictures, "draw_overlay", fail_once)
    where = {"input": str(tmp_path), "output": str(tmp_path / "out")}
    assert predict(config, run, **where) == 1
    stdout, stderr = capsys.readouterr()
    assert stderr == f"error: {tmp_path}/a.png: MemoryError: too large\n"
    assert "b.png: 20 x 20" in stdout


def test_turned_photographs_and_time_series(trained, predictor, tmp_path, capsys):
    """Results are upright, as training is; frames stay frames, with their interval."""
    config, run = trained
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    upright, movie = grey(37, 53), grey(3, 24, 20)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.rot90(upright)).save(source / "a.png", exif=exif)
    about = {"axes": "TYX", "unit": "um", "finterval": 2.0}
    tifffile.imwrite(source / "t.tif", movie, imagej=True, metadata=about)
    Image.fromarray(movie[0]).save(source / "\x1b[31mred.png")
    assert predict(config, run, input=str(source), output=str(out)) == 0
    with Image.open(out / "a_labels.png") as labels:
        assert 274 not in labels.getexif()
        np.testing.assert_array_equal(labels, predictor.labels(upright))
    with tifffile.TiffFile(out / "t_labels.tif") as file:
        assert file.series[0].axes == "TYX"
        assert file.imagej_metadata["finterval"] == 2.0
        expected = np.stack([predictor.labels(frame) for frame in movie])
        np.testing.assert_array_equal(file.asarray(), expected)
    printed = capsys.readouterr().out
    assert "a.png: 37 x 53, turned upright by the EXIF orientation, " in printed
    assert "\x1b" not in printed
    assert r"\x1b[31mred.png: 24 x 20" in printed


def test_results_of_an_earlier_prediction_are_kept_and_named(trained, tmp_path, capsys):
    config, run = trained
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    out.mkdir()
    Image.fromarray(grey(20, 20)).save(images / "a.png")
    (images / "Thumbs.db").touch()
    for name in ("a_labels.png", "a_instances.tif", "b_labels.nii.gz", "notes.txt"):
        (out / name).write_text("earlier")
    where = {"input": str(images), "output": str(out)}
    assert predict(config, run, **where) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == (
        f"{out} still holds results of an earlier prediction: a_instances.tif, "
        "b_labels.nii.gz; another --output keeps predictions apart"
    )
    assert np.asarray(Image.open(out / "a_labels.png")).shape == (20, 20)
    assert (out / "a_instances.tif").read_text() == "earlier"
    assert (out / "b_labels.nii.gz").read_text() == "earlier"
    for name in ("a_instances.tif", "b_labels.nii.gz"):
        (out / name).unlink()
    assert predict(config, run, **where) == 0
    assert "still holds" not in capsys.readouterr().out


def test_odd_names_and_planes(trained, tmp_path, capsys):
    """Input in a folder with brackets, a name that is not UTF-8, pages as planes."""
    config, run = trained
    images, out = tmp_path / "new [1] ä", tmp_path / "out"
    images.mkdir()
    Image.fromarray(grey(20, 20)).save(images / os.fsdecode(b"\xff.png"))
    planes = {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(images / "p.tif", grey(3, 20, 20), **planes)
    where = {"input": f"{images}/*.*", "output": str(out)}
    assert predict(config, run, **where) == 1
    stdout, stderr = capsys.readouterr()
    assert "\\xff.png: 20 x 20" in stdout
    assert (out / os.fsdecode(b"\xff_labels.png")).exists()
    assert stderr.endswith(
        "if its first axis is pages, set --config.data.tiff_axes=ZYX\n"
    )
    config = config.copy_and_resolve_references()
    config.data.tiff_axes = "ZYX"
    assert predict(config, run, **where) == 0
    assert tifffile.imread(out / "p_labels.tif").shape == (3, 20, 20)
