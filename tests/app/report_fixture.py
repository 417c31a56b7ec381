"""A small complete run, written in the formats of the stages without running any of them.

The numbers are made up, but they belong together: the shares give the Bias, the groups the risks.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from invdiff.data.sources import open_samples
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.settings import config
from invdiff.engine.storage.files import write_json, write_parquet, write_text

HAT, GLASSES = "a person wearing a hat", "a person wearing glasses"
HEADBAND, PLAIN = "a person wearing a headband", "a portrait of a person"
# share of the class "male" in the training data, and in the images of each model at each scale
TRAINING = {HAT: 0.9, GLASSES: 0.1, HEADBAND: 0.5, PLAIN: 0.8}
MALE = {
    ("base", 1.0): {HAT: 0.96, GLASSES: 0.12, HEADBAND: 0.49, PLAIN: 0.80},
    ("guided", 1.0): {HAT: 0.57, GLASSES: 0.47, HEADBAND: 0.49, PLAIN: 0.54},
    ("base", 2.5): {HAT: 1.00, GLASSES: 0.01, HEADBAND: 0.40, PLAIN: 0.97},
    ("guided", 2.5): {HAT: 0.58, GLASSES: 0.39, HEADBAND: 0.46, PLAIN: 0.56},
}
IMAGES = 400  # measured for each prompt, model and scale
PICTURES = 24  # of which this many are on the disk
LEVELS = [0.98, 0.94, 0.88, 0.75, 0.5]
EXCESS = [0.0042, 0.0068, 0.0051, 0.0012, -0.0031]

Picture = Callable[[str, str, np.random.Generator], np.ndarray]


def patch(prompt: str, gender: str, rng: np.random.Generator) -> np.ndarray:
    """A picture that is cheap to draw: noise around a colour."""
    colour = (60, 90, 200) if gender == "male" else (220, 130, 60)
    noisy = np.array(colour) + 12 * rng.standard_normal((16, 16, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def write_run(
    folder: Path,
    prompts: Sequence[str] = tuple(TRAINING),
    picture: Picture = patch,
    per_prompt: int = 40,
) -> RunFolder:
    """The run under ``folder/run``, its training pictures in ``folder/train.npz``."""
    rng = np.random.default_rng(0)
    shares = dict(zip(prompts, TRAINING.values(), strict=True))
    male = {key: dict(zip(prompts, values.values(), strict=True)) for key, values in MALE.items()}
    genders = _write_training(folder / "train.npz", shares, picture, per_prompt, rng)
    overrides = [f"data.path={folder / 'train.npz'}"]
    run = RunFolder.open(folder / "run", config.load(None, overrides))
    _write_discovery(run, shares, folder / "train.npz", genders, rng)
    _write_training_stage(run, shares)
    _write_samples(run, male, picture, rng)
    write_json(run.path / "metrics.json", metrics(male))
    for at, stage in enumerate(("discover", "train", "sample", "evaluate")):
        done = {"stage": stage, "done": "2026-01-02T03:04:05+0000", "seconds": 41.5 + 30 * at}
        write_json(run.path / "stages" / f"{stage}.json", done)
    return run


def _write_training(
    path: Path,
    shares: dict[str, float],
    picture: Picture,
    per_prompt: int,
    rng: np.random.Generator,
) -> list[str]:
    rows = [
        (prompt, "male" if at < share * per_prompt else "female")
        for prompt, share in shares.items()
        for at in range(per_prompt)
    ]
    images = np.stack([picture(prompt, gender, rng) for prompt, gender in rows])
    np.savez(path, images=images, prompt=np.array([prompt for prompt, _ in rows]))
    return [gender for _, gender in rows]


def _write_discovery(
    run: RunFolder,
    shares: dict[str, float],
    data: Path,
    genders: list[str],
    rng: np.random.Generator,
) -> None:
    samples = open_samples(data, 16)
    majority = {prompt: "male" if share >= 0.5 else "female" for prompt, share in shares.items()}
    against = [
        float(gender != majority[prompt])
        for prompt, gender in zip(samples.prompt, genders, strict=True)
    ]
    sure = rng.uniform(0.8, 1.0, len(samples))
    q_1 = [float(s if a else 1 - s) for a, s in zip(against, sure, strict=True)]
    columns = {
        "sample_id": list(samples.sample_id),
        "prompt": list(samples.prompt),
        "group": [int(a) for a in against],
        "q_0": [1 - q for q in q_1],
        "q_1": q_1,
        "weight": [1.0] * len(samples),
    }
    write_parquet(run.path / "groups.parquet", columns)
    write_json(
        run.path / "discovery.json",
        {
            "estimator": "semantic",
            "score": "excess",
            "candidate": "k-means, 2 clusters, pooled over the prompts",
            "levels": LEVELS,
            "reliability": [0.71, 0.83, 0.86, 0.9, 0.88],
            "images_scored": 2400,
            "stability": {"agreement": 0.98, "runs": 2},
            "ranking": [
                {"name": f"candidate {at}", "objective": 0.42 / (1 + 0.4 * at)} for at in range(8)
            ],
            "ranked_by": "clarity in nats",
            "prompts": {prompt: _discovered(share) for prompt, share in shares.items()},
        },
    )


def _discovered(share: float) -> dict[str, Any]:
    minority = min(share, 1 - share)
    shape = np.array(EXCESS)
    facts: dict[str, Any] = {"found": True, "images": 2000, "scored": 600, "note": ""}
    if share == 0.5:
        facts |= {"found": False, "note": "nothing to balance", "groups": []}
        return facts | {"explained": 0.004, "p_value": 0.41}
    facts["groups"] = [
        {"share": s, "low": s - 0.024, "high": s + 0.024, "mean_excess": e}
        for s, e in ((1 - minority, -0.0004), (minority, 0.0061))
    ]
    profile = {"levels": LEVELS, "with": -shape * minority, "against": shape}
    profile |= {"with_error": [0.0001] * 5, "against_error": [0.0006] * 5}
    return facts | {"explained": 0.31, "p_value": 0.0001, "profile": profile}


def _write_training_stage(run: RunFolder, shares: dict[str, float]) -> None:
    steps = np.arange(0, 1601, 40)
    fall = 1 - np.exp(-steps / 400)
    curve = {
        "step": steps,
        "loss": 0.31 - 0.02 * fall,
    }
    write_json(
        run.path / "training.json",
        {
            "steps": 1600,
            "skipped": False,
            "seconds": 312.0,
            "curve": curve,
            "parameters": 181_248,
            "base_parameters": 2_512_016,
            "certificate": {
                "before": certificate(shares, with_=0.298, against=0.341),
                "after": certificate(shares, with_=0.301, against=0.322),
            },
        },
    )
    # The adapter itself is not read, only its hash is shown.
    write_text(run.path / "adapter" / "pytorch_lora_weights.safetensors", "weights")
    gaps = {0.0: 0.78, 0.5: 0.41, 0.75: 0.2, 1.0: 0.09, 1.25: 0.14}
    points = [
        {"strength": s, "gap": g, "low": max(0, g - 0.06), "high": g + 0.06, "images": 256}
        | {"shares": {prompt: (1 - g) / 2 for prompt in shares}}
        for s, g in gaps.items()
    ]
    calibration = {"guidance_scale": 2.5, "tolerance": 0.1, "images_per_prompt": 64}
    calibration |= {"strength": 1.0, "curve": points}
    write_json(run.path / "adapter" / "calibration.json", calibration)


def certificate(shares: dict[str, float], with_: float, against: float) -> dict[str, Any]:
    """The certificate of groups whose risks differ by a little from prompt to prompt."""
    groups = []
    for at, (prompt, share) in enumerate(shares.items()):
        for group, risk in enumerate((with_, against)):
            risk += 0.004 * at
            row = {"prompt": prompt, "group": group, "images": round(300 * abs(group - share)) + 20}
            groups.append(row | {"risk": risk, "low": risk - 0.004, "high": risk + 0.004})
    risks = np.array([group["risk"] for group in groups])
    facts = {"groups": groups, "mean": risks.mean(), "variance": risks.var()}
    facts["bound"] = risks.mean() + np.sqrt((len(risks) - 1) * risks.var())
    return facts | {"worst": risks.max(), "worst_mixture": (risks == risks.max()).astype(float)}


def _write_samples(
    run: RunFolder,
    male: dict[tuple[str, float], dict[str, float]],
    picture: Picture,
    rng: np.random.Generator,
) -> None:
    columns: dict[str, list[Any]] = {
        name: [] for name in ("arm", "scale", "prompt", "index", "seed", "path", "strength")
    }
    for (arm, scale), shares in male.items():
        for at, (prompt, share) in enumerate(shares.items()):
            for index in range(PICTURES):
                path = f"samples/prompt-{at}/{index:05d}-{arm}-{scale:g}.png"
                (run.path / path).parent.mkdir(parents=True, exist_ok=True)
                gender = "male" if rng.random() < share else "female"
                Image.fromarray(picture(prompt, gender, rng)).save(run.path / path)
                row = (arm, scale, prompt, index, 1000 * at + index, path, float(arm == "guided"))
                for name, value in zip(columns, row, strict=True):
                    columns[name].append(value)
    write_parquet(run.path / "samples.parquet", columns)


def metrics(male: dict[tuple[str, float], dict[str, float]]) -> dict[str, Any]:
    """metrics.json for the given shares of the class male."""
    arms: dict[str, Any] = {"base": {}, "guided": {}}
    for (arm, scale), shares in male.items():
        arms[arm][str(scale)] = _arm(arm, scale, shares)
    paired = {}
    for scale in arms["base"]:
        change = arms["base"][scale]["bias"]["value"] - arms["guided"][scale]["bias"]["value"]
        reduction = {"value": change, "low": change - 0.05, "high": change + 0.05}
        paired[scale] = {"bias_reduction": reduction}
    gender = {"classes": ["female", "male"], "accuracy": 0.992, "held_out": 2000}
    return {
        "protocol": {
            "name": "faces",
            "attribute": "gender",
            "resamples": 2000,
            "confidence": 0.95,
            "versions": {},
            "seed": 0,
            "images_per_prompt": IMAGES,
            "extractor": "faces features",
            "extractor_sha256": "ab" * 32,
        },
        "classifier": {
            "name": "faces",
            "trained_on": 2000,
            "attributes": {"gender": gender | {"confusion": [[992, 8], [8, 992]]}},
        },
        "arms": arms,
        "paired": paired,
        "not_measured": [],
        "groups_vs_labels": None,
    }


def _arm(arm: str, scale: float, shares: dict[str, float]) -> dict[str, Any]:
    bias = float(np.mean([abs(2 * share - 1) for share in shares.values()]))
    images = IMAGES * len(shares)
    distance = {"base": 96.5, "guided": 6.1}[arm] + 8 * (scale - 1)
    right = round((0.978 if scale == 1 else 0.998) * images)
    return {
        "images": images,
        "strength": float(arm == "guided"),
        "shares": {
            prompt: {"male": _share(share), "female": _share(1 - share)}
            for prompt, share in shares.items()
        },
        "bias": {
            "value": bias,
            "low": bias - 0.04,
            "high": bias + 0.04,
            "normalised": bias,
            "corrected": bias - 0.01,
            "error_corrected": bias * 1.01,
            "images": images,
            "parity_value": 0.04,
        },
        "fidelity": {
            "value": right / images,
            "low": right / images - 0.007,
            "high": min(1.0, right / images + 0.007),
            "count": right,
            "images": images,
        },
        "frechet": {
            "balanced": {"value": distance, "images": images, "reference_images": 4000},
            "training": {"value": 120 - distance, "images": images, "reference_images": 8000},
        },
        "recall": {"value": 0.61, "neighbours": 3, "reference": "balanced"},
        "coverage": {"value": 0.57, "neighbours": 3, "reference": "balanced"},
        "precision": {"value": 0.83, "neighbours": 3, "reference": "balanced"},
    }


def _share(share: float) -> dict[str, Any]:
    error = 1.96 * float(np.sqrt(max(share * (1 - share), 0.002) / IMAGES))
    low, high = max(0.0, share - error), min(1.0, share + error)
    return {"share": share, "count": round(share * IMAGES), "low": low, "high": high}
