"""What a picture file says of its colours, and the way from there to sRGB.

Most files embed a profile (ICC). PNG and AVIF can say it in a few numbers instead: code points of
ITU-T H.273 (cICP, nclx), or a gamma and chromaticities. Cameras set to Adobe RGB only note it in
their EXIF data. All of these become a profile, so that one way leads to sRGB.
"""

import io
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

D65, D50 = (0.3127, 0.3290), (0.9642, 1.0, 0.8249)
SRGB = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
"""Where white, red, green and blue lie (x, y)."""
ADOBE = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
SMPTE_C = (*D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07)
PRIMARIES = {
    1: SRGB,
    2: SRGB,  # unspecified
    5: (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: SMPTE_C,
    7: SMPTE_C,
    9: (*D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),  # BT.2020
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),  # DCI-P3
    12: (*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),  # Display P3
}
# Exponents; 0 is the curve of sRGB, which viewers take for that of television (1, 6, 14, 15) too.
CURVES = {1: 0.0, 2: 0.0, 4: 2.2, 5: 2.8, 6: 0.0, 8: 1.0, 13: 0.0, 14: 0.0, 15: 0.0, 17: 2.6}
HDR = {16: "PQ", 18: "HLG"}
NEAR = 0.05
"""A gamma of a PNG this near to 1 / 2.2, relatively, is that of sRGB, as libpng has it."""


class UnknownColours(ValueError):
    """A file says that its colours are of a kind for which there is no way to sRGB."""


def declared_profile(image: Image.Image, content: bytes) -> bytes:
    """The profile of a picture that was opened and not yet loaded; b"" for that of sRGB.

    ``content`` is its file. Of what says it several times the order is that of the PNG standard:
    code points, embedded profile, sRGB, gamma and chromaticities. Raises UnknownColours.
    """
    info, embedded = image.info, image.info.get("icc_profile") or b""
    if image.format == "PNG" and (codes := _png_codes(content)):
        return _of_codes(*codes)
    if embedded or "srgb" in info:
        return embedded
    if image.format == "PNG":
        return _of_gamma(info.get("gamma") or 0.0, info.get("chromaticity"))
    if image.format == "AVIF" and (at := content.find(b"colrnclx")) >= 0:
        # The matrix between them is the decoder's, which also stretches a narrow range.
        primaries, curve = struct.unpack_from(">HH", content.ljust(at + 12, b"\0"), at + 8)
        return _of_codes(primaries, curve, 1)
    return matrix_profile("Adobe RGB", ADOBE, 563 / 256) if _notes_adobe(image) else b""


