"""Write the files of tests/data/golden with the libraries whose formats they are.

Not part of the tests: it needs `pip install datasets==5.2.0 webdataset==1.0.2`, with which the
files in the repository were made. Run it in this folder.
"""

import shutil
from pathlib import Path

import datasets
import webdataset

from tests.data import tiny_sources as tiny

GOLDEN = Path(__file__).parent / "golden"


def rows() -> datasets.Dataset:
    named = zip(tiny.NAMES, range(len(tiny.NAMES)), strict=True)
    columns = {
        "photo": [{"bytes": tiny.png(number), "path": name} for name, number in named],
        "text": [row["caption"] for row in tiny.ROWS],
        "gender": [row["gender"] for row in tiny.ROWS],
    }
    return datasets.Dataset.from_dict(columns).cast_column("photo", datasets.Image())


def main() -> None:
    shutil.rmtree(GOLDEN, ignore_errors=True)
    made = rows()
    made.save_to_disk(GOLDEN / "saved", num_shards=2)
    datasets.DatasetDict({"train": made}).save_to_disk(GOLDEN / "split")
    for shard in range(2):
        part = made.shard(2, shard, contiguous=True)
        part.to_parquet(GOLDEN / "hub" / "data" / f"train-{shard:05d}-of-00002.parquet")
    shards = str(GOLDEN / "tars" / "%03d.tar")
    (GOLDEN / "tars").mkdir()
    with webdataset.ShardWriter(shards, maxcount=2, verbose=0) as writer:
        for number, row in enumerate(tiny.ROWS):
            caption = {"txt": row["caption"]} if number < 2 else {}
            facts = {"gender": row["gender"], "caption": row["caption"]}
            picture = {"png": tiny.png(number), "json": facts}
            writer.write({"__key__": f"{number:04d}", **picture, **caption})


if __name__ == "__main__":
    main()
