"""The data of a configuration, opened."""

from invdiff.data.samples import Samples
from invdiff.data.sources import open_samples
from invdiff.engine.settings.common import DataSection


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
