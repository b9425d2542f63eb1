import itertools
import re
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_jax.data import files
from unet_jax.data.files import limits, tiff_planes
from unet_jax.errors import UserError

RNG = np.random.default_rng(0)
GREY = {"photometric": "minisblack"}
STORED = {  # the same pages, stored in every way
    "contiguous": {},
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "no metadata": {"metadata": None},
    "striped": {"rowsperstrip": 7, "metadata": None},
    "deflate": {"compression": "zlib", "rowsperstrip": 7},
    "one strip": {"compression": "zlib"},
    "predictor": {"compression": "zlib", "predictor": True, "rowsperstrip": 5},
    "lzma": {"compression": "lzma", "rowsperstrip": 7},
    "tiled": {"tile": (16, 32)},
    "tiled deflate": {"tile": (16, 32), "compression": "zlib"},
    "big-endian": {"byteorder": ">", "metadata": None},
    "big-endian tiled": {"byteorder": ">", "tile": (16, 16), "compression": "zlib"},
    "BigTIFF": {"bigtiff": True},
    "OME": {"ome": True, "metadata": {"axes": "ZYX"}},
}


def draw(*shape, dtype=np.uint16):
    if np.dtype(dtype).kind == "f":
        return RNG.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max, shape, dtype, endpoint=True)


def save(folder, array, **options):
    path = folder / "a.tif"
    tifffile.imwrite(path, array, **(GREY | options))
    return path


def windows(*shape):
    """Every combination of the first, some middle and the last part of each axis."""
    cuts = [sorted({0, n // 3, n - n // 4, n}) for n in shape]
    parts = [[slice(a, b) for a, b in itertools.pairwise(c)] for c in cuts]
    return list(itertools.product(*parts)) + [tuple(slice(0, n) for n in shape)]


def assert_reads(path, expected, axes=2):
    """Windows equal those of `expected` [count, *S, C]."""
    with files.open_images(path, axes=axes) as file:
        assert (file.count, *file.shape, file.channels) == expected.shape
        assert file.dtype == expected.dtype
        assert file.dtype.isnative
        for image, box in itertools.product(range(file.count), windows(*file.shape)):
            block = file.read(image, box)
            assert block.dtype == file.dtype
            np.testing.assert_array_equal(block, expected[(image, *box)])


@pytest.mark.parametrize("options", STORED.values(), ids=STORED)
def test_windows_are_slices_of_what_was_written(tmp_path, options):
    stack = draw(3, 37, 45)
    path = save(tmp_path, stack, **options)
    assert_reads(path, stack[..., None])
    assert_reads(path, stack[None, ..., None], axes=3)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u4", "i4", "f2", "f4", "f8"])
def test_every_type_of_number(tmp_path, dtype, compression):
    image = draw(9, 11, dtype=dtype)
    path = save(tmp_path, image, byteorder=">", compression=compression)
    assert_reads(path, image[None, ..., None])


def test_blocks_of_several_slices(tmp_path):
    volume = draw(20, 18, 33)
    path = save(tmp_path, volume, volumetric=True, tile=(16, 16, 16))
    assert_reads(path, volume[None, ..., None], axes=3)
    assert_reads(path, volume[..., None])


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16), "compression": "zlib"}])
def test_samples_are_channels(tmp_path, planar, options):
    colour = draw(2, 20, 21, 3, dtype=np.uint8)
    stored = colour if planar == "contig" else np.moveaxis(colour, -1, 1)
    path = save(tmp_path, stored, photometric="rgb", planarconfig=planar, **options)
    assert_reads(path, colour)
    assert_reads(path, colour[None], axes=3)


@pytest.mark.parametrize(
    ("axes", "order"),
    [
        (2, "CYX"),
        (2, "ZCYX"),
        (2, "TZYX"),
        (3, "ZCYX"),
        (3, "CZYX"),
        (3, "TZCYX"),
        (3, "TZYX"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}])
