"""Pictures of every kind become RGB squares; broken ones give a reason."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from invdiff.data.pictures import BadPicture, decode, fit_array, fit_square
from invdiff.data.sets.drawn import faces
from tests.data import profiles
from tests.data.tiny_sources import bomb, encode, picture, png


def gradient() -> Image.Image:
    """8 x 4: red grows from left to right, green from top to bottom."""
    pixels = np.zeros((4, 8, 3), dtype=np.uint8)
    pixels[..., 0] = np.arange(8) * 30
    pixels[..., 1] = np.arange(4)[:, None] * 60
    return Image.fromarray(pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_formats(kind: str) -> None:
    pixels = decode(encode(picture(1), kind), 8)
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.array([40, 90, 215])).max() <= 8  # JPEG is lossy


def test_the_middle_square_is_kept() -> None:
    wide = decode(encode(gradient()), 4)
    assert wide[0, :, 0].tolist() == [60, 90, 120, 150]
    tall = decode(encode(gradient().transpose(Image.Transpose.ROTATE_90)), 4)
    assert sorted(tall[:, 0, 0].tolist()) == [60, 90, 120, 150]


def test_shrinking_takes_area_means() -> None:
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    pixels = fit_square(Image.fromarray(board.astype(np.uint8)).convert("RGB"), 32)
    assert set(pixels.ravel().tolist()) <= {127, 128}


def test_exif_orientation_is_applied() -> None:
    image = gradient().crop((0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = decode(encode(image, "PNG", exif=exif), 4)
    assert np.array_equal(turned, np.asarray(image)[::-1, ::-1])


def test_transparent_pixels_show_white_paper() -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((0, 0), (10, 20, 30, 255))
    pixels = decode(encode(image), 4)
    assert pixels[0, 0].tolist() == [10, 20, 30]
    assert pixels[1, 1].tolist() == [255, 255, 255]


def test_palette_with_a_transparent_entry() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.putpixel((0, 0), 0)
    pixels = decode(encode(image, transparency=0), 4)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[3, 3].tolist() == [200, 0, 0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_modes(mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    content = encode(Image.new("RGB", (4, 4), "white").convert(mode), kind)
    assert np.array_equal(decode(content, 4), np.full((4, 4, 3), 255))


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    grey = Image.fromarray(np.full((4, 4), 0x80FF, dtype=np.uint16))
    assert np.array_equal(decode(encode(grey), 4), np.full((4, 4, 3), 0x80))


def test_pixels_without_a_range_are_refused() -> None:
    image = Image.fromarray(np.ones((4, 4), dtype=np.float32))
    with pytest.raises(BadPicture, match="no fixed range"):
        decode(encode(image, "TIFF"), 4)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_truncated_files_are_refused(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encode(Image.fromarray(noise), kind)
    with pytest.raises(BadPicture):
        decode(content[: len(content) * 2 // 3], 8)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>not found</html>", "not a picture, or of an unknown format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        # a fault that Pillow reports as ValueError, not OSError
        (png(1).replace(b"\0\0\0\rIHDR", b"\0\0\0\x05IHDR"), "cannot be decoded: Truncated IHDR"),
        (bomb(8001, 8000), "8001 x 8000 pixels are more than 64 megapixels"),
        (bomb(12000, 12000), "more than 64 megapixels"),
        (bomb(40000, 40000), "more than 64 megapixels"),
    ],
)
def test_reasons(content: bytes, reason: str) -> None:
    with pytest.raises(BadPicture, match=reason):
        decode(content, 8)


def test_bombs_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(image: Image.Image) -> None:
        raise AssertionError("the pixels were loaded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    with pytest.raises(BadPicture, match="megapixels"):
        decode(bomb(12000, 12000), 8)


@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"]),
    cut=st.integers(0, 400),
    flips=st.lists(st.tuples(st.integers(0, 399), st.integers(1, 255)), max_size=4),
)
def test_damaged_bytes_give_a_picture_or_a_reason(
    kind: str, cut: int, flips: list[tuple[int, int]]
) -> None:
    content = bytearray(encode(gradient(), kind))
    for place, change in flips:
        content[place % len(content)] ^= change
    reason = ""
    try:
        pixels = decode(bytes(content[: len(content) - cut % len(content)]), 8)
    except BadPicture as fault:
        reason = str(fault)
    assert "\n" not in reason
    assert reason or pixels.shape == (8, 8, 3)


@given(width=st.integers(1, 20), height=st.integers(1, 20), size=st.integers(1, 20))
def test_every_size_becomes_the_square_asked_for(width: int, height: int, size: int) -> None:
    pixels = fit_array(np.full((height, width, 3), 77, dtype=np.uint8), size)
    assert np.array_equal(pixels, np.full((size, size, 3), 77))


def test_decoding_twice_gives_the_same() -> None:
    assert np.array_equal(decode(png(3), 5), decode(png(3), 5))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("space", profiles.SPACES)
def test_the_same_colours_in_another_profile_are_the_same_picture(space, kind):
    """A step of 8 bits in a wide space is up to a few in sRGB, and JPEG adds its own."""
    plain = Image.fromarray(faces.pictures("train")[0]).resize((64, 64), Image.Resampling.BICUBIC)
    moved = profiles.within(plain, space)
    settings = {"quality": 100} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    if kind == "JPEG":
        settings["subsampling"] = 0
    content = encode(moved, kind, icc_profile=moved.info["icc_profile"], **settings)
    off = np.abs(decode(content, 64).astype(int) - np.asarray(plain).astype(int))
    ignored = np.abs(np.asarray(moved).astype(int) - np.asarray(plain).astype(int))
    assert ignored.mean() > 3
    assert off.mean() < 1.5


def test_a_profile_of_srgb_changes_nothing_and_a_broken_one_neither():
    pixels = faces.pictures("train")[0]
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for content in (srgb, b"no profile", profiles.profile("Adobe RGB")[:200]):
        assert np.array_equal(
            decode(encode(Image.fromarray(pixels), icc_profile=content), 32), pixels
        )


def test_a_profile_counts_with_transparency_palettes_and_grey():
    wide = profiles.within(picture(3), "ProPhoto")
    expected = decode(encode(wide, icc_profile=wide.info["icc_profile"]), 8)
    for mode in ("RGBA", "P"):
        other = wide.convert(mode, palette=Image.Palette.ADAPTIVE)
        content = encode(other, icc_profile=wide.info["icc_profile"])
        assert np.abs(decode(content, 8).astype(int) - expected).max() <= 1
    grey = Image.new("L", (8, 8), 100)  # the profile of another kind of pixels
    assert (decode(encode(grey, icc_profile=wide.info["icc_profile"]), 8) == 100).all()


def test_a_picture_of_which_nothing_can_be_seen_is_refused():
    pixels = np.zeros((8, 8, 4), np.uint8)
    with pytest.raises(BadPicture, match="every pixel of it is transparent") as caught:
        decode(encode(Image.fromarray(pixels)), 8)
    assert caught.value.kind == "transparent"
    pixels[0, 0, 3] = 1
    decode(encode(Image.fromarray(pixels)), 8)


GREY = np.linspace(0, 1, 64).reshape(8, 8)


def stored(pixels, form, **more):
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, form, **more)
    return held.getvalue()


def png16(pixels):
    """An RGB PNG of 16 bits, which Pillow reads and does not write."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind, data):
        end = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + end

    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_bits_in_16_are_told_and_not_taken_for_black(form, bits):
    content = stored((GREY * (2**bits - 1)).astype(np.uint16), form)
    with pytest.raises(BadPicture, match=rf"reach {2**bits - 1:,} of 65,535.*save it with 8 bits"):
        decode(content, 8)


def test_fewer_bits_in_16_are_told_of_colours_too():
    colours = np.repeat(GREY[..., None], 3, 2)
    assert np.ptp(decode(png16(colours * 65535), 8)) == 255
    with pytest.raises(BadPicture, match=r"reach 3,855 of 65,535"):
        decode(png16(colours * 4095), 8)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_all_16_bits_and_a_black_picture_are_read(form):
    seen = decode(stored((GREY * 65535).astype(np.uint16), form), 8)
    assert np.abs(seen[..., 0] - GREY * 255).max() <= 1
    assert not decode(stored(np.zeros((8, 8), np.uint16), form), 8).any()


def test_a_tiff_of_16_bits_in_which_0_is_white():
    content = stored((GREY * 65535).astype(np.uint16), "TIFF", tiffinfo={262: 0})
    assert np.abs(255 - decode(content, 8)[..., 0] - GREY * 255).max() <= 1


@pytest.mark.parametrize("pixels", [GREY.astype(np.float32), (GREY * 2e9).astype(np.int32)])
def test_pixels_without_a_fixed_range_are_told(pixels):
    with pytest.raises(BadPicture, match="no fixed range; save it with 8 bits"):
        decode(stored(pixels, "TIFF"), 8)
