"""The verbs and their options as one table, of which the parser and the help are made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from invdiff.app.cli.options import (
    DRY_AND_REDO,
    JSON,
    LAST_LINES,
    OF_A_RUN,
    OF_THE_RUN,
    OVERRIDES,
    RESUME,
    RUN_FOLDER,
    SOURCE,
    STAGE,
    TWO_FOLDERS,
    TWO_PIPELINES,
    Options,
    a_flag,
    a_number,
    a_path,
    a_text,
    a_whole,
)


@dataclass(frozen=True)
class Verb:
    """What a verb is for, what it takes, and ``module:function`` in this folder that does it.

    ``takes`` are its options, ``groups`` more of them under a title. ``no_settings`` says why it
    takes no settings of a run. A verb with ``actions`` is done by them.
    """

    words: str
    does: str = ""
    takes: Options = field(default_factory=dict)
    more: str = ""
    groups: Mapping[str, Options] = field(default_factory=dict)
    no_settings: str = ""
    actions: Mapping[str, "Verb"] = field(default_factory=dict)


def _stage(words: str, takes: Options = OF_A_RUN) -> Verb:
    return Verb(words, "runs:one_stage", takes, OVERRIDES + RESUME)


CHECK = Verb(
    "decode every picture and list what is wrong",
    "data:check",
    {
        "path PATH": (
            "a folder of pictures, a saved Hugging Face data set, .tar, .parquet or .npz files, or "
            "a built-in set"
        ),
        "--prompt-column NAME": a_text("column with captions", default=""),
        "--min-side N": a_whole(
            "pictures whose shorter side has fewer pixels are to be left out; without it those "
            "below 32 are told as tiny"
        ),
        "--quarantine FILE": a_path(
            "write the list of pictures to leave out, .csv or .parquet, for data.quarantine"
        ),
        "--near-duplicates": a_flag("near-duplicates are to be left out, too"),
        **JSON,
    },
    "Near-duplicates and tiny pictures are told and not left out, unless --near-duplicates or "
    "--min-side says so; nor are animated pictures, whose first one is taken, and those of one "
    "colour. Exit code 1 if there is anything to leave out.",
)
BUILD = Verb(
    "make a built-in set: its pictures, base model and attribute classifier",
    "data:build",
    {
        "name NAME": (
            "scenes, digits, faces-balanced, faces-marginal, faces-named, faces-race or "
            "faces-several"
        ),
        "--from FOLDER": a_path(
            "folder laid out like /usr/share with the pictures that scenes needs (/usr/share)",
            dest="source",
        ),
        "--out DIR": a_path(
            "folder for built sets; another one than the user's cache is found if INVDIFF_SETS "
            "names it"
        ),
    },
    f"{RESUME} Afterwards the name serves as data.path, model.path, preset and benchmark. "
    "docs/evidence/sets.md tells what the sets are and how long they take.",
)
CLASSIFIER = Verb(
    "train an attribute classifier on labelled pictures",
    "data:classifier",
    {
        "--from PATH": a_text(
            "a folder of pictures with metadata, or .tar, .parquet or .npz files",
            dest="source",
            required=True,
        ),
        "--label-column NAME": a_text("column with the labels", required=True),
        "--out FILE": a_path("the .safetensors file to write", required=True),
        "--backbone MODEL": a_text(
            "folder or cached hub id of a vision model of transformers, on whose features a linear "
            "layer is trained; without it a small network that sees 32 x 32 pixels",
            default="",
        ),
        "--steps N": a_whole("steps of the small network (1000)", 1, default=1000),
        "--split-seed N": a_whole("seed of the split and of training (0)", default=0),
    },
    "A fifth of the pictures is held out; how often the classifier is wrong on it stands in the "
    f"file's header and corrects the shares of a report. {RESUME}",
)
PREPARE = Verb(
    "check a benchmark's official archive and lay it out for a run",
    "data:prepare",
    {
        "name NAME": "waterbirds, celeba or fairface",
        "--from FOLDER": a_path(
            "folder of the unpacked official archive", dest="source", required=True
        ),
        "--out DIR": a_path("new folder for train, validation and test", required=True),
        "--ratio A:B:...": a_text(
            "ratio of the groups in the training split, as in 3:2:1:1:1:1:2:3; all pictures "
            "without it",
            default="",
        ),
        "--ratio-seed N": a_whole("seed that chooses the pictures a ratio keeps (0)", default=0),
    },
    "No picture is copied: the folders link to the archive. docs/evidence/benchmarks.md tells "
    "where the archives are from and what is checked.",
)
BENCHMARK = Verb(
    "run a named benchmark",
    "benchmark:benchmark",
    {
        "names NAME": a_text(
            "name of a built-in set, as in faces; --suite method and attributes "
            "take several, or none for all",
            nargs="*",
        ),
        "--suite NAME": a_text(
            "controls (what must and must not do anything, the default), baselines (other ways to "
            "balance a model), ablation (the method with one setting changed) or augment "
            "(classifiers trained on what `invdiff augment` makes), which can share a folder; or "
            "method (every estimator, and what balancing does at three guidance scales, on every "
            "set) or attributes (what discovery infers beside every labelled attribute of a set)",
            default="controls",
        ),
        "--part NAME": (
            "with --suite method, one table alone: found (which estimator finds the groups) or "
            "balanced (what they do)"
        ),
        "--rows ROW": a_text(
            "with --suite ablation, only these rows and the method's own, as in rank-4 lambda-0",
            nargs="+",
            default=[],
        ),
        "--seeds N": a_whole("training seeds (3)", 1, default=3),
        "--out DIR": a_path(
            "folder for the tables and runs; made if it is not there", required=True
        ),
    },
    "With --suite ablation, method or attributes, settings are those of all rows, as in "
    "--train.steps 400. " + RESUME,
)

VERBS: Mapping[str, Verb] = {
    "demo": Verb(
        "run the whole method on the embedded faces and their model",
        "runs:demo",
        {
            "--quick": a_flag("smoke run: shows that it works, its figures are void"),
            "--out DIR": a_path("run folder (invdiff-demo)", default=Path("invdiff-demo")),
            **DRY_AND_REDO,
            **LAST_LINES,
        },
        OVERRIDES + RESUME,
    ),
    "run": Verb(
        "run all stages in order",
        "runs:all_stages",
        {**SOURCE, **RUN_FOLDER, **DRY_AND_REDO, **LAST_LINES},
        OVERRIDES + RESUME,
    ),
    "discover": _stage(
        "infer the groups that the model over- and under-represents",
        {**SOURCE, **RUN_FOLDER, **STAGE},
    ),
    "train": _stage("train and calibrate the guidance on balanced groups"),
    "sample": _stage("make pictures before and after from the same seeds"),
    "evaluate": Verb(
        "measure the pictures of a run, or any two folders of pictures",
        "two_folders:evaluate",
        {
            **SOURCE,
            "--out DIR": a_path("folder for the page and the tables of two folders"),
            **STAGE,
            "folders FOLDER": a_text(
                "a run folder; or two folders: flat, with a sub-folder for each prompt, or with "
                "captions; or two pipelines in diffusers format",
                nargs="*",
            ),
        },
        "With two folders: measures the second beside the first (or both beside --reference) and "
        "writes metrics.json, report.html, CSV and LaTeX tables into --out. Nothing is trained or "
        "downloaded. With pipelines instead of folders, draws pictures with them first, from the "
        "same seeds. " + OVERRIDES + RESUME,
        {"two folders of pictures": TWO_FOLDERS, "pipelines instead of folders": TWO_PIPELINES},
    ),
    "report": _stage("write report.html, one file that opens offline"),
    "export": Verb(
        "write the adapter in the formats of other tools",
        "runs:export_adapter",
        {
            "source RUN_OR_ADAPTER": a_path("a run folder, or an adapter folder"),
            "--format": a_text(
                "can be given more than once; kohya is what ComfyUI and A1111 read, peft what "
                "PeftModel.from_pretrained does, merged a whole pipeline",
                action="append",
                dest="formats",
                choices=("diffusers", "kohya", "peft", "merged"),
                default=[],
            ),
            "--out DIR": a_path("new folder for the files; made if it is not there", required=True),
            "--model MODEL": "base model, where it is not known",
            "--strength S": a_number(
                "instead of the calibrated strength; it is in the files, to be used at weight 1"
            ),
            "--verify": a_flag("load every file again and compare pictures"),
            "--audit URL": "address of the audit, for the header",
            "--push OWNER/NAME": "upload the folder to the model hub",
            "--private": a_flag("with --push: a private repository"),
            "--dry-run": a_flag("with --push: list what would be uploaded, no more"),
        },
        "Without --format: diffusers, peft, and kohya where the family has it.",
        no_settings=OF_THE_RUN,
    ),
    "augment": Verb(
        "even out the data of a run with pictures of its guided sampler, or draw an even set",
        "runs:augment",
        {
            "run RUN": a_path("a run folder whose training is done"),
            "--out DIR": a_path("new folder for the set", required=True),
            "--images-per-prompt N": a_whole(
                "draw a set of its own, N pictures of each prompt; without it the pictures of the "
                "run's data and what their smaller groups lack",
                1,
            ),
            "--scale W": a_number("guidance scale (the one of the calibration)", 1),
            "--strength S": a_number("instead of the calibrated strength"),
        },
        "Groups are inferred, of drawn pictures too. metadata.csv tells which pictures are "
        "synthetic, with the seed of each; docs/reference/files.md has its columns. " + RESUME,
        no_settings=OF_THE_RUN,
    ),
    "data": Verb(
        "look at pictures and captions before a run",
        actions={"check": CHECK, "build": BUILD, "classifier": CLASSIFIER, "prepare": PREPARE},
        no_settings="it looks at pictures, not at a run",
    ),
    "benchmark": Verb(
        "run the method and its alternatives side by side", actions={"run": BENCHMARK}
    ),
    "config": Verb(
        "print the settings as TOML, each with what it means",
        "runs:config",
        {**SOURCE, "--schema": a_flag("print the JSON schema instead")},
        OVERRIDES,
    ),
    "doctor": Verb(
        "check versions, devices, cached models, and what a run would need",
        "runs:doctor",
        {**SOURCE, **JSON},
        "Exit code 1 if something that is needed is missing. " + OVERRIDES,
    ),
    "weights": Verb(
        "weights of extractors: fetch, verify or list them",
        "weights:weights",
        {
            "task TASK": a_text("fetch, verify or list", choices=("fetch", "verify", "list")),
            "names NAME": a_text("names of `invdiff weights list`", nargs="*"),
            "--mirror PLACE": a_text("folder or address to fetch from instead", default=""),
            "--to DIR": a_path("folder of the weights"),
        },
        "Nothing is downloaded unless it is fetched here. A hash that is not published is recorded "
        "at the first fetch. The folder is $INVDIFF_WEIGHTS, else in the user's cache.",
        no_settings="it looks at files, not at a run",
    ),
}
