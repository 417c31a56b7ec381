"""The work that a plan names is the work that is then done."""

import pytest

from invdiff.engine.discovery.discover import discover
from invdiff.engine.preflight import plan
from invdiff.engine.settings import config as configuration
from invdiff.engine.workflow import session_of
from tests.engine.preflight.captioned import write_captioned
from tests.tiny_world import COAT, HAT, World

AUTO = ("study.estimator='auto'",)
ORACLE = ("study.estimator='labels'", "data.label_column='caption'")


@pytest.fixture(scope="module")
def captioned(tmp_path_factory):
    """Two prompts to look at, and one with too few pictures."""
    captions = [HAT] * 46 + [COAT] * 41 + ["a scarf"] * 3
    return write_captioned(tmp_path_factory.mktemp("data") / "own", captions)


@pytest.mark.parametrize("asked", [AUTO, (*AUTO, "data.min_images=43"), ORACLE])
def test_discovery_does_the_passes_of_its_plan(world, captioned, asked, tmp_path):
    levels = "discover.levels=[0.95, 0.9, 0.5]"
    run = World(world.model, captioned).open(tmp_path / "run", levels, *asked)
    (planned, *_) = plan.work_plan(run.config, plan.data_size(run.config.data))
    session, done = session_of(run), []
    count = session.denoiser.module.register_forward_pre_hook(
        lambda _, given: done.append(len(given[0]))
    )
    with count:
        discover(session)
    assert sum(done) == planned.passes


def test_the_plan_is_of_all_of_the_data(captioned):
    section = configuration.load({"data": {"path": str(captioned)}}).data
    assert sorted(plan.data_size(section).pictures) == [3, 41, 46]
    assert plan.data_size(section).exact
    grouped = section.model_copy(update={"prompt_groups": "meaning"})
    assert str(plan.data_size(grouped)) == "90 pictures of at most 2 prompts"


def test_guidance_that_is_an_input_takes_one_pass():
    config = configuration.preset("flux")
    size = plan.DataSize((600,))
    two, one = (plan.work_plan(config, size, one_pass=flag) for flag in (False, True))
    sampled = 2 * 64 * 30  # arms, images, steps
    assert [work.passes for work in (one[2], two[2])] == [sampled, 2 * sampled]
    assert one[0] == two[0]
    assert one[1].passes < two[1].passes
