r"""A base model of ``scenes`` that never saw a bias.

    python tools/even_base.py --out build/even
    invdiff run --preset scenes --model.path build/even/pipeline --study.estimator none \
        --train.steps 0 --study.arms "['base']" --sample.guidance_scales "[1.0,2.5,5.0]" \
        --out build/even-run

The recipe, garments and backgrounds of the built-in set, every prompt's pictures half on plants and
half on places: one model to set beside a balanced one, no bound on what balancing can reach. For
faces the set ``faces-balanced`` is such a model. About ten minutes on one core; goes on where it
was stopped.
"""

import argparse
from pathlib import Path

from invdiff.data.sets.drawn import scenes
from invdiff.engine.distributed.pool import one_thread
from invdiff.studies.toy_models.sets import RECIPES, build_base_model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    one_thread()
    train = scenes.draw(bias=0.5)["train"]
    print(build_base_model(RECIPES["scenes"], train.pictures, train.prompts, out))


if __name__ == "__main__":
    main()
