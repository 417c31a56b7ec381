"""The whole method against a closed form: groups found, guidance trained, known answer reached."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from invdiff.core.balancing.certificate import certificate
from invdiff.core.balancing.reweighting import balanced_weights, stable_target
from invdiff.core.diffusion.schedule import add_noise
from tests import witness
from tests.witness import ALIKE, EVEN, PROMPTS, SCHEDULE, SKEWED, UNLIKE

world = functools.cache(witness.data)
inferred = functools.cache(lambda seed: witness.groups(world(seed), seed))


@functools.cache
def trained(seed, target="stable"):
    return witness.train(world(seed), inferred(seed).against, PROMPTS, seed, target=target)


def test_the_formula_is_what_averaging_pictures_gives():
    """Importance sampling over a million pictures, with no formula for the posterior."""
    random = np.random.default_rng(0)
    prior = witness.draw("a", 0.1, 10**6, random, UNLIKE)[0]
    noisy = torch.tensor([[0.3, 0.5], [-0.4, 0.9], [1.5, 0.2]])
    for level in (0.5, 0.8, 0.98):
        timestep = torch.full((3,), SCHEDULE.timestep(level))
        signal, sigma = (factor[0, 0] for factor in SCHEDULE.factors(timestep, noisy))
        away = torch.cdist(noisy, signal * prior, compute_mode="donot_use_mm_for_euclid_dist")
        chance = torch.exp(-away.square() / (2 * sigma**2))
        clean = chance @ prior / chance.sum(1, keepdim=True)
        tokens = witness.condition("a").expand(3, 1, 2)
        exact = witness.Exact(SKEWED, UNLIKE)(noisy, timestep, tokens)
        torch.testing.assert_close(exact, (signal * noisy - clean) / sigma, atol=0.02, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_the_max_step_finds_the_planted_groups(seed):
    found, truth = inferred(seed), world(seed).unusual
    assert all(verdict.found for verdict in found.verdicts.values()), found.verdicts
    assert ((found.against > 0.5) == truth).mean() > 0.99
    assert [v.share for v in found.verdicts.values()] == pytest.approx([0.1, 0.1], abs=0.01)


@pytest.mark.parametrize("seed", range(2))
def test_the_guidance_reaches_the_known_balanced_score(seed):
    base, guided = witness.distance(witness.Exact(SKEWED)), witness.distance(trained(seed))
    message = f"error of the base {base:.3f}, of the guided model {guided:.3f}: {guided / base:.1%}"
    print(message)
    assert guided < 0.15 * base, message  # measured: 0.087, 0.112, 0.099 and 0.107 of it


def test_without_groups_the_guidance_goes_nowhere():
    base = witness.distance(witness.Exact(SKEWED))
    nobody = np.zeros(len(world(0).prompt))
    guided = witness.distance(witness.train(world(0), nobody, (), 0))
    message = f"error of the base {base:.3f}, of the guided model {guided:.3f}: {guided / base:.1%}"
    assert 0.95 * base < guided < 1.05 * base, message  # measured: 0.988 to 1.015


def test_the_stable_target_gets_closer_in_the_same_steps():
    stable, sample = witness.distance(trained(0)), witness.distance(trained(0, target="sample"))
    assert stable < 0.7 * sample, f"{stable:.3f} against {sample:.3f}"  # measured: 0.41 to 0.55


def reached(objective, weight, spread):
    """The error that is left, as a share of the base's, with the true groups."""
    found = world(0, spread=spread)
    model = witness.train(
        found, found.unusual * 1.0, PROMPTS, 0, objective=objective, weight=weight
    )
    return witness.distance(model, spread) / witness.distance(witness.Exact(SKEWED, spread), spread)


def test_equal_losses_are_not_balance_where_groups_are_not_equally_hard():
    """Why the variance is not taken over the raw risks (measured: 0.36 against 0.10)."""
    assert reached("mean", 0.0, UNLIKE) < 0.18
    assert reached("plain", 3.0, UNLIKE) > 0.25


def test_regret_over_the_base_pulls_back_to_the_base():
    """A limit of the objective: at the balanced score the groups' regrets are not equal.

    The unusual group has gained and the usual one lost, so their variance is smallest at the base.
    Here the attribute is half of the picture and regrets are large (measured: 0.52 of the error is
    left against 0.09); a smaller weight costs less.
    """
    little, full = reached("regret", 0.1, ALIKE), reached("regret", 1.0, ALIKE)
    assert little < 0.2, little  # measured: 0.13 and 0.14
    assert 0.4 < full < 0.65, full


# The stable target