def test_axes_have_their_part(tmp_path, axes, order, options):
    """T, Z and C have lengths 4, 5 and 2; the expected array is made with einsum."""
    sizes = {"T": 4, "Z": 5, "C": 2, "Y": 6, "X": 7}
    array = draw(*(sizes[name] for name in order))
    path = save(tmp_path, array, metadata={"axes": order}, **options)
    wanted = ["T", "Z", "Y", "X", "C"]
    there = "".join(name for name in wanted if name in order)
    array = np.einsum(f"{order}->{there}", array)
    lengths = [sizes[name] if name in order else 1 for name in wanted]
    if axes == 2:
        lengths[:2] = [lengths[0] * lengths[1]]
    assert_reads(path, array.reshape(lengths), axes)


@pytest.mark.parametrize(
    ("samples", "kind"), [(4, "unassalpha"), (4, "assocalpha"), (2, "unassalpha")]
)
def test_alpha_is_dropped(tmp_path, samples, kind):
    image = draw(9, 11, samples, dtype=np.uint8)
    colour = "rgb" if samples == 4 else "minisblack"
    path = save(
        tmp_path, image, photometric=colour, planarconfig="contig", extrasamples=[kind]
    )
    assert_reads(path, image[None, ..., :-1])


def test_a_fourth_sample_that_is_not_alpha_stays(tmp_path):
    image = draw(9, 11, 4, dtype=np.uint8)
    path = save(tmp_path, image, photometric="rgb", extrasamples=["unspecified"])
    assert_reads(path, image[None])


@pytest.mark.parametrize("compression", ["raw", "packbits", "tiff_lzw"])
def test_palette_and_one_bit_as_pillow_reads_them(tmp_path, compression):
    """Both readers, ours by tifffile or, of LZW, by Pillow, give Pillow's numbers."""
    path = tmp_path / "a.tif"
    colour = Image.fromarray(draw(9, 11, 3, dtype=np.uint8))
    for image, mode in (
        (colour.quantize(7), "RGB"),
        (colour.convert("1"), "L"),
        (colour.convert("L"), "L"),
        (colour, "RGB"),
    ):
        image.save(path, compression=compression)
        expected = np.asarray(image.convert(mode)).reshape(1, 9, 11, -1)
        assert_reads(path, expected)


BITS = RNG.random((9, 11)) > 0.6
STORED_AS_0_AND_255 = {  # of BITS, by each writer; True where a mask is drawn
    "tifffile, boolean": lambda p: tifffile.imwrite(p, BITS),
    "tifffile, no metadata": lambda p: tifffile.imwrite(p, BITS, metadata=None),
    "tifffile, own software": lambda p: tifffile.imwrite(p, BITS, software="mine"),
    "tifffile, OME": lambda p: tifffile.imwrite(p, BITS, ome=True),
    "tifffile, black is zero": lambda p: tifffile.imwrite(p, BITS, **GREY),
    "tifffile, deflate": lambda p: tifffile.imwrite(p, BITS, compression="zlib"),
    "Pillow": lambda p: Image.fromarray(BITS).save(p),
    "Pillow, white is zero": lambda p: pillow_white(p, "raw"),
    "Pillow, packbits": lambda p: pillow_white(p, "packbits"),
    "Pillow, group 4": lambda p: pillow_white(p, "group4"),
    "Pillow, LZW": lambda p: pillow_white(p, "tiff_lzw"),
    "Pillow, 8 bits": lambda p: pillow_white(p, "raw", mode="L"),
    "Pillow, 8 bits, LZW": lambda p: pillow_white(p, "tiff_lzw", mode="L"),
    "ImageJ, inverting table": lambda p: tifffile.imwrite(
        p, BITS.astype("u1") * 255, photometric="miniswhite", imagej=True
    ),
    "ImageJ, LZW": lambda p: by_imagej(p),
    "MATLAB, 1 bit": lambda p: by_hand(p, np.packbits(~BITS, 1), bits=1, white=0),
    "a scanner, 8 bits": lambda p: by_hand(p, 255 - BITS * np.uint8(255), white=0),
    "no photometric, 8 bits": lambda p: by_hand(p, BITS * np.uint8(255)),
    "no photometric, 1 bit": lambda p: by_hand(p, np.packbits(BITS, 1), bits=1),
}  # fmt: skip


def pillow_white(path, compression, mode="1"):
    image = Image.fromarray(BITS).convert(mode)
    image.save(path, compression=compression, tiffinfo={262: 0})


