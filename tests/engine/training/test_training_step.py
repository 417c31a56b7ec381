"""What one training step draws, its loss, and what looking back makes of the aims."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from invdiff.core.diffusion.schedule import add_noise
from invdiff.engine.fitting.simple_loop import cosine
from invdiff.engine.settings import config as configuration
from invdiff.engine.settings.method import TrainSection
from invdiff.engine.training import min_step
from invdiff.engine.training.checks import certify
from invdiff.engine.training.min_step import MinStep, step_owner, stratified_levels
from invdiff.engine.training.mixture import Mixture, Regrets
from invdiff.engine.training.train import load_mid_training_check, load_mixture
from invdiff.engine.training.trainer import WARMUP
from invdiff.engine.workflow import session_of
from invdiff.model.lora import adapter
from tests import tiny_world
from tests.tiny_world import COAT, HAT, denoiser


@pytest.fixture
def objective(world, finished, monkeypatch):
    """The objective of the tiny model with a fresh adapter, which is taken out again."""
    monkeypatch.setattr(min_step, "VARIANCE_WARMUP", 1)
    made = []

    def make(*overrides):
        run = world.open(finished)
        model = denoiser(world)
        adapter.add_lora(model.module, 2, seed=1)
        made.append(model.module)
        config = world.config(*overrides)
        return MinStep(config, model, load_mixture(session_of(run)))

    yield make
    for module in made:
        adapter.remove(module)


def loss(at_work, step):
    return at_work.errors(at_work.batch(step), 0).mean()


def test_only_the_adapter_gets_gradients(objective):
    at_work = objective()
    module = at_work.denoiser.module
    loss(at_work, 0).backward()
    own = {id(tensor) for tensor in adapter.parameters(module)}
    with_gradient = {id(t) for t in module.parameters() if t.grad is not None}
    assert with_gradient == own
    assert list(at_work.denoiser.held) == ["denoiser"], "the encoders are not in memory"


@pytest.mark.parametrize(("name", "space"), [("regret", "v"), ("reference", "epsilon")])
def test_the_loss_is_the_plain_denoising_loss_with_a_sampled_target(objective, name, space):
    """An independent witness: the squared error of what is predicted, in each space."""
    at_work = objective(
        "study.target='sample'", f"study.objective='{name}'", "train.batch_size=6",
        "train.variance_weight=0",
    )  # fmt: skip
    at_work.others[:] = False
    config, model, mixture = at_work.config, at_work.denoiser, at_work.mixture
    owner = step_owner(0, 3)
    weights = mixture.weights(at_work.regrets, 0.0, {})
    chosen = torch.multinomial(weights, 6, replacement=True, generator=owner)
    level = stratified_levels(6, config.study.level_focus, owner)
    timestep = (level * 999).round().long()
    dropped = torch.rand(6, generator=owner) < config.train.prompt_dropout
    clean = mixture.latents[chosen]
    noise = torch.randn(clean.shape, generator=owner)
    names = ["" if d else mixture.prompt[i] for i, d in zip(chosen, dropped, strict=True)]
    noisy = add_noise(model.schedule, clean, noise, timestep)
    condition = model.encode_prompts(names)
    with torch.no_grad():
        v = model.predict(noisy, timestep, condition)
    square = model.schedule.alphas_cumprod[timestep].view(-1, 1, 1, 1)
    a, s = square.sqrt(), (1 - square).sqrt()
    error = {
        "v": v - (a * noise - s * clean),
        "epsilon": (a * v + s * noisy) - noise,
    }[space]
    expected = error.square().mean()
    torch.testing.assert_close(loss(at_work, 3).detach(), expected, rtol=2e-3, atol=1e-6)


def test_step_n_draws_what_belongs_to_step_n(objective):
    at_work = objective("train.variance_weight=0")
    first = loss(at_work, 4).item()
    loss(at_work, 0)
    assert loss(at_work, 4).item() == first
    assert loss(at_work, 5).item() != first


def look_at(at_work, batch):
    """As a step does: the errors of its parts come first."""
    for part in range(len(batch.parts)):
        at_work.errors(batch, part)
    at_work.update_risks(batch, 0)


def test_the_regret_of_a_fresh_adapter_is_zero(objective):
    at_work = objective("train.prompt_dropout=0.0")
    look_at(at_work, at_work.batch(0))
    seen = at_work.regrets.value[np.isfinite(at_work.regrets.value)]
    assert len(seen) > 0
    assert (seen == 0).all()


def test_plain_risks_are_not_regrets(objective):
    at_work = objective("study.objective='plain'")
    look_at(at_work, at_work.batch(0))
    seen = at_work.regrets.value[np.isfinite(at_work.regrets.value)]
    assert (seen > 0).all()


def test_groups_are_drawn_evenly_within_a_balanced_prompt(objective, finished):
    at_work = objective()
    mixture = at_work.mixture
    weights = mixture.weights(at_work.regrets, 1.0, {}).numpy()
    for name in mixture.balanced:
        rows = mixture.prompt == name
        mass = weights[rows] @ mixture.against[rows] / weights[rows].sum()
        assert mass == pytest.approx(0.5, abs=1e-4)
    groups = tiny_world.table(finished / "groups.parquet")
    np.testing.assert_allclose(weights, groups["weight"], rtol=1e-5)


def test_the_weights_follow_the_certainty_of_the_settings(world, finished, objective):
    """As discovery writes them, and as training draws: both read the setting."""
    run = world.open(finished)
    assert run.config.study.certainty == 4
    mixture = load_mixture(session_of(run))
    assert mixture.certainty == 4
    soft = replace(mixture, against=mixture.against.clip(0.2, 0.8))
    regrets = objective().regrets
    plain = replace(soft, certainty=1.0).weights(regrets, 0.0)
    assert not np.allclose(soft.weights(regrets, 0.0), plain, rtol=0.1)


# Looking back


@pytest.mark.parametrize(
    ("settings", "scale"),
    [("train.share_feedback_scales=[1.0,2.5]", 1.75), ("train.share_feedback=[]", 2.5)],
)
def test_training_starts_towards_what_guidance_makes_the_wanted_mix(objective, settings, scale):
    """In the model the odds are those wanted to the power 1 / scale; even ones are left alone."""
    even = objective("calibrate.guidance_scale=2.5", settings)
    assert even.aims == {}
    mixture = replace(even.mixture, wanted=0.3, balanced=(HAT,), monitored=(HAT, COAT))
    uneven = MinStep(even.config, even.denoiser, mixture)
    aim = expit(logit(0.3) / scale)
    assert uneven.aims == {HAT: pytest.approx(aim), COAT: pytest.approx(aim)}
    weights = mixture.weights(uneven.regrets, 0.0, uneven.aims).numpy()
    rows = mixture.prompt == COAT
    assert weights[rows] @ mixture.against[rows] / weights[rows].sum() == pytest.approx(
        aim, abs=1e-3
    )


def test_a_prompt_that_was_even_is_looked_back_at(world, finished, objective):
    """Training can tilt it; only prompts whose groups mean nothing are left out."""
    one = objective("calibrate.images_per_prompt=2")
    one.mixture = replace(one.mixture, balanced=(HAT,), monitored=(HAT, COAT))
    one.share_feedback(load_mid_training_check(session_of(world.open(finished))), step=1)
    assert set(one.aims) == {HAT, COAT}


def test_pictures_of_every_scale_correct_the_aims(world, finished, objective, monkeypatch):
    """The scales of the settings, each with pictures of its own; the calibration's without any."""
    asked = []

    def drawn(*_, scale, owner, **__):
        asked.append((scale, owner))
        of_group_1 = {1.0: 20, 2.5: 25, 3.0: 45}[scale]
        return {HAT: np.where(np.arange(50) < of_group_1, 9.0, -9.0)}

    monkeypatch.setattr("invdiff.engine.training.checks.log_ratios", drawn)
    one, aims = objective("calibrate.guidance_scale=2.5"), {}
    one.mixture = replace(one.mixture, monitored=(HAT,))
    for scales in ("[]", "[1.0]", "[3.0]", "[1.0,3.0]"):
        chosen = [f"train.share_feedback_scales={scales}"]
        one.config = configuration.load(one.config.model_dump(), chosen)
        one.aims = {}
        one.share_feedback(load_mid_training_check(session_of(world.open(finished))), step=7)
        aims[scales] = one.aims[HAT]
    assert [scale for scale, _ in asked] == [2.5, 1.0, 3.0, 1.0, 3.0]
    assert one.mid_training_checks[-1]["guidance_scales"] == [1.0, 3.0]
    assert np.array(one.mid_training_checks[-1]["shares"][HAT])[:, 1].round(2).tolist() == [
        0.4,
        0.9,
    ]
    assert len({owner for _, owner in asked}) == 3
    assert aims["[3.0]"] < aims["[1.0,3.0]"] < 0.5 < aims["[1.0]"]


