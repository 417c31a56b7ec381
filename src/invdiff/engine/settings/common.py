"""Every setting of a run: its type, range, default and one sentence.

Noise levels are fractions of the schedule, 0 = clean, 1 = pure noise. The sections are frozen and
strict (the text "100" is no number) and refuse keys that they do not know.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from invdiff.data.sets import builtin

# Built-in data sets: how many prompts and how many pictures of each prompt they have.
EMBEDDED_SETS = {name: (known.prompts, known.pictures) for name, known in builtin.SETS.items()}

Whole = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(gt=0, le=1)]
Scale = Annotated[float, Field(ge=1)]
Strength = Annotated[float, Field(ge=0)]


def rule(holds: Callable[[list[Any]], bool], words: str) -> AfterValidator:
    """A check of a whole list; ``words`` completes "must ..."."""

    def check(values: list[Any]) -> list[Any]:
        if not holds(values):
            raise ValueError(words)
        return values

    return AfterValidator(check)


def once(item: str) -> AfterValidator:
    """A check that no ``item`` comes twice in a list."""
    return rule(lambda values: len(set(values)) == len(values), f"name each {item} only once")


Levels = Annotated[list[Level], Field(min_length=1), once("noise level")]
Scales = Annotated[list[Scale], Field(min_length=1), once("guidance scale")]
Strengths = Annotated[
    list[Strength],
    rule(
        lambda values: values == sorted(set(values)) and 1.0 in values,
        "be ascending and contain 1.0, the trained point",
    ),
]
Window = Annotated[
    list[Share],
    Field(min_length=2, max_length=2),
    rule(lambda w: w[0] < w[1], "be [start, stop] with start < stop"),
]


class Section(BaseModel):
    """What all sections share: frozen, strict, no unknown keys, no infinities."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )


class ModelSection(Section):
    """The frozen base model."""

    path: str = Field("faces", min_length=1)
    """A built-in model, a folder in diffusers format, one file of SD 1 or XL, or a hub id."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Number format of the frozen model; the adapter is float32."""
    attention: Literal["auto", "native", "flash", "xformers"] = "auto"
    """How attention is computed; auto leaves it to the libraries."""


class DataSection(Section):
    """The pictures and prompts that the groups are inferred from."""

    path: str = Field("faces", min_length=1)
    """A built-in set, a folder of pictures with metadata or caption files, a saved Hugging Face
    data set, or .tar, .parquet or .npz files."""
    prompt_column: str = ""
    """Metadata column with the captions; empty finds caption, text or prompt."""
    prompt_groups: Literal["auto", "caption", "meaning", "column"] = "auto"
    """What pictures are compared within: equal captions, captions that mean alike, or group_column;
    auto takes the captions if they repeat."""
    group_column: str = ""
    """Metadata column whose values are the prompt groups, such as a profession."""
    label_column: str = ""
    """Metadata column with group labels; only the labels estimator reads it."""
    image_size: int = Field(0, ge=0)
    """Pixels a side; 0 is the model's own size."""
    max_bad_share: Share = 0.05
    """Share of unreadable pictures above which the data is refused."""
    quarantine: str = ""
    """List of pictures to leave out: the file of `data check --quarantine`."""
    min_images: Whole = 40
    """Prompts with fewer images than this are not searched for groups."""


class CalibrateSection(Section):
    """The search for a strength that is enough."""

    guidance_scale: float = Field(2.5, ge=1)
    """Guidance scale of the calibration."""
    images_per_prompt: Whole = 64
    """Images of each prompt for each strength, and each scale of share feedback."""
    tolerance: float = Field(0.2, gt=0, le=1)
    """Largest gap from the wanted shares that is close enough."""
    strengths: Strengths = Field([0.0, 0.5, 0.75, 1.0, 1.25, 1.5])
    """Strengths of which the smallest that is enough is taken, 1.0 tried first; if none is, one
    more between two of them.
    """


class SampleSection(Section):
    """Pictures before and after, from the same seeds."""

    prompts: list[Annotated[str, Field(min_length=1)]] = Field([])
    """Prompts to sample; empty takes the training prompts."""
    prompt_suffix: str = ""
    """Text that every prompt is drawn with at its end; the pictures are measured under the prompt
    without it."""
    images_per_prompt: Whole = 400
    """Images of each prompt and scale, before and after."""
    guidance_scales: Scales = Field([1.0, 2.5])
    """Classifier-free guidance scales."""
    steps: Whole = 20
    """Denoising steps of one image."""
    strength: Strength | Literal["auto"] = "auto"
    """Adapter strength; auto takes the calibrated one."""
    window: Window = Field([0.0, 1.0])
    """Noise levels [start, stop] at which the guidance applies."""
    batch_size: Whole = 64
    """Images in one pass through the model."""


ZERO_SHOT = ("clip", "siglip")
CLASSIFIER_KINDS = (*ZERO_SHOT, "model", "column")


def texts_of(lines: Sequence[str]) -> dict[str, list[str]]:
    """``"class = text"`` lines by class, in the order in which the classes first come."""
    found: dict[str, list[str]] = {}
    for line in lines:
        name, _, text = line.partition("=")
        found.setdefault(name.strip(), []).append(text.strip())
    return found


def has_text(lines: Sequence[str]) -> bool:
    """Whether every line is ``"class = text"``."""
    return all(name and all(texts) for name, texts in texts_of(lines).items())


def _a_classifier(name: str) -> str:
    kind, colon, which = name.partition(":")
    known = name in ("auto", "none", *EMBEDDED_SETS) or name.endswith(".safetensors")
    if known or (colon and kind in CLASSIFIER_KINDS and which):
        return name
    kinds = ", ".join(f"{kind}:NAME" for kind in CLASSIFIER_KINDS)
    raise ValueError(f'be "auto", "none", a built-in set, a .safetensors file or one of {kinds}')


ClassTexts = Annotated[list[str], rule(has_text, 'be lines like "female = a photo of a woman"')]
ClassifierName = Annotated[str, AfterValidator(_a_classifier)]


class EvaluateSection(Section):
    """The figures."""

    classifier: ClassifierName = "auto"
    """Attribute classifier: a file of `invdiff data classifier`, clip:MODEL, siglip:MODEL,
    model:MODEL, column:NAME (labels in samples/metadata.csv), none; auto takes a built-in set's
    own."""
    attribute: str = ""
    """Name of the attribute that clip, siglip or model estimates."""
    classes: ClassTexts = Field([])
    """Its classes, as in "female = a photo of a woman": texts for clip and siglip, labels of the
    model for model; a class can have several."""
    abstain_below: float = Field(0.0, ge=0, lt=1)
    """A picture whose most probable class is less probable than this is counted as unclear; 0
    never."""
    strength_curve: list[Strength] = Field([])
    """Strengths at which the calibration's pictures are drawn again to set its estimated gap beside
    the classifier's; empty for none."""


def wrong_classes(classifier: str, classes: Sequence[str]) -> str | None:
    """What is wrong with the texts of a classifier's classes."""
    kind = classifier.partition(":")[0]
    if kind in ZERO_SHOT and len(texts_of(classes)) < 2:
        return (
            f"{kind} needs texts of at least 2 classes, as in "
            '["female = a photo of a woman", "male = a photo of a man"]'
        )
    if classes and kind not in (*ZERO_SHOT, "model"):
        return "only clip, siglip and model read them; leave them out"
    return None