def weighted(seed=1, count=60):
    found = witness.data(seed, count)
    rows = found.prompt == "a"
    latents, unusual = found.latents[rows], found.unusual[rows] * 1.0
    weight = balanced_weights(unusual, found.prompt[rows], {"a": np.array([0.5, 0.5])})
    return latents, torch.from_numpy(weight)


def test_the_stable_target_is_the_posterior_mean_by_brute_force():
    latents, weight = weighted()
    random = np.random.default_rng(2)
    noisy = torch.from_numpy(random.normal(size=(12, 2))).float()
    timestep = torch.linspace(1, 999, 12).long()
    target = stable_target(SCHEDULE, noisy, timestep, latents, weight.float().log())
    for row in range(12):
        square = float(SCHEDULE.alphas_cumprod[timestep[row]])
        evidence = [
            np.log(float(w))
            + multivariate_normal.logpdf(noisy[row].double(), np.sqrt(square) * x, 1 - square)
            for w, x in zip(weight, latents.double().numpy(), strict=True)
        ]
        chance = np.exp(np.array(evidence) - max(evidence))
        mean = chance @ latents.double().numpy() / chance.sum()
        assert target[row].numpy() == pytest.approx(mean, abs=2e-4), int(timestep[row])


def test_at_low_noise_the_stable_target_is_the_picture_itself():
    latents, weight = weighted()
    timestep = torch.zeros(len(latents), dtype=torch.long)
    noise = torch.randn(latents.shape)
    noisy = add_noise(SCHEDULE, latents, noise, timestep)
    target = stable_target(SCHEDULE, noisy, timestep, latents, weight.float().log())
    torch.testing.assert_close(target, latents, atol=2e-3, rtol=0)


@pytest.mark.parametrize(("level", "gain"), [(0.3, 1.0), (0.6, 2.0), (0.9, 20.0)])
def test_the_stable_target_keeps_the_gradient_and_lowers_its_variance(level, gain):
    """Gradients of a linear denoiser, draw by draw, against both targets."""
    latents, weight = weighted()
    count = 40_000
    chosen = torch.multinomial(weight, count, replacement=True)
    clean = latents[chosen]
    timestep = torch.full((count,), SCHEDULE.timestep(level))
    noisy = add_noise(SCHEDULE, clean, torch.randn(clean.shape), timestep)
    stable = stable_target(SCHEDULE, noisy, timestep, latents, weight.float().log())
    seen = torch.cat([noisy, torch.ones(count, 1)], 1)
    # A denoiser near the best linear one: what is left in the gradient is the target's noise.
    prediction = seen @ torch.linalg.lstsq(seen, stable).solution + 0.01

    def gradients(target):
        return (2 * (prediction - target)[:, :, None] * seen[:, None]).flatten(1).double()

    sample, calm = gradients(clean), gradients(stable)
    apart = sample - calm
    errors = apart.std(0) / count**0.5
    assert (apart.mean(0).abs() < 4.5 * errors).all(), apart.mean(0) / errors
    assert (calm.var(0) < sample.var(0) / gain).all(), sample.var(0) / calm.var(0)


# The certificate


def risks(model, latents, prompt, seed=3, level=0.8):
    timestep = torch.full((len(latents),), SCHEDULE.timestep(level))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    noisy = add_noise(SCHEDULE, latents, noise, timestep)
    tokens = torch.stack([witness.condition(name) for name in prompt])
    with torch.no_grad():
        return witness.errors(model, noisy, timestep, tokens, latents).double().numpy()


@functools.cache
def certified(guided):
    found = witness.data(5, 4000)
    against = found.unusual * 1.0
    model = trained(0) if guided else witness.Exact(SKEWED)
    losses = risks(model, found.latents, found.prompt)
    return certificate(losses, found.prompt.tolist(), np.stack([1 - against, against], 1))


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_new_pictures_in_any_mixture_stay_below_the_certificate(share_a, share_b, part, guided):
    """Not the formula again: pictures drawn anew, in shares the certificate has not seen."""
    random = np.random.default_rng(6)
    model = trained(0) if guided else witness.Exact(SKEWED)
    counts = {"a": round(part * 1000), "b": 1000 - round(part * 1000)}
    shares = {"a": share_a, "b": share_b}
    latents = torch.cat([witness.draw(p, shares[p], counts[p], random)[0] for p in PROMPTS])
    losses = risks(model, latents, np.repeat(PROMPTS, list(counts.values())), seed=7)
    slack = 4 * losses.std() / len(losses) ** 0.5
    assert losses.mean() < certified(guided)["bound"] + slack


def test_training_lowers_the_certificate():
    before, after = certified(False), certified(True)
    assert after["worst"] < 0.75 * before["worst"]
    assert after["bound"] < 0.75 * before["bound"]
    best = risks(witness.Exact(EVEN), world(0).latents, world(0).prompt)
    assert after["bound"] > best.mean()
