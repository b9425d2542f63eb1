"""Damaged files: each is read or refused in one line, soon, and in little memory.

`python tests/data/files/test_fuzz.py FOLDER 1` reads them all in a process of its own,
whose memory can be watched and whose death is noticed, and prints what it found as
JSON: the tests look at that. Every file follows from its kind and its number.
`... FOLDER 0.1 2000` reads ten times as many other files, those from number 2000 on.
"""

import gzip
import json
import math
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import traceback
import zlib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
TIMES = {"png": 700, "bmp": 350, "jpg": 400, "tif": 1500, "nii": 500, "zarr": 350}
SECONDS = 1.0  # of the processors' time, for one file
MEMORY = 2**28  # bytes that the process may grow by for one file, and keep of all
ADDRESSES = 2**33  # bytes that it may ask for, so that a fault here harms nobody else
WHOLE = 2**24  # bytes of an image that is read whole; of others, a corner
HUGE = (0, 1, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
MUCH, GZIP = 2**28, 31  # zeros of a bomb, and what zlib calls gzip
READ = {"inflates on.png", "inflates on.nii.gz"}  # as far as they should


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(20, id="few"),
        pytest.param(1, id="all", marks=pytest.mark.slow),
    ],
)
def found(request, tmp_path_factory):
    """Returns what the process found in all files, or in one of 20 of each kind."""
    folder = tmp_path_factory.mktemp("fuzz")
    command = [sys.executable, __file__, str(folder), str(request.param)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    printed = done.stderr.splitlines()
    return json.loads(done.stdout) | {"printed": printed, "part": request.param}


def test_every_damaged_file_is_read_or_refused_in_one_line(found):
    assert found["wrong"] == []


@pytest.mark.parametrize("kind", TIMES)
def test_damage_is_neither_harmless_nor_total(found, kind):
    read, refused = found["counts"][kind]
    assert read + refused == TIMES[kind] // found["part"]
    if found["part"] == 1:
        assert min(read, refused) > TIMES[kind] / 40


def test_what_promises_or_inflates_too_much_is_refused(found):
    assert {name for name, text in found["bombs"].items() if not text} == READ
    assert len(found["bombs"]) > 20


def test_memory_is_bounded(found):
    assert 0 < found["most"] < MEMORY
    assert found["kept"] < MEMORY  # by caches and threads of the libraries


def test_nothing_is_printed(found):
    # But by libtiff, through which Pillow reads LZW, and which cannot be silenced.
    libtiff = re.compile(
        r"(_?TIFF|JPEG|Fax|LZW|PackBits|EstimateStrip)\w*: |tempfile\.tif: "
    )
    assert [line for line in found["printed"] if not libtiff.match(line)] == []


def main(folder, part, start):
    from unet_jax.data import files

    def look(path, axes):
        reset_peak()
        resident, begin = memory("VmRSS"), time.process_time()
        text = outcome(files, path, axes)
        took = time.process_time() - begin
        found["most"] = max(found["most"], memory("VmHWM") - resident)
        if fault := wrong(text, path) or (took > SECONDS and f"took {took:.1f} s"):
            found["wrong"].append(f"{path.name}, {label}: {fault}; {text}")
        return text

    signal.signal(signal.SIGALRM, late)
    found = {"wrong": [], "counts": {}, "most": 0}
    originals = draw(folder / "originals")
    label = "undamaged"
    for kind, paths in originals.items():
        for path in paths:  # what is loaded and taken once for all
            if text := look(path, AXES[kind]):
                found["wrong"].append(text)
    found["most"], before = 0, memory("VmRSS")
    resource.setrlimit(resource.RLIMIT_AS, (addresses() + ADDRESSES,) * 2)
    for kind, times in TIMES.items():
        texts = []
        times = int(times / part)
        for number in range(start, start + times):
            rng = np.random.default_rng((len(found["counts"]), number))
            original = originals[kind][number % len(originals[kind])]
            label = f"{original.name} {number}"
            texts.append(look(damaged(original, rng), AXES[kind]))
        refused = sum(map(bool, texts))
        found["counts"][kind] = times - refused, refused
    label = "bomb"
    found["bombs"] = {
        path.name: look(path, AXES[kind_of(path)])
        for path in bombs(folder / "bombs", originals)
    }
    found["kept"] = memory("VmRSS") - before
    print(json.dumps(found))


def outcome(files, path, axes):
    """Returns the error of a file; '' if it can be read."""
    from unet_jax.errors import UserError

    signal.setitimer(signal.ITIMER_REAL, 20 * SECONDS)
    try:
        with files.open_images(path, axes=axes) as file:
            size = math.prod(file.shape) * file.channels * file.dtype.itemsize
            shape = [n if size <= WHOLE else min(n, 8) for n in file.shape]
            for image in {*range(min(file.count, 9)), file.count - 1}:
                block = file.read(image, [slice(0, n) for n in shape])
                assert block.shape == (*shape, file.channels), block.shape
                assert block.dtype == file.dtype, block.dtype
    except UserError as error:
        return str(error)
    except BaseException:
        return f"CRASH {traceback.format_exc()}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return ""


def late(*_):
    raise KeyboardInterrupt  # which no reader takes for a file's fault


def wrong(text, path):
    if text.startswith("CRASH"):
        return "crashed"
    if text and not text.startswith(f"{path}: "):
        return "is not named"
    return "" if text.isprintable() else "is not one line of text"


def memory(field):
    """The memory of this process in bytes: resident, or the peak since its reset."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", status)[1])


def reset_peak():
    Path("/proc/self/clear_refs").write_text("5")


def addresses():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


# The originals: small files of each kind, and of each way to store one.

AXES = {"png": 2, "bmp": 2, "jpg": 2, "tif": 2, "nii": 3, "zarr": 3}
TIFFS = {
    "stripped": {"rowsperstrip": 5},
    "tiled": {"tile": (16, 16)},
    "zlib": {"compression": "zlib", "rowsperstrip": 5},
    "predictor": {"compression": "zlib", "predictor": True, "tile": (16, 16)},
    "lzma": {"compression": "lzma"},
    "pages": {"metadata": None},
    "big": {"bigtiff": True, "compression": "zlib", "byteorder": ">"},
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
}
THROUGH_PILLOW = {"tiff_lzw": "L", "packbits": "L", "group4": "1", "jpeg": "L"}


def kind_of(path):
    return "nii" if ".nii" in path.name else path.suffix[1:]


def draw(folder):
    import nibabel
    import tifffile
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (16, 12), np.uint8)
    grey[4:9, 2:9] = 7
    rgb = np.stack([grey, grey[::-1], 255 - grey], -1)
    deep = np.stack([grey, grey[::-1], 255 - grey]).astype(np.uint16) * 200
    images = {
        "grey": Image.fromarray(grey),
        "rgb": Image.fromarray(rgb),
        "palette": Image.fromarray(rgb).convert("P"),
        "bits": Image.fromarray(grey > 90),
    }
    for name, image in images.items():
        image.save(folder / f"{name}.png")
        image.save(folder / f"{name}.bmp")
    Image.fromarray(deep[0]).save(folder / "deep.png")
    images["grey"].save(folder / "grey.jpg")
    images["rgb"].save(folder / "rgb.jpg")
    images["rgb"].save(folder / "progressive.jpg", progressive=True)
    images["palette"].save(folder / "palette.tif")
    for name, how in TIFFS.items():
        tifffile.imwrite(folder / f"{name}.tif", deep, photometric="minisblack", **how)
    for name, mode in THROUGH_PILLOW.items():
        image = images["grey"].convert(mode)
        pages = {"save_all": True, "append_images": [image]}
        image.save(folder / f"{name}.tif", compression=name, **pages)
    volume = nibabel.Nifti1Image(deep.T.astype(np.int16), np.eye(4))
    nibabel.save(volume, folder / "one.nii")
    nibabel.save(volume, folder / "one.nii.gz")
    volume = nibabel.Nifti2Image(deep.T[..., None].astype(np.float32), np.eye(4))
    nibabel.save(volume, folder / "two.nii.gz")
    ome_zarr(folder / "old.zarr", deep, "0.4")
    ome_zarr(folder / "new.zarr", deep, "0.5")
    paths = sorted(folder.iterdir())
    return {kind: [p for p in paths if kind_of(p) == kind] for kind in TIMES}


def ome_zarr(folder, array, version, place="0", **changed):
    """An OME-Zarr of one level, of which metadata may be changed once it is there."""
    import tensorstore

    metadata = {"shape": list(array.shape)}
    if version == "0.4":
        driver, name, group = "zarr", ".zarray", ".zattrs"
        metadata |= {"chunks": [2, 8, 8], "dtype": "<u2", "compressor": {"id": "zlib"}}
    else:
        driver, name, group = "zarr3", "zarr.json", "zarr.json"
        chunks = {"name": "regular", "configuration": {"chunk_shape": [2, 8, 8]}}
        raw = {"name": "bytes", "configuration": {"endian": "little"}}
        codecs = [raw, {"name": "gzip", "configuration": {"level": 1}}]
        metadata |= {"chunk_grid": chunks, "data_type": "uint16", "codecs": codecs}
    where = {"driver": "file", "path": str(folder / "0")}
    spec = {"driver": driver, "kvstore": where, "metadata": metadata}
    tensorstore.open(spec, create=True).result().write(array).result()
    stored = json.loads((folder / "0" / name).read_text())
    (folder / "0" / name).write_text(json.dumps(stored | changed))
    scale = [{"type": "scale", "scale": [2.0, 0.5, 0.5]}]
    level = {"path": place, "coordinateTransformations": scale}
    found = {"multiscales": [{"axes": [*"zyx"], "datasets": [level]}]}
    found = found if version == "0.4" else {"attributes": {"ome": found}}
    (folder / group).write_text(json.dumps(found))


# The damage.


def damaged(original, rng):
    """Writes a damaged copy."""
    path = original.parent.parent / f"damaged{''.join(original.suffixes)}"
    if original.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(original, path)
        files = sorted(p for p in path.rglob("*") if p.is_file())
        one = files[rng.integers(len(files))]
        change = other_value if b'"' in one.read_bytes() else mutated
        one.write_bytes(change(one.read_bytes(), rng))
        return path
    data = original.read_bytes()
    inside = rng.random() < 0.7  # of what is packed, and the checksums are right
    if original.suffix == ".gz" and inside:
        data = gzip.compress(mutated(gzip.decompress(data), rng), 1)
    else:
        data = mutated(data, rng)
    path.write_bytes(
        checksummed(data) if original.suffix == ".png" and inside else data
    )
    return path


def mutated(data, rng):
    """One to three changes."""
    for _ in range(rng.integers(1, 4)):
        data = changed(data, rng)
    return data


def changed(data, rng):
    at, length = place(data, rng), int(rng.integers(1, 30))
    start, end, chance = data[:at], data[at:], rng.random()
    if chance < 0.4:
        return start + rng.bytes(1) + end[1:]
    if chance < 0.5:
        return start + huge(rng) + end[8:]
    if chance < 0.75:
        return field(data, rng)
    if chance < 0.85:
        return start + end[length:]
    if chance < 0.95:
        span = [bytes(length), rng.bytes(length), end[:length]]
        return start + span[rng.integers(3)] + end
    return data[: max(at, len(data) // 2)]


def place(data, rng):
    """Anywhere, in the header, or at the end, where a TIFF may have its tags."""
    head = min(400, len(data))
    low, high = [(0, len(data)), (0, head), (len(data) - head, len(data))][
        rng.integers(3)
    ]
    return int(rng.integers(low, high + 1))


def huge(rng, width=8):
    number = HUGE[rng.integers(len(HUGE))] % 2 ** (8 * width)
    return number.to_bytes(width, ["little", "big"][rng.integers(2)])


def field(data, rng):
    """A size, a count or an offset becomes a telling number."""
    if data[1:4] == b"PNG":
        fields = [(16, 4), (20, 4), (24, 1), (25, 1), (28, 1)]
    elif data[:2] == b"BM":
        fields = [(10, 4), (18, 4), (22, 4), (28, 2), (30, 4), (46, 4)]
    elif data[:2] == b"\xff\xd8":
        frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        fields = [(frame + 5, 2), (frame + 7, 2), (frame + 9, 1), (frame + 11, 1)]
    elif data[:4] in (b"II*\0", b"MM\0+"):
        fields = tiff_fields(data)
    elif data[:4] == b"\x5c\1\0\0":
        fields = [(40 + 2 * i, 2) for i in range(8)] + [(70, 2), (72, 2), (108, 4)]
    elif data[:4] == b"\x1c\2\0\0":
        fields = [(16 + 8 * i, 8) for i in range(8)] + [(12, 2), (14, 2), (168, 8)]
    else:
        fields = [(place(data, rng), 4)]
    at, width = fields[rng.integers(len(fields))]
    return data[:at] + huge(rng, width) + data[at + width :]


def tiff_fields(data):
    """Type, count and value of every tag of the first page, and the next page."""
    big = data[:1] == b"M"  # of the originals only the BigTIFF is big-endian
    order, word = ("big", 8) if big else ("little", 4)
    start = int.from_bytes(data[word : 2 * word], order)
    count = int.from_bytes(data[start : start + 2 * (1 + 3 * big)], order) % 99
    first, entry = start + (8 if big else 2), 4 + 2 * word
    tags = [first + entry * i for i in range(count)]
    fields = [(tag + 2, 2) for tag in tags]
    fields += [(tag + 4 + word * i, word) for tag in tags for i in range(2)]
    return [*fields, (first + entry * count, word), (word, word)]


def other_value(data, rng):
    """JSON with one of its values replaced."""
    new = [*map(str, HUGE), "-1", "1e999", "0.5", "null", '"x"', "[]", "{}", "[[3]]"]
    spans = [m.span() for m in re.finditer(rb'-?\d+(\.\d+)?|"[^"]*"|null', data)]
    start, stop = spans[rng.integers(len(spans))]
    return data[:start] + new[rng.integers(len(new))].encode() + data[stop:]


def checksummed(data):
    """A PNG whose chunks have the right checksums, as far as they can be found."""
    parts, at = [data[:8]], 8
    while (end := at + 8 + int.from_bytes(data[at : at + 4], "big")) + 4 <= len(data):
        parts.append(data[at:end] + zlib.crc32(data[at + 4 : end]).to_bytes(4, "big"))
        at = end + 4
    return b"".join(parts) + data[at:]


# Files that promise more than they hold, or hold more than they promise.


def bombs(folder, originals):
    folder.mkdir()
    named = {path.name: path for paths in originals.values() for path in paths}
    much, zipped = packed(MUCH), packed(MUCH, wbits=GZIP)
    made = {
        "wide.png": png((2**27, 1)),
        "large.png": png((13_000, 13_000)),
        "immense.png": png((2**31 - 1, 2**31 - 1)),
        "inflates on.png": png((16, 16), data=much),
        "text.png": png((16, 16), extra=chunk(b"zTXt", b"a\0\0" + much)),
        "profile.png": png((16, 16), extra=chunk(b"iCCP", b"a\0\0" + much)),
        "large.bmp": with_size(named["rgb.bmp"], 18, "<ii"),
        "palette.bmp": with_size(named["palette.bmp"], 18, "<ii"),
        "large.jpg": with_size(named["rgb.jpg"], b"\xff\xc0", ">HH"),
        "progressive.jpg": with_size(named["progressive.jpg"], b"\xff\xc2", ">HH"),
        "grey.jpg": with_size(named["grey.jpg"], b"\xff\xc0", ">HH"),
        "cut.nii": nifti((1200, 1200, 1200)),
        "immense.nii": nifti((32767, 32767, 32767)),
        "cut.nii.gz": gzip.compress(nifti((1200, 1200, 1200))),
        "offset.nii": nifti((8, 8, 8), offset=2.0**30),
        "inflates on.nii.gz": packed(MUCH, nifti((8, 8, 8)), GZIP),
        "notes.nii.gz": packed(MUCH, notes(MUCH), GZIP),
        "strip.tif": tiff(much),
        "tile.tif": tiff(much, tile=True),
        "large.tif": tiff(zlib.compress(bytes(256)), side=13_000),
        "immense.tif": tiff(zlib.compress(bytes(256)), side=2**31),
        "black.tif": tiff(packed(30_000**2), side=30_000),
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    array = np.ones((3, 16, 12), np.uint16)
    outside = str(named["old.zarr"] / "0")
    ome_zarr(folder / "outside.zarr", array, "0.4", place=outside)
    ome_zarr(folder / "above.zarr", array, "0.4", place="../outside.zarr/0")
    ome_zarr(folder / "sparse.zarr", array, "0.4", shape=[2**20] * 3)
    ome_zarr(folder / "chunk.zarr", array, "0.4", chunks=[2**11] * 3)
    for version in ("0.4", "0.5"):
        path = folder / f"inflates {version}.zarr"
        ome_zarr(path, array, version)
        parts = "0/0.*" if version == "0.4" else "0/c/*/*/*"
        for part in path.glob(parts):
            part.write_bytes(much if version == "0.4" else zipped)
        ome_zarr(path.with_name(f"deep {version}.zarr"), array, version)
        group = ".zattrs" if version == "0.4" else "zarr.json"
        (folder / f"deep {version}.zarr" / group).write_text("[" * 200_000)
    return sorted(folder.iterdir())


def packed(zeros, start=b"", wbits=15):
    """So many zeros after a start, deflated, and never in memory."""
    packer = zlib.compressobj(9, wbits=wbits)
    parts = [packer.compress(start)]
    parts += [packer.compress(bytes(2**20)) for _ in range(zeros // 2**20)]
    return b"".join([*parts, packer.flush()])


def chunk(name, data):
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def png(size, data=None, extra=b""):
    data = zlib.compress(bytes(999)) if data is None else data
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    end = chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + extra + end


def with_size(path, at, form):
    """A file that says that it is 13000 x 13000."""
    data = bytearray(path.read_bytes())
    at = at if isinstance(at, int) else data.index(at) + 5
    struct.pack_into(form, data, at, 13_000, 13_000)
    return bytes(data)


def nifti(shape, offset=352.0, extension=0, more=bytes(1024)):
    data = bytearray(352)
    struct.pack_into("<i", data, 0, 348)
    struct.pack_into("<8h", data, 40, len(shape), *shape, 1, 1, 1, 1)
    struct.pack_into("<hh", data, 70, 4, 16)
    struct.pack_into("<8f", data, 76, *[1.0] * 8)
    struct.pack_into("<fff", data, 108, offset, 1.0, 0.0)
    data[344:349] = b"n+1\0" + bytes([extension])
    return bytes(data) + more


def notes(length):
    """The start of a NIfTI with an extension that fills the memory."""
    more = struct.pack("<ii", length - 2**16, 6)
    return nifti((8, 8, 8), offset=352.0 + length - 2**15, extension=1, more=more)


def tiff(packed, side=16, tile=False):
    """A deflated TIFF of one strip, or of one tile."""
    where = ((324, 136), (325, len(packed)), (322, 16), (323, 16))
    if not tile:
        where = ((273, 136), (279, len(packed)), (278, side))
    tags = sorted([(256, side), (257, side), (258, 8), (259, 8), (262, 1), *where])
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    start = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)
    return start.ljust(136, b"\0") + packed


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    start = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    main(Path(sys.argv[1]), float(sys.argv[2]), start)
