"""Colour profiles with a matrix and a gamma, made by hand, and pictures that carry them."""

import io
import struct

from PIL import Image, ImageCms

# Colorants under D50 (red, green, blue as X, Y, Z) and the exponent.
SPACES = {
    "Adobe RGB": (0.60974, 0.31111, 0.01947, 0.20528, 0.62567, 0.06087, 0.14919, 0.06322, 0.74457),
    "Display P3": (0.51512, 0.24120, -0.00105, 0.29198, 0.69225, 0.04189, 0.1571, 0.06657, 0.78407),
    "ProPhoto": (0.79767, 0.28804, 0.0, 0.13519, 0.71188, 0.0, 0.03134, 0.00009, 0.82491),
}
GAMMA = {"Adobe RGB": 2.2, "Display P3": 2.2, "ProPhoto": 1.8}


def number(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


WHITE = b"XYZ \0\0\0\0" + b"".join(map(number, (0.9642, 1.0, 0.8249)))


def profile(name: str) -> bytes:
    xyz, tags = SPACES[name], {}
    for at, colour in enumerate((b"r", b"g", b"b")):
        tags[colour + b"XYZ"] = b"XYZ \0\0\0\0" + b"".join(map(number, xyz[3 * at : 3 * at + 3]))
        tags[colour + b"TRC"] = curve(GAMMA[name])
    return packed(name, b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    return packed("grey", b"GRAY", {b"kTRC": curve(gamma)})


def curve(gamma: float) -> bytes:
    return struct.pack(">IIIH2x", 0x63757276, 0, 1, round(gamma * 256))


def packed(name: str, pixels: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = name.encode() + b"\0"
    tags = tags | {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": WHITE,
    }
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for tag, content in tags.items():
        content += bytes(-len(content) % 4)
        table += tag + struct.pack(">II", place + len(body), len(content))
        body += content
    rest = struct.pack(">I", len(tags)) + table + body
    kinds = (b"none", 0x02400000, b"mntr", pixels, b"XYZ ")
    head = struct.pack(">I4sI4s4s4s", 128 + len(rest), *kinds)
    head += bytes(12) + b"acsp" + bytes(28) + WHITE[8:]
    return head.ljust(128, b"\0") + rest


def within(image: Image.Image, name: str) -> Image.Image:
    """The same colours as numbers of another space; the picture carries its profile."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile(name)))
    moved = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), target)
    assert moved is not None
    moved.info["icc_profile"] = profile(name)
    return moved
