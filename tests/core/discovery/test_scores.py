"""A score belongs to the image alone, cancels where it should, and knows how reliable it is."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invdiff.core.diffusion.losses import latent_loss, score_batch
from invdiff.core.diffusion.schedule import Schedule, add_noise
from invdiff.core.discovery.scores import Scores, reliability

SCHEDULE = Schedule(torch.linspace(0.999, 0.01, 100), "v")
COUNT, SHAPE, WIDTH = 6, (2, 4, 4), 3


def made_up(seed=0):
    owner = torch.Generator().manual_seed(seed)
    latents = torch.randn((COUNT, *SHAPE), generator=owner)
    tokens = torch.randn((COUNT, 2, WIDTH), generator=owner)
    null = torch.randn((1, 2, WIDTH), generator=owner)
    noise = torch.randn((1, *SHAPE), generator=owner)
    return latents, tokens, null, noise


def denoiser(noisy, timestep, tokens):
    """Any function of the three, image by image."""
    pull = tokens.mean((1, 2)).view(-1, 1, 1, 1)
    return torch.tanh(noisy * pull + timestep.view(-1, 1, 1, 1) / 100)


def score(rows, level=0.8, model=denoiser):
    latents, tokens, null, noise = made_up()
    both = torch.cat([tokens[rows], null.expand_as(tokens[rows])])
    return score_batch(model, SCHEDULE, latents[rows], both, noise, level)


@given(st.permutations(range(COUNT)), st.integers(1, COUNT))
def test_a_score_does_not_depend_on_the_rest_of_the_batch(order, size):
    own, null = score(list(range(COUNT)))
    some = list(order)[:size]
    own_again, null_again = score(some)
    torch.testing.assert_close(own_again, own[some])
    torch.testing.assert_close(null_again, null[some])


def test_the_two_losses_are_those_of_the_two_conditions():
    latents, tokens, null, noise = made_up()
    own, nobody = score(list(range(COUNT)))
    timestep = torch.full((COUNT,), SCHEDULE.timestep(0.8))
    noisy = add_noise(SCHEDULE, latents, noise.expand_as(latents), timestep)
    for found, condition in ((own, tokens), (nobody, null.expand_as(tokens))):
        prediction = denoiser(noisy, timestep, condition)
        wanted = latent_loss(SCHEDULE, prediction, noisy, latents, timestep)
        torch.testing.assert_close(found, wanted)
    assert not torch.allclose(own, nobody)


def test_the_loss_is_that_of_v_averaged_over_dimensions():
    latents, tokens, _, noise = made_up()
    timestep = torch.full((COUNT,), 70)
    noisy = add_noise(SCHEDULE, latents, noise.expand_as(latents), timestep)
    square = SCHEDULE.alphas_cumprod[70]
    v = square.sqrt() * noise - (1 - square).sqrt() * latents
    prediction = denoiser(noisy, timestep, tokens)
    wanted = (prediction - v).square().mean((1, 2, 3))
    torch.testing.assert_close(
        latent_loss(SCHEDULE, prediction, noisy, latents, timestep), wanted, rtol=1e-4, atol=1e-5
    )


def test_both_conditions_go_through_the_model_in_one_pass_without_gradients():
    passes = []

    def monitored(noisy, timestep, tokens):
        passes.append(len(noisy))
        assert not torch.is_grad_enabled()
        return denoiser(noisy, timestep, tokens)

    score([0, 1, 2], model=monitored)
    assert passes == [6]


def test_the_excess_is_zero_where_the_prompt_is_the_null_prompt():
    latents, _, null, noise = made_up()
    same = null.expand(2 * COUNT, -1, -1)
    own, nobody = score_batch(denoiser, SCHEDULE, latents, same, noise, 0.5)
    excess = Scores(own.numpy()[:, None, None], nobody.numpy()[:, None, None]).excess
    assert not excess.any()


def test_how_complicated_a_picture_is_cancels_in_the_excess():
    random = np.random.default_rng(0)
    helped, complexity = random.normal(size=(2, 50, 2, 2))
    found = Scores(complexity * 100 + helped, complexity * 100)
    np.testing.assert_allclose(found.excess, helped, atol=1e-10)


# Reliability

PROMPT = np.repeat(["a", "b"], 200)


def repeated(noise, draws=4, seed=0):
    random = np.random.default_rng(seed)
    truth = random.normal(size=(400, 3, 1))
    return truth + noise * random.normal(size=(400, 3, draws))


def test_scores_without_noise_are_fully_reliable():
    assert reliability(repeated(0.0), PROMPT) == pytest.approx(1.0)


def test_pure_noise_is_not_reliable():
    noise = np.random.default_rng(1).normal(size=(400, 3, 4))
    assert np.abs(reliability(noise, PROMPT)).max() < 0.25


@pytest.mark.parametrize("draws", [2, 4, 8])
def test_reliability_is_the_share_of_the_mean_score_that_is_not_noise(draws):
    """Spearman and Brown: 1 / (1 + noise / draws) for a truth of variance 1."""
    found = reliability(repeated(1.0, draws), PROMPT)
    assert found == pytest.approx(1 / (1 + 1 / draws), abs=0.08)


def test_a_difference_between_prompts_is_no_reliability():
    noise = np.random.default_rng(1).normal(size=(400, 3, 4))
    noise[PROMPT == "b"] += 100
    assert np.abs(reliability(noise, PROMPT)).max() < 0.25


def test_one_draw_says_nothing_about_reliability():
    assert np.isnan(reliability(repeated(0.0, draws=1), PROMPT)).all()


def test_halves_that_contradict_each_other_stay_finite():
    score = repeated(0.0, draws=2)
    score[:, :, 1] *= -1
    found = reliability(score, PROMPT)
    assert np.isfinite(found).all()
    assert (found < -1).all()