def by_imagej(path):
    """Pixels stored as they are, as ImageJ does, and packed by libtiff."""
    image = Image.fromarray(255 - BITS * np.uint8(255))  # Pillow inverts it
    info = {262: 0, 270: "ImageJ=1.54f\nimages=1\n"}
    image.save(path, compression="tiff_lzw", tiffinfo=info)


def by_hand(path, rows, bits=8, white=None):
    """One uncompressed strip; `white` is the tag, if there is one."""
    tags = [(256, 11), (257, 9), (258, bits), (259, 1), (273, 200), (277, 1), (278, 9)]
    tags += [(279, rows.size)] + ([] if white is None else [(262, white)])
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags)]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(entries)
    path.write_bytes(head.ljust(200, b"\0") + rows.tobytes())


@pytest.mark.parametrize("write", STORED_AS_0_AND_255.values(), ids=STORED_AS_0_AND_255)
def test_what_each_program_means_by_white_is_zero(tmp_path, write):
    write(tmp_path / "a.tif")
    assert_reads(
        tmp_path / "a.tif", np.where(BITS, 255, 0).astype("u1")[None, ..., None]
    )


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("tifffile, boolean", "not inverted, .* as tifffile writes it"),
        ("ImageJ, LZW", "not inverted, .* as ImageJ writes it"),
        ("Pillow, group 4", "inverted, because 0 is white"),
        ("MATLAB, 1 bit", "inverted, because 0 is white"),
        ("no photometric, 1 bit", None),
        ("Pillow", None),
    ],
)
def test_the_decision_is_noted(tmp_path, name, note):
    STORED_AS_0_AND_255[name](tmp_path / "a.tif")
    with files.open_images(tmp_path / "a.tif", axes=2) as file:
        assert len(file.notes) == (note is not None)
        assert note is None or re.match(note, file.notes[0])


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
def test_white_as_zero_inverts_unsigned_numbers_only(tmp_path, dtype):
    image = draw(9, 11, dtype=dtype)
    expected = image if dtype in ("i2", "f4") else np.iinfo(dtype).max - image
    path = save(tmp_path, image, photometric="miniswhite")
    assert_reads(path, expected[None, ..., None])


def test_a_palette_of_two_colours(tmp_path):
    path = tmp_path / "a.tif"
    by_hand(path, np.packbits(BITS, 1), bits=1, white=3)
    data = bytearray(path.read_bytes())
    data[8:10] = struct.pack("<H", 10)  # and a colour map, in three planes
    data[10 + 9 * 12 : 10 + 10 * 12] = struct.pack("<HHII", 320, 3, 6, 180)
    data[180:192] = struct.pack("<6H", 0, 200 << 8, 0, 100 << 8, 0, 0)
    path.write_bytes(data)
    assert_reads(path, np.where(BITS[..., None], (200, 100, 0), 0).astype("u1")[None])
    with files.open_images(path, axes=2, indices=True) as file:
        block = file.read(0, [slice(0, 9), slice(0, 11)])
    np.testing.assert_array_equal(block[..., 0], BITS)


def test_a_palette_may_fill_the_lower_bits_only(tmp_path):
    image = draw(9, 11, dtype=np.uint8)
    colours = RNG.integers(0, 256, (3, 256), np.uint16)
    path = save(tmp_path, image, photometric="palette", colormap=colours)
    assert_reads(path, np.moveaxis(colours[:, image], 0, -1)[None].astype(np.uint8))


def test_jpeg_in_a_tiff_is_red_green_and_blue(tmp_path):
    path = tmp_path / "a.tif"
    colour = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    Image.fromarray(colour).save(path, compression="jpeg", quality=95)
    with files.open_images(path, axes=2) as file:
        block = file.read(0, [slice(0, 16)] * 2)
    np.testing.assert_allclose(block, colour.astype(int), atol=4)


def test_a_palette_of_imagej_is_a_way_to_look(tmp_path):
    image = draw(9, 11, dtype=np.uint8)
    green = np.zeros((3, 256), np.uint16)
    green[1] = np.arange(256) * 257
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        image,
        photometric="palette",
        colormap=green,
        description="ImageJ=1.54\nimages=1\n",
        metadata=None,
    )
    assert_reads(path, image[None, ..., None])


