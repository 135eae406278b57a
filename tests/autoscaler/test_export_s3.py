"""Export and retention against a real S3 server process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
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

pytestmark = pytest.mark.service
BUCKET = "experience-of-the-test"
PLACE = f"s3://{BUCKET}/operators/one"
SERVER = Path(__file__).parents[1] / "model_store/s3_server.py"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def environment(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the AWS libraries read from the environment; nothing of this machine's."""
    for key, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "tester",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "NO_PROXY": "127.0.0.1",
    }.items():
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
    own = OperatorSettings(export_to=PLACE, experience_days=2.0)

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
    own = OperatorSettings(export_to=PLACE, experience_days=1.0)

    with pytest.raises(Unavailable, match="expected a place that can be written"):
        keep_house(store, own, LATER)

    assert store.stats().decisions == 1
    fsspec.filesystem("s3").clear_instance_cache()
