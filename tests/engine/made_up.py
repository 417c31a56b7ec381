"""Run folders of a benchmark that were never run: made-up figures in the formats of the stages."""

from invdiff.engine.storage.files import write_json

HAT, BAND, ANYBODY = "a person wearing a hat", "a person wearing a headband", "a person"
VERSIONS = {"invdiff": "0.1.0", "torch": "2.13.0", "numpy": "2.4.1", "peft": None}


def arm(bias, share, strength=1.0, fidelity=0.98, distance=90.0):
    """What metrics.json holds of one arm at one scale, for a share of men with a hat."""
    shares = {HAT: share, BAND: 0.5, ANYBODY: 0.75}
    return {
        "images": 1200,
        "strength": strength,
        "shares": {
            prompt: {"female": {"share": 1 - men, "count": 9}, "male": {"share": men, "count": 9}}
            for prompt, men in shares.items()
        },
        "bias": {"value": bias, "low": bias - 0.04, "high": bias + 0.02, "parity_value": 0.05},
        "fidelity": {"value": fidelity, "low": fidelity - 0.01, "high": 1.0},
        "frechet": {"balanced": {"value": distance}, "training": {"value": 7.0}},
        "recall": {"value": 0.5, "neighbours": 3},
        "coverage": {"value": 0.4, "neighbours": 3},
    }


def write_run(
    folder, arms, found=(True, False, True), auc=(0.9, None, 0.8), strength=1.0, skipped=False
):
    """The files that the tables read; ``found`` and ``auc`` are those of the three prompts."""
    prompts = (HAT, BAND, ANYBODY)
    accuracy = [value and value - 0.1 for value in auc]
    agreement = {"balanced_accuracy": dict(zip(prompts, accuracy, strict=True))}
    agreement["auc"] = dict(zip(prompts, auc, strict=True))
    protocol = {"name": "faces", "images_per_prompt": 400, "versions": VERSIONS}
    metrics = {"protocol": protocol, "arms": arms, "groups_vs_labels": agreement}
    write_json(folder / "metrics.json", metrics)
    groups = [{"share": 0.9}, {"share": 0.1}]
    entries = {
        prompt: {"found": one, "groups": groups if one else []}
        for prompt, one in zip(prompts, found, strict=True)
    }
    write_json(folder / "discovery.json", {"estimator": "auto", "prompts": entries})
    write_json(folder / "training.json", {"skipped": skipped})
    write_json(
        folder / "adapter" / "calibration.json", {"guidance_scale": 2.5, "strength": strength}
    )


def ours(shift=0.0, strength=1.0):
    """The arms of the method's own run: men with a hat fall from 0.95 to 0.55."""
    return {
        "base": {
            "1.0": arm(0.6 + shift, 0.95, 0.0, distance=90 + 10 * shift),
            "2.5": arm(0.9 + shift, 1.0, 0.0),
        },
        "guided": {
            "1.0": arm(0.1 + shift, 0.55 + shift, strength, 0.97, 20.0),
            "2.5": arm(0.2 + shift, 0.6, strength),
        },
    }
