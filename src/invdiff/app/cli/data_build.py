"""`invdiff data build`: pictures, base model and classifier of a built-in set."""

import argparse
from pathlib import Path

WORDS = "make a built-in set: its pictures, base model and attribute classifier"
MORE = (
    "The same command goes on where an interrupted one stopped. Afterwards the name serves as "
    "data.path, model.path, preset and benchmark. docs/evidence/sets.md tells what the sets are "
    "and how long they take."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "name",
        metavar="NAME",
        help="scenes, digits, faces-balanced, faces-marginal, faces-named or faces-race",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FOLDER",
        help="folder laid out like /usr/share with the pictures that scenes needs (/usr/share)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for built sets; another one than the user's cache is found if INVDIFF_SETS "
        "names it",
    )


def build(asked: argparse.Namespace) -> None:
    """Do it, and say how good the classifier is and what can be done now."""
    from invdiff.engine.storage.files import read_json
    from invdiff.model.vision.attribute_classifier import AttributeClassifier
    from invdiff.studies.toy_models.sets import make

    folder = make(asked.name, asked.source, asked.out)
    claims = AttributeClassifier.load(folder / "classifier.safetensors").facts["attributes"]
    told = [f"{name} {claim['accuracy']:.4f}" for name, claim in claims.items()]
    held_out = next(iter(claims.values()))["held_out"]
    seconds = sum(read_json(folder / "base_recipe.json")["seconds"].values())
    print(f"base model: trained in {seconds / 60:.0f} minutes")
    print(f"classifier: {', '.join(told)} right on {held_out:,} pictures that it never saw")
    print(f"set: {folder}")
    print(f"run on it: invdiff run --preset {asked.name} --out runs/{asked.name}")