def test_lzw_stacks_go_through_pillow(tmp_path):
    path = tmp_path / "a.tif"
    for dtype in (np.uint8, np.uint16):
        stack = draw(3, 20, 21, dtype=dtype)
        first, *rest = [Image.fromarray(page) for page in stack]
        first.save(path, compression="tiff_lzw", save_all=True, append_images=rest)
        assert_reads(path, stack[..., None])
        assert_reads(path, stack[None, ..., None], axes=3)


def test_reduced_copies_are_no_images(tmp_path):
    image = draw(64, 64)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(image, subifds=1, tile=(16, 16), **GREY)
        writer.write(image[::2, ::2], subfiletype=1, tile=(16, 16), **GREY)
        writer.write(image[::4, ::4], subfiletype=1, **GREY)
        thumbnail = np.zeros((8, 8, 3), np.uint8)
        writer.write(thumbnail, subfiletype=1, photometric="rgb")
    assert_reads(path, image[None, ..., None])


def test_tiles_that_are_not_there_are_zero(tmp_path):
    path = tmp_path / "a.tif"
    tile = draw(16, 16)
    tiles = iter([tile, None, tile, None])
    tifffile.imwrite(path, tiles, shape=(32, 32), dtype="u2", tile=(16, 16), **GREY)
    expected = np.tile(np.concatenate([tile, np.zeros_like(tile)], axis=1), (2, 1))
    assert_reads(path, expected[None, ..., None])


def test_a_large_image_is_read_and_written_in_little_memory(tmp_path):
    """64 MiB of pixels, in bands, of a file that is mostly a hole."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, shape=(2**13, 2**13), dtype="u1", **GREY)
    with files.open_images(path, axes=2) as file:
        assert file.read(0, [slice(0, 1)] * 2).shape == (1, 1, 1)
        tracemalloc.start()
        with files.write_images(tmp_path, "b", file, np.uint32) as writer:
            for row in range(0, 2**13, 256):
                band = file.read(0, [slice(row, row + 256), slice(0, 2**13)])
                writer.write(band[..., 0])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert writer.path.stat().st_size > 2**28
    assert peak < 2**25


def test_decoded_tiles_are_kept_but_not_all(tmp_path, monkeypatch):
    decoded = []
    decode = tiff_planes.decode_segment
    monkeypatch.setattr(
        tiff_planes,
        "decode_segment",
        lambda *args: decoded.append(args[-1]) or decode(*args),
    )
    path = save(tmp_path, draw(64, 64), tile=(16, 16), compression="zlib")
    whole = [slice(0, 64)] * 2
    with files.open_images(path, axes=2) as file:
        file.read(0, whole)
        file.read(0, whole)
    assert sorted(decoded) == list(range(16))

    decoded.clear()
    monkeypatch.setattr(tiff_planes, "CACHE_BYTES", 2 * 16 * 16 * 2)
    with files.open_images(path, axes=2) as file:
        file.read(0, whole)
        file.read(0, whole)
    assert len(decoded) == 32


def test_a_strip_that_inflates_too_far_is_not_followed(tmp_path):
    """The strip says 64 x 64 bytes and holds 2^26."""
    path = save(tmp_path, np.zeros((64, 64), np.uint8), compression="zlib")
    bomb = zlib.compress(bytes(2**26))
    with tifffile.TiffFile(path, mode="r+b") as file:
        (tag,) = [file.pages[0].tags[name] for name in ("StripByteCounts",)]
        end = path.stat().st_size
        tag.overwrite(len(bomb))
        file.pages[0].tags["StripOffsets"].overwrite(end)
        file.filehandle.seek(end)
        file.filehandle.write(bomb)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"a\.tif: .*inflates to more than its 4096"):
        read_all(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


def test_a_strip_that_would_be_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "SEGMENT_BYTES", 64 * 64 - 1)
    path = save(tmp_path, np.zeros((64, 64), np.uint8), compression="zlib")
    with pytest.raises(UserError, match=r"a\.tif: .* smaller strips"):
        read_all(path)


def read_all(path, axes=2):
    with files.open_images(path, axes=axes) as file:
        return [
            file.read(i, [slice(0, n) for n in file.shape]) for i in range(file.count)
        ]
