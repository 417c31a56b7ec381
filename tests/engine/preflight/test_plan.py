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


def test_the_plan_counts_passes():
    config = configuration.load(
        {
            "sample": {"images_per_prompt": 10, "guidance_scales": [1.0, 2.0], "steps": 5},
            "discover": {"images_per_prompt": 10, "levels": [0.9]},
            "study": {"feature_levels": [0.5]},
        }
    )
    faces = plan.DataSize((2000,) * 4)
    works = {work.stage: work for work in plan.work_plan(config, faces)}
    assert works["sample"].passes == 4 * 10 * 5 * (1 + 1 + 2 + 2)
    compared = 4 * 10 * 4 * 1 * 2  # images, prompts, high levels, draws
    assert works["discover"].passes == 4 * 10 * 1 * 2 * 2 + compared + 4 * 2000
    partly = configuration.load(config.model_dump(), ["sample.strength=0.5"])
    assert plan.work_plan(partly, faces)[2].passes == 4 * 10 * 5 * (1 + 1 + 2 + 2)
    guided = configuration.load(partly.model_dump(), ["study.arms=['guided']"])
    assert plan.work_plan(guided, faces)[2].passes == 4 * 10 * 5 * (1 + 2)
    settled = ["train.steps=10", "train.batch_size=2", "calibrate.strengths=[1.0]"]
    seen = 4 * config.calibrate.images_per_prompt
    drawing = seen * (5 * 2 + 1)  # steps under two conditions, one level of features
    alone = configuration.load(config.model_dump(), [*settled, "train.share_feedback=[]"])
    assert plan.work_plan(alone, faces)[1].passes == 10 * 2 * 3
    looking = configuration.load(
        config.model_dump(), [*settled, "train.share_feedback=[0.5, 0.75]"]
    )
    assert plan.work_plan(looking, faces)[1].passes == 10 * 2 * 3 + 2 * drawing
    assert "for each of 2 mid-training checks" in plan.work_plan(looking, faces)[1].detail
    assert "look" not in plan.work_plan(alone, faces)[1].detail
    plain = configuration.load(looking.model_dump(), ["train.share_feedback_scales=[1.0, 2.5]"])
    assert plan.work_plan(plain, faces)[1].passes == 10 * 2 * 3 + 2 * seen * (5 * 3 + 2)
    assert "1 arm x 2 guidance scales" in plan.work_plan(guided, faces)[2].detail