def test_no_look_back_comes_too_late_to_be_learnt():
    """Under the cosine schedule 1 % of the learning is still to come after 80 % of the steps."""
    section = TrainSection()
    rates = [cosine(step, section.steps, warmup=WARMUP) for step in range(section.steps)]
    left = [
        sum(rates[round(share * section.steps) :]) / sum(rates) for share in section.share_feedback
    ]
    assert section.share_feedback
    assert min(left) > 0.05


# Small parts


def test_the_certificate_of_a_fresh_adapter_is_the_same_before_and_after(objective):
    at_work = objective()
    found = certify(at_work.config, at_work.denoiser, at_work.mixture)
    assert found["before"] == found["after"]


def test_levels_are_stratified():
    levels = stratified_levels(8, 1.0, step_owner(0, 0)).sort().values
    assert (levels * 8).floor().tolist() == list(range(8))
    focused = stratified_levels(4096, 2.0, step_owner(0, 0))
    assert focused.mean().item() == pytest.approx(2 / 3, abs=1e-3)  # density 2 level


def test_a_group_that_was_not_seen_has_no_regret():
    regrets = Regrets((HAT, COAT))
    regrets.update(np.array([1.0, 3.0]), np.array([HAT, HAT]), np.array([0.0, 0.0]))
    assert regrets.value[0, 0] == 2.0
    assert np.isnan([regrets.value[0, 1], *regrets.value[1]]).all()
    regrets.update(np.array([4.0]), np.array([HAT]), np.array([0.0]))
    assert regrets.value[0, 0] == pytest.approx(0.9 * 2 + 0.1 * 4)


def test_the_stable_target_of_one_latent_is_that_latent(world):
    latents = torch.randn(1, 4, 2, 2).expand(5, -1, -1, -1).contiguous()
    prompt = np.array([HAT] * 5)
    mixture = Mixture(latents, prompt, prompt, np.zeros(5), ())
    schedule, noisy = denoiser(world).schedule, torch.randn(3, 4, 2, 2)
    target = mixture.target(
        schedule, noisy, torch.tensor([10, 500, 999]), torch.tensor([0, 1, 2]),
        torch.tensor([False, True, False]), torch.ones(5), step_owner(0, 0),
    )  # fmt: skip
    torch.testing.assert_close(target, latents[:3])