def _png_codes(content: bytes) -> tuple[int, int, int] | None:
    """Primaries, curve and range of a chunk cICP, which Pillow passes over."""
    for kind, data in _chunks(content):
        if kind == b"cICP" and len(data) == 4:
            return data[0], data[1], data[3]
    return None


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG before its pixels."""
    at = 8
    while at + 8 <= len(content) and (kind := content[at + 4 : at + 8]) != b"IDAT":
        count = int.from_bytes(content[at : at + 4], "big")
        yield kind, content[at + 8 : at + 8 + count]
        at += 12 + count


def _of_codes(primaries: int, curve: int, full: int) -> bytes:
    if curve in HDR:
        raise UnknownColours(f"its light is coded for HDR ({HDR[curve]}); save it as sRGB")
    if primaries not in PRIMARIES or curve not in CURVES or not full:
        told = f"primaries {primaries}, curve {curve}, {'full' if full else 'narrow'} range"
        raise UnknownColours(
            f"its colours are of a kind that is not read ({told}); save it as sRGB"
        )
    where, exponent = PRIMARIES[primaries], CURVES[curve]
    if where == SRGB and not exponent:
        return b""
    return matrix_profile(f"primaries {primaries}, curve {curve}", where, exponent)


def _of_gamma(gamma: float, chromaticity: Sequence[float] | None) -> bytes:
    """Of PNG: ``gamma`` is the exponent that the numbers were made with, 0 where none is said."""
    where = tuple(chromaticity or SRGB)
    same = np.allclose(where, SRGB, atol=0.005)  # files write them with three digits or so
    if same and (not gamma or abs(gamma * 2.2 - 1) <= NEAR):
        return b""
    told = f"gamma {gamma:.3g}" if same else f"gamma {gamma:.3g} and its own primaries"
    try:
        return matrix_profile(told, SRGB if same else where, 1 / gamma if gamma else 0.0)
    except (ValueError, struct.error):  # colours in a line, say: viewers leave such alone
        return b""


def _notes_adobe(image: Image.Image) -> bool:
    """Whether the EXIF data are those of a camera set to Adobe RGB: "R03", and not "sRGB"."""
    exif = image.getexif()
    return exif.get_ifd(0xA005).get(1) == "R03" and exif.get_ifd(0x8769).get(0xA001) != 1


@lru_cache(maxsize=64)
def matrix_profile(name: str, where: tuple[float, ...], exponent: float) -> bytes:
    """An ICC profile of pixels with three colours, from the places of white, red, green and blue.

    ``exponent`` 0 is the curve of sRGB. What is seen under another white is adapted (Bradford).
    Raises ValueError or struct.error for what are no colours.
    """
    x, y = np.reshape(where, (4, 2)).T
    if not y.all():
        raise ValueError("a colour without light")
    seen = np.stack([x / y, np.ones(4), (1 - x - y) / y])  # X, Y, Z; one column each
    white, colours = seen[:, 0], seen[:, 1:]
    cones = np.array(
        [(0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296)]
    )
    adapt = np.linalg.inv(cones) @ np.diag(cones @ D50 / (cones @ white)) @ cones
    colorants = adapt @ colours * np.linalg.solve(colours, white)
    curve = struct.pack(">4sIHH", b"para", 0, 0, 0) + _fixed([exponent])
    if not exponent:
        parts = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        curve = struct.pack(">4sIHH", b"para", 0, 3, 0) + _fixed(parts)
    text = name.encode() + b"\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"wtpt": b"XYZ \0\0\0\0" + _fixed(D50),
    }
    for letter, column in zip("rgb", colorants.T, strict=True):
        tags[f"{letter}XYZ".encode()] = b"XYZ \0\0\0\0" + _fixed(column)
        tags[f"{letter}TRC".encode()] = curve
    return _packed(tags)


def _fixed(values: Sequence[float] | np.ndarray) -> bytes:
    """Numbers with 16 bits after the point."""
    return struct.pack(f">{len(values)}i", *(round(float(value) * 65536) for value in values))


def _packed(tags: dict[bytes, bytes]) -> bytes:
    """An ICC file: header, table, contents."""
    place, table, body = 132 + 12 * len(tags), b"", b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", place + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    rest = struct.pack(">I", len(tags)) + table + body
    kinds = (b"none", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head = struct.pack(">I4sI4s4s4s12x4s28x", 128 + len(rest), *kinds, b"acsp") + _fixed(D50)
    return head.ljust(128, b"\0") + rest


def profile_name(profile: bytes) -> str:
    """What a colour profile calls itself; "" for sRGB, which is what no profile means as well."""
    try:
        known = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else None
        told = " ".join(ImageCms.getProfileDescription(known).split()) if known else ""
    except (ImageCms.PyCMSError, OSError):
        return "damaged"
    return "" if "srgb" in told.lower() else told


def in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The picture with its colour profile, if it has one, turned into numbers of sRGB."""
    if not profile:
        return image
    made = profile != image.info.get("icc_profile")  # from numbers, which hold for grey as well
    grey, alpha = image.mode in ("1", "L", "LA") and not made, None
    if image.has_transparency_data:
        image = image.convert("LA" if grey else "RGBA")
    elif image.mode == "P" or (made and image.mode in ("1", "L")):
        image = image.convert("RGB")
    if image.mode == "LA":  # there is no way from it that keeps what is transparent
        alpha, image = image.getchannel("A"), image.getchannel("L")
    if step := to_srgb(profile, image.mode):
        image = ImageCms.applyTransform(image, step) or image
    if alpha:
        image.putalpha(alpha)
    return image


@lru_cache(maxsize=64)
def to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The way from a profile to sRGB; None for sRGB itself, and where a profile can't be used.

    Such are damaged ones and those of another kind of pixels, which viewers leave alone as well.
    """
    try:
        step = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGBA" if mode == "RGBA" else "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    if mode in ("RGB", "RGBA"):
        grid = np.stack(np.meshgrid(*[np.arange(0, 256, 51, dtype=np.uint8)] * 3), -1)
        colours = Image.fromarray(grid.reshape(36, 6, 3)).convert(mode)
        moved = np.asarray(ImageCms.applyTransform(colours, step)).astype(int)
        if np.abs(moved - np.asarray(colours)).max() <= 2:  # rounding within the profile's tables
            return None
    return step
