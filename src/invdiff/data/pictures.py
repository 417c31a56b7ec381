"""Any picture file to a small RGB square, or the reason why not."""

import io
import re
import warnings
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from invdiff.data.colours import UnknownColours, declared_profile, in_srgb, profile_name
from invdiff.data.samples import Pictures

MAX_PIXELS = 64_000_000
READ_AS = "sRGB from all that a file says, central square, area means"
"""How a file becomes pixels: what is kept of pictures depends on it, and says so."""
SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"),
)
NOT_READ = (
    ".arw",
    ".cr2",
    ".dng",
    ".heic",
    ".heif",
    ".jp2",
    ".jxl",
    ".nef",
    ".psd",
    ".svg",
    ".tga",
)
"""Pictures of kinds that no decoder here knows: they are told, not passed over."""
# Named, because Pillow's other readers include one that starts an external program (EPS).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # MPO is read as JPEG


Fault = Literal["missing", "unreadable", "truncated", "oversized", "transparent", "no caption"]


class BadPicture(Exception):
    """One picture cannot be used; the text is the reason, for the quarantine list."""

    def __init__(self, reason: str, kind: Fault = "unreadable") -> None:
        super().__init__(reason)
        self.kind: Fault = kind


def decode(content: bytes, size: int) -> Pictures:
    """Decode a picture file completely and return (size, size, 3), uint8.

    Raises BadPicture. A picture with more than 64 megapixels is refused by its header, before
    any memory is spent on it; a truncated file is refused although its header is fine.
    """
    if not content:
        raise BadPicture("the file is empty")
    try:
        with warnings.catch_warnings():
            # Pillow warns about sizes (checked here) and about metadata that is not used.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=formats()) as image:
                check_pixels(*image.size)
                profile = profile_of(image, content)
                return fit_square(rgb(ImageOps.exif_transpose(of_8_bits(image)), profile), size)
    except (BadPicture, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise BadPicture(f"more than {MAX_PIXELS // 1_000_000} megapixels", "oversized") from None
    except UnidentifiedImageError:
        raise BadPicture("not a picture, or of an unknown format") from None
    except Exception as error:
        # Decoders meet damaged bytes with whatever they run into: OSError, SyntaxError, IndexError.
        reason = one_line(error)
        kind: Fault = "truncated" if "truncated" in reason.lower() else "unreadable"
        raise BadPicture(f"cannot be decoded: {reason}", kind) from error


class StoredAs(NamedTuple):
    """How a picture is stored: size, format, kind of pixels, profile ("": sRGB), pictures in it."""

    size: tuple[int, int]
    format: str = "array"
    pixels: str = "RGB"
    profile: str = ""
    frames: int = 1


def stored_as(content: bytes) -> StoredAs:
    """What the header of a picture file that :func:`decode` accepts tells of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(content), formats=formats()) as image:
            name, profile = image.format or "", profile_name(profile_of(image, content))
            frames = getattr(image, "n_frames", 1)
            if name == "MPO":  # of a phone: a JPEG, behind it a preview or the light for HDR
                name, frames = "JPEG", 1
            if steps := getattr(image, "quantization", None):  # of JPEG: the larger, the coarser
                name += f" with quantiser {np.mean(steps[0]):.1f}"
            return StoredAs(image.size, name, image.mode, profile, frames)


def profile_of(image: Image.Image, content: bytes) -> bytes:
    """The colour profile of a picture that was opened, b"" for sRGB. Raises BadPicture."""
    try:
        return declared_profile(image, content)
    except UnknownColours as error:
        raise BadPicture(str(error)) from None


@cache
def formats() -> tuple[str, ...]:
    """Those of FORMATS that the installed Pillow knows; older ones have no AVIF."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def check_pixels(width: int, height: int) -> None:
    """Raise BadPicture for more than MAX_PIXELS."""
    if width * height > MAX_PIXELS:
        limit = MAX_PIXELS // 1_000_000
        raise BadPicture(f"{width} x {height} pixels are more than {limit} megapixels", "oversized")


def rgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Palette, grey, CMYK and transparent pictures (over white) to sRGB.

    Raises BadPicture when nothing can be seen.
    """
    image = in_srgb(image, profile)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        if not np.asarray(layer)[..., 3].any():
            raise BadPicture("every pixel of it is transparent", "transparent")
        paper = Image.new("RGBA", layer.size, "white")
        paper.alpha_composite(layer)
        return paper.convert("RGB")
    return image.convert("RGB")


def of_8_bits(image: Image.Image) -> Image.Image:
    """Pixels of 12 and 16 bits to 8; others as they are.

    Raises BadPicture for pixels without a fixed range (floats, 32 bits, with a sign), and for those
    of 16 bits that never use the upper two: cameras and scanners of 10 to 14 bits write such, which
    would come out nearly black, and no file says which of the two it is.
    """
    if image.mode in ("I", "F"):
        raise BadPicture(f"pixels of type {image.mode} have no fixed range; save it with 8 bits")
    bits, depth = _bits(image), image
    if bits == 8:
        return image
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        highest = int(values.max())
        if getattr(image, "tag_v2", {}).get(262) == 0:  # TIFF in which 0 is white
            values = (2**bits - 1) - values
        # Pillow would clip instead of scaling: 65535 / 257 = 255.
        depth = Image.fromarray((values * 255 // (2**bits - 1)).astype(np.uint8))
        if (clear := image.info.get("transparency")) is not None:  # the grey that is not seen
            depth.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        kept = ("icc_profile", "exif", "XML:com.adobe.xmp", "xmp")
        depth.info = {key: value for key, value in image.info.items() if key in kept}
    else:  # Pillow has left out the lower eight bits of every channel
        colours = np.asarray(image.convert("RGB") if "A" in image.getbands() else image)
        highest = int(colours.max()) * 257
        if isinstance(clear := image.info.get("transparency"), tuple):
            image.info["transparency"] = tuple(part >> 8 for part in clear)
    if bits == 16 and 0 < highest < 2**14:
        raise BadPicture(
            f"its pixels have 16 bits and reach {highest:,} of 65,535, as those of 10 to 14 bits "
            "do: stretch it to the whole range, or save it with 8 bits"
        )
    return depth


def _bits(image: Image.Image) -> int:
    """Bits a channel: 8, or 12 or 16 where the file says so; before the pixels are loaded."""
    held = {
        str(part)
        for tile in getattr(image, "tile", ())
        for part in np.ravel(np.array(tile[3], object))
    }
    said = [int(found[1]) for one in held if (found := re.search(r";(12|16)", one))]
    return max(said, default=16 if image.mode.startswith("I;16") else 8)


def fit_square(image: Image.Image, size: int) -> Pictures:
    """Crop the central square and resize it: area means when shrinking, Lanczos when enlarging.

    ``size`` 0 keeps its pixels.
    """
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    if size not in (0, side):
        kernel = Image.Resampling.BOX if side > size else Image.Resampling.LANCZOS
        square = square.resize((size, size), kernel)
    return np.array(square)


def fit_array(pixels: NDArray[np.uint8], size: int) -> Pictures:
    """The same for pixels (height, width, 3)."""
    if pixels.shape == (size, size, 3):
        return pixels
    return fit_square(Image.fromarray(pixels), size)


def is_one_colour(pixels: NDArray[np.uint8]) -> bool:
    """Whether all pixels (height, width, 3) are alike: black, or another colour."""
    return bool((pixels == pixels[0, 0]).all())


def finest_detail(pixels: NDArray[np.uint8]) -> float:
    """Energy of second differences between neighbours over that at twice the distance.

    Near 1 for noise, near 0 where a picture was enlarged or smoothed; NaN without any detail.
    """
    grey, energy = pixels.mean(-1), []
    if min(grey.shape) < 5:
        return np.nan
    for far in (1, 2):
        down = grey[: -2 * far] + grey[2 * far :] - 2 * grey[far:-far]
        right = grey[:, : -2 * far] + grey[:, 2 * far :] - 2 * grey[:, far:-far]
        energy.append(np.square(down).mean() + np.square(right).mean())
    return float(energy[0] / energy[1]) if energy[1] else np.nan


def one_line(error: Exception) -> str:
    """The text of an error without line breaks; its class when there is no text."""
    return " ".join(str(error).split()) or type(error).__name__
