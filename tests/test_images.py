"""Whatever comes in, a safe RGB picture or one clear line comes out."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flamingo_app.errors import PictureError
from flamingo_app.images import FORMATS, PictureLimits, open_picture

RED = (255, 0, 0)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims to be so large and has no pixels: whoever tries to decode it fails otherwise."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_opens_from_path_text_bytes_and_memory(form: str, tmp_path: Path) -> None:
    data = encoded(Image.new("RGB", (8, 6), RED), form)
    path = tmp_path / "picture"
    path.write_bytes(data)
    for source in (path, str(path), data, Image.open(io.BytesIO(data))):
        picture = open_picture(source)
        assert (picture.mode, picture.size) == ("RGB", (8, 6))
        assert np.abs(np.asarray(picture, dtype=int) - RED).max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    assert open_picture(Image.new(mode, (4, 4))).mode == "RGB"


def test_transparency_is_flattened_onto_white() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    flat = open_picture(encoded(image))
    assert flat.getpixel((0, 0)) == (255, 255, 255)
    assert flat.getpixel((1, 0)) == RED


def test_a_transparent_colour_of_a_palette_is_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((1, 0), 1)
    flat = open_picture(encoded(image, "GIF", transparency=0))
    assert flat.getpixel((0, 0)) == (255, 255, 255)
    assert flat.getpixel((1, 0)) == RED


def test_sixteen_bits_keep_their_grey() -> None:
    grey = Image.fromarray(np.full((4, 4), 0x8080, dtype=np.uint16))
    assert open_picture(encoded(grey)).getpixel((0, 0)) == (128, 128, 128)


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (8, 4))
    exif = image.getexif()
    exif[0x0112] = 6
    assert open_picture(encoded(image, "JPEG", exif=exif)).size == (4, 8)


def test_an_animation_shows_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert open_picture(data).getpixel((0, 0)) == RED


def test_a_picture_in_memory_is_not_changed() -> None:
    image = Image.new("RGB", (4, 4), RED)
    open_picture(image).paste("blue", (0, 0, 4, 4))
    assert image.getpixel((0, 0)) == RED


@pytest.mark.parametrize("source", [png_header(30_000, 30_000), png_header(12_000, 8_000), png_header(10_000, 8_001)])
def test_too_many_pixels_are_never_decoded(source: bytes) -> None:
    with pytest.raises(PictureError, match="at most 80 million pixels"):
        open_picture(source)


def test_the_pixel_limit_does_not_hang_on_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(PictureError, match="30000 x 30000"):
        open_picture(png_header(30_000, 30_000))


def test_limits_are_the_callers() -> None:
    data = encoded(Image.new("RGB", (10, 10)))
    assert open_picture(data, limits=PictureLimits(max_pixels=100)).size == (10, 10)
    with pytest.raises(PictureError, match="10 x 10"):
        open_picture(data, limits=PictureLimits(max_pixels=99))
    with pytest.raises(PictureError, match="MiB"):
        open_picture(data, limits=PictureLimits(max_bytes=len(data) - 1))


def test_a_file_over_the_limit_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(PictureError, match="at most 1 MiB"):
        open_picture(path, limits=PictureLimits(max_bytes=2**20))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.png", b"", "which is empty"),
        ("notes.png", b"these are words", "whose content is none of these"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "whose content is none of these"),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "whose content is none of these"),
        ("cut.jpg", encoded(NOISE, "JPEG")[:-900], "damaged or cut short"),
        ("cut.png", encoded(NOISE)[:-900], "damaged or cut short"),
        ("scan.tiff", encoded(Image.new("RGB", (4, 4)), "TIFF"), "whose content is none of these"),
    ],
)
def test_what_is_no_picture_is_named(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PictureError) as raised:
        open_picture(path)
    assert said in str(raised.value)
    assert repr(str(path)) in str(raised.value)


def test_paths_that_are_no_files_are_named(tmp_path: Path) -> None:
    for source, said in [
        (tmp_path / "none.png", "which is missing"),
        (tmp_path, "which is a folder"),
        (Path("/dev/zero"), "which is no file"),
        ("x" * 5000, "which is not readable"),
        ("a\0b.png", "which is missing"),
        ("https://example.com/cat.png", "the address"),
        (b"", "0 bytes, which is empty"),
    ]:
        with pytest.raises(PictureError, match=said):
            open_picture(source)


def test_control_characters_of_a_name_stay_out_of_the_line() -> None:
    with pytest.raises(PictureError) as raised:
        open_picture("evil\n\x1b[2Jname.png")
    assert str(raised.value).isprintable()


@settings(deadline=None)
@given(st.data())
def test_damage_is_one_clear_line_or_a_picture(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(sorted(FORMATS)))
    whole = bytearray(encoded(NOISE.crop((0, 0, 9, 7)), form))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=8)):
        whole[place] = data.draw(st.integers(0, 255))
    try:
        came = open_picture(bytes(whole[: data.draw(st.integers(0, len(whole)))])).mode
    except PictureError as error:
        came = str(error)
    assert came == "RGB" or (came.startswith("expected ") and came.isprintable())


@pytest.mark.parametrize("size", [(1, 20_000), (60_000, 1_000)])
def test_a_picture_too_thin_to_resize_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(PictureError, match="50 times as long as wide"):
        open_picture(Image.new("L", size))
    assert open_picture(Image.new("L", (1000, 20))).size == (1000, 20)
