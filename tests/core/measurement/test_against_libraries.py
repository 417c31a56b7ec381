"""Every figure equals that of an independent library on the same features, within rounding.

Libraries that CI installs are run; torch-fidelity needs torchvision, so its numbers were taken once
and are written down here (0.4.0, its own functions on the features of ``clouds.waves``).
"""

import numpy as np
import pandas
import pytest
import torch
from fairlearn.metrics import MetricFrame, selection_rate
from prdc import compute_prdc
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from invdiff.core.measurement import fidelity, influence, parity
from tests.core.clouds import waves

FEW, OTHERS = waves(60, 8, 0.1), 1.2 * waves(60, 8, 0.9)
MANY, MORE = waves(150, 6, 0.2), waves(170, 6, 1.7) + 0.4

EXACT = 1e-9  # the same formula in float64
SINGLE = 1e-4  # torchmetrics sums in float32 where it is given float32


class Given(torch.nn.Module):
    """An extractor whose features are its input."""

    num_features = 6

    def forward(self, features):
        return features


def test_frechet_is_that_of_torchmetrics():
    metric = FrechetInceptionDistance(feature=Given(), input_img_size=(6,)).set_dtype(torch.float64)
    metric.update(torch.from_numpy(MORE), real=True)
    metric.update(torch.from_numpy(MANY), real=False)
    found = fidelity.frechet(MANY, MORE).value
    assert found == pytest.approx(metric.compute().item(), rel=SINGLE)
    assert found > 0.5


def test_frechet_kid_precision_and_recall_are_those_of_torch_fidelity():
    assert fidelity.frechet(FEW, OTHERS).value == pytest.approx(0.2684858139566053, rel=EXACT)
    # one subset of all images: the whole U-statistic
    assert influence.kid_parts(FEW, OTHERS).value == pytest.approx(-0.06935792543842512, rel=EXACT)
    found = fidelity.manifolds(FEW, OTHERS, neighbours=3)
    assert found.precision.mean() == pytest.approx(0.949999988079071, abs=1e-7)
    assert found.recall.mean() == pytest.approx(0.9666666388511658, abs=1e-7)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all:UserWarning")
def test_kid_is_that_of_torchmetrics_with_one_subset_of_all_images():
    metric = KernelInceptionDistance(feature=Given(), subsets=1, subset_size=150)
    metric.update(torch.from_numpy(MORE[:150]), real=True)
    metric.update(torch.from_numpy(MANY), real=False)
    found = influence.kid_parts(MANY, MORE[:150]).value
    assert found == pytest.approx(metric.compute()[0].item(), rel=EXACT)
    assert found > 0.1


@pytest.mark.parametrize("neighbours", [1, 3, 5])
def test_precision_recall_density_and_coverage_are_those_of_prdc(neighbours, monkeypatch, capsys):
    alone = "prdc.prdc.sklearn.metrics.pairwise_distances"  # prdc asks for eight processes
    plain = lambda one, two, **_: np.linalg.norm(one[:, None] - two[None], axis=2)  # noqa: E731
    monkeypatch.setattr(alone, plain)
    witness = compute_prdc(MORE, MANY, neighbours)
    found = fidelity.manifolds(MANY, MORE, neighbours)
    for name, value in witness.items():
        assert getattr(found, name).mean() == pytest.approx(value, abs=1e-12), name
        assert value > 0
    assert "Num real: 170" in capsys.readouterr().out


def test_shares_and_bias_are_those_of_a_fairlearn_frame():
    random = np.random.default_rng(0)
    prompt = random.choice(["a", "b", "c"], 300)
    chance = np.select([prompt == "a", prompt == "b"], [0.9, 0.2], 0.5)
    klass = np.where(random.random(300) < chance, "x", "y")
    frame = MetricFrame(
        metrics=selection_rate,
        y_true=klass == "x",
        y_pred=klass == "x",
        sensitive_features=pandas.Series(prompt, name="prompt"),
    )
    counts = parity.table(prompt.tolist(), klass.tolist(), ["a", "b", "c"], ["x", "y"])
    rates = frame.by_group.loc[["a", "b", "c"]].to_numpy()
    np.testing.assert_allclose(parity.shares(counts)[:, 0], rates, rtol=EXACT)
    assert parity.bias(counts) == pytest.approx(np.abs(2 * rates - 1).mean(), rel=EXACT)


def test_crossed_groups_are_those_of_a_fairlearn_frame():
    random = np.random.default_rng(1)
    one, two = random.choice(["m", "f"], 400), random.choice(["old", "young"], 400, p=[0.2, 0.8])
    frame = MetricFrame(
        metrics={"count": lambda true, estimate: len(true)},
        y_true=np.ones(400),
        y_pred=np.ones(400),
        sensitive_features=pandas.DataFrame({"one": one, "two": two}),
    )
    classes = ["f & old", "f & young", "m & old", "m & young"]
    crossed = parity.crossed(one.tolist(), two.tolist())
    counts = parity.table(["p"] * 400, crossed, ["p"], classes)
    expected = frame.by_group["count"].sort_index().to_numpy(dtype=int)
    assert counts[0].tolist() == expected.tolist()
