"""Export and retention against a real S3 server process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from pyarrow import parquet

from autoscaler.experience import ExperienceStore
from autoscaler.export import export
from autoscaler.housekeeping import keep_house
from autoscaler.settings import OperatorSettings
from nimbusguard.contract.errors import Unavailable
from tests.autoscaler.harness import experience, outcome
from tests.autoscaler.test_export import LATER
from tests.model_store.s3 import s3_environment

pytestmark = pytest.mark.service
BUCKET = "experience-of-the-test"
PLACE = f"s3://{BUCKET}/operators/one"


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_environment() as environ:
        yield environ


@pytest.fixture(autouse=True)
def environment(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in (server | {"AWS_MAX_ATTEMPTS": "1"}).items():
        monkeypatch.setenv(key, value)


@pytest.fixture
def files() -> fsspec.AbstractFileSystem:
    """The storage, seen past the export."""
    fsspec.filesystem("s3").clear_instance_cache()
    s3 = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    if not s3.exists(BUCKET):
        s3.mkdir(BUCKET)
    for path in s3.find(BUCKET):
        s3.rm_file(path)
    return s3


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ExperienceStore]:
    with ExperienceStore(tmp_path / "experience.db") as opened:
        yield opened


def test_experience_arrives_in_a_bucket_once(
    store: ExperienceStore, files: fsspec.AbstractFileSystem
) -> None:
    """Whole files under the prefix, nothing left aside, nothing twice."""
    store.record([experience(number) for number in range(1, 8)])
    store.complete([outcome(3)])

    export(store, PLACE, now_s=LATER, rows_per_file=3)
    assert export(store, PLACE, now_s=LATER) == []

    names = sorted(files.find(f"{BUCKET}/operators"))
    assert [name.rpartition("/")[2] for name in names] == [
        f"experience-{store.id}-000000000001-000000000003.parquet",
        f"experience-{store.id}-000000000004-000000000006.parquet",
        f"experience-{store.id}-000000000007-000000000007.parquet",
    ]
    ids = []
    for name in names:
        with files.open(name) as source:
            ids += parquet.read_table(source).column("decision_id").to_pylist()
    assert ids == [f"d{number}" for number in range(1, 8)]


def test_what_has_arrived_is_removed_when_it_is_old(
    store: ExperienceStore, files: fsspec.AbstractFileSystem
) -> None:
    """The operator's hourly round: first the export, then the retention."""
    day = 86_400.0
    store.record([experience(number, decided_at_s=number * day) for number in range(1, 6)])
    own = OperatorSettings(experience_store=Path("x"), export_to=PLACE, experience_days=2.0)

    keep_house(store, own, 5.5 * day)

    assert len(files.find(f"{BUCKET}/operators")) == 1
    assert store.stats().decisions == 2


def test_nothing_is_removed_while_the_storage_is_away(
    store: ExperienceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not there yet; the next round tries again, and the error is one of ours."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.filesystem("s3").clear_instance_cache()
    store.record([experience(1)])
    own = OperatorSettings(experience_store=Path("x"), export_to=PLACE, experience_days=1.0)

    with pytest.raises(Unavailable, match="expected a place that can be written"):
        keep_house(store, own, LATER)

    assert store.stats().decisions == 1
    store.record([experience(number) for number in range(2, 6_000)])
    with pytest.raises(Unavailable):
        keep_house(store, replace(own, experience_mib=1), LATER)
    assert store.size_bytes <= 2**20  # a full volume would end more than the records
    fsspec.filesystem("s3").clear_instance_cache()
