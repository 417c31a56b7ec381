"""What a file says of its colours counts, in whatever way it says it."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from invdiff.data import colours
from invdiff.data.pictures import BadPicture, decode, stored_as
from invdiff.data.sets.drawn import faces
from tests.data import profiles
from tests.data.tiny_sources import encode

FACE = Image.fromarray(faces.pictures("train")[0]).resize((64, 64), Image.Resampling.BICUBIC)
PROPHOTO = (0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001)
"""White under D50, red, green, blue: from the standard, not from the code."""
P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)


def chunk(kind: bytes, data: bytes) -> bytes:
    end = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + end


def codes(primaries: int, curve: int, full: int = 1) -> bytes:
    return chunk(b"cICP", bytes([primaries, curve, 0, full]))


def gamma(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(value * 1e5)))


def places(where: tuple[float, ...]) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *(round(one * 1e5) for one in where)))


SAYS_SRGB = chunk(b"sRGB", b"\0")


def told(image: Image.Image, *chunks: bytes, **options) -> bytes:
    """A PNG with chunks behind its header."""
    content = encode(image, "PNG", **options)
    return content[:33] + b"".join(chunks) + content[33:]


def off(content: bytes) -> float:
    """The mean distance from the face, of 255."""
    return float(np.abs(decode(content, 64).astype(int) - np.asarray(FACE).astype(int)).mean())


@pytest.mark.parametrize(
    ("space", "chunks"),
    [
        ("Display P3", (codes(12, 4),)),
        ("Display P3", (codes(12, 4), SAYS_SRGB, gamma(1.0))),  # code points come first
        ("Display P3", (gamma(1 / 2.2), places(P3))),
        ("ProPhoto", (gamma(1 / 1.8), places(PROPHOTO))),
    ],
)
def test_the_same_colours_told_in_numbers_are_the_same_picture(space, chunks):
    moved = profiles.within(FACE, space)
    moved.info.clear()
    assert off(told(moved)) > 3
    assert off(told(moved, *chunks)) < 1.5
    assert stored_as(told(moved, *chunks)).profile


def test_linear_light_is_the_curve_of_srgb_by_hand():
    """0.2 and 0.784 of the light, by the formula of IEC 61966-2-1."""
    linear = Image.new("RGB", (4, 4), (200, 51, 0))
    wanted = [255 * (1.055 * (part / 255) ** (1 / 2.4) - 0.055) for part in (200, 51)]
    for says in (gamma(1.0), codes(1, 8)):
        seen = decode(told(linear, says), 4)[0, 0].tolist()
        assert np.abs(np.subtract(seen, [*wanted, 0])).max() <= 1
        grey = decode(told(linear.getchannel("R"), says), 4)
        assert np.abs(grey.astype(float) - wanted[0]).max() <= 1


@pytest.mark.parametrize(
    "chunks",
    [
        (codes(1, 13),),
        (codes(1, 1),),
        (codes(2, 2),),
        (gamma(0.45455),),
        (gamma(0.45455), places((0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06))),
        (gamma(1.0), SAYS_SRGB),
        (gamma(0.0),),
        (places((0.3, 0.3) * 4),),  # no colours at all
        (places((0.3, 0.0) * 4),),
    ],
)
def test_srgb_and_nonsense_change_nothing(chunks):
    assert off(told(FACE, *chunks)) == 0
    assert stored_as(told(FACE, *chunks)).profile == ""


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (codes(9, 16), r"coded for HDR \(PQ\); save it as sRGB"),
        (codes(9, 18), r"HDR \(HLG\)"),
        (codes(77, 13), r"not read \(primaries 77, curve 13, full range\)"),
        (codes(1, 13, 0), "narrow range"),
    ],
    ids=["PQ", "HLG", "unknown", "narrow"],
)
def test_colours_without_a_way_to_srgb_are_told(says, reason):
    for read in (lambda content: decode(content, 8), stored_as):
        with pytest.raises(BadPicture, match=reason):
            read(told(FACE, says))


def test_code_points_of_avif():
    moved = profiles.within(FACE, "Display P3")
    moved.info.clear()
    content = bytearray(encode(moved, "AVIF", quality=100, subsampling="4:4:4"))
    at = content.index(b"colrnclx") + 8
    before = off(bytes(content))
    content[at : at + 4] = struct.pack(">HH", 12, 4)
    assert off(bytes(content)) < 1.5 < 3 < before
    content[at : at + 4] = struct.pack(">HH", 9, 16)
    with pytest.raises(BadPicture, match="HDR"):
        decode(bytes(content), 8)


@pytest.mark.parametrize(
    ("index", "space", "counts"), [("R03", 65535, True), ("R98", 1, False), ("R03", 1, False)]
)
def test_a_camera_set_to_adobe_rgb(index, space, counts):
    moved = profiles.within(FACE, "Adobe RGB")
    moved.info.clear()
    exif = Image.Exif()
    exif[0x8769] = {0xA001: space, 0xA005: {1: index}}
    content = encode(moved, "JPEG", quality=100, subsampling=0, exif=exif)
    assert (off(content) < 1.5) is counts


def test_transparency_is_kept_on_the_way_to_srgb():
    """With an embedded profile: grey with alpha, and grey and colours with one that is clear."""
    half = profiles.grey_profile(1.0)
    for mode, colour, more in (
        ("LA", (0, 0), {"icc_profile": half}),
        ("L", 9, {"icc_profile": half, "transparency": 9}),
        (
            "RGB",
            (9, 9, 9),
            {"icc_profile": profiles.profile("ProPhoto"), "transparency": (9, 9, 9)},
        ),
    ):
        image = Image.new(mode, (4, 4), colour)
        image.putpixel((0, 0), {"LA": (51, 255), "L": 51}.get(mode, (51, 51, 51)))
        seen = decode(encode(image, "PNG", **more), 4)
        assert (seen[1:] == 255).all(), mode
        if mode != "RGB":
            assert abs(int(seen[0, 0, 0]) - 124) <= 1, mode  # 0.2 of the light


def test_what_is_clear_in_16_bits_is_clear():
    grey = np.full((4, 4), 40000, np.uint16)
    grey[0, 0] = 300
    content = encode(Image.fromarray(grey), "PNG")
    at = content.index(b"IDAT") - 4
    seen = decode(content[:at] + chunk(b"tRNS", struct.pack(">H", 300)) + content[at:], 4)
    assert (seen[0, 0] == 255).all()
    assert (seen[1:] == 155).all()
    rows = b"".join(
        b"\0" + struct.pack(">3H", *one) for one in ((30000, 200, 65000), (1, 2, 40000))
    )
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 2, 16, 2, 0, 0, 0))
    content += chunk(b"tRNS", struct.pack(">3H", 30000, 200, 65000))
    content += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (1, 2)
    assert decode(content, 1).tolist() == [[[255, 255, 255]]]


def test_a_picture_of_16_bits_is_turned_as_xmp_says():
    grey = np.zeros((4, 4), np.uint16)
    grey[0] = 60000
    notes = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        'syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        'tiff:Orientation="3"/></rdf:RDF></x:xmpmeta>'
    )
    text = b"XML:com.adobe.xmp\0\0\0\0\0" + notes.encode()
    content = encode(Image.fromarray(grey), "PNG")
    seen = decode(content[:33] + chunk(b"iTXt", text) + content[33:], 4)
    assert seen[:, 0, 0].tolist() == [0, 0, 0, 233]


def test_a_photo_of_a_phone_is_a_jpeg_of_one_picture():
    """MPO: behind the picture lies a small one, or how bright it is on a screen for HDR."""
    content = io.BytesIO()
    FACE.save(content, "MPO", save_all=True, append_images=[FACE.reduce(4)])
    assert stored_as(content.getvalue()).format.startswith("JPEG")
    assert stored_as(content.getvalue()).frames == 1


def test_a_made_profile_is_that_of_the_literature():
    """Colorants under D50 as Lindbloom and the maker of the profile give them."""
    made = colours.matrix_profile("x", colours.ADOBE, 2.2)
    for at, letter in enumerate((b"r", b"g", b"b")):
        place = int.from_bytes(made[made.index(letter + b"XYZ") + 4 :][:4], "big")
        found = np.array(struct.unpack(">3i", made[place + 8 : place + 20])) / 65536
        wanted = profiles.SPACES["Adobe RGB"][3 * at : 3 * at + 3]
        np.testing.assert_allclose(found, wanted, atol=2e-4)
