"""The data of a configuration, opened."""

from invdiff.data.samples import Samples
from invdiff.data.sources import open_samples
from invdiff.engine.base_model.loading import resolve
from invdiff.engine.encoding.session import source_of
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.settings.common import DataSection
from invdiff.engine.storage.files import write_json


def open_data(section: DataSection, image_size: int) -> Samples:
    """The samples that the settings name, at a size; every stage opens the same ones."""
    return open_samples(
        section.path,
        image_size,
        prompt_column=section.prompt_column,
        max_bad_share=section.max_bad_share,
        group_column=section.group_column,
        quarantine=section.quarantine,
    )


def open_run_samples(run: RunFolder) -> Samples:
    """The run's data at the model's image size; what was left out goes to ``quarantine.json``."""
    section = run.config.data
    size = section.image_size or resolve(source_of(run)).image_size
    samples = open_data(section, size)
    if samples.quarantined:
        write_json(run.path / "quarantine.json", samples.quarantined)
    return samples
