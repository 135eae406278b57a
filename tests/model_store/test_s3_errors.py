"""What the failures of S3 mean: the mapping, without a server."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from model_store.s3 import S3Objects
from nimbusguard.contract.errors import InvalidRequest, NimbusGuardError, Unavailable


class Failing:
    """A file system of which every call fails in one way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def fail(*arguments: object, **options: object) -> None:
            raise self._error

        return fail


def translated(code: str, number: int = errno.EIO) -> OSError:
    """An error as s3fs raises it: of the operating system, made of one of S3."""
    error = OSError(number, f"message of {code}")
    error.__cause__ = ClientError({"Error": {"Code": code, "Message": "x"}}, "PutObject")
    return error


def objects_failing(error: Exception) -> S3Objects:
    objects = S3Objects("bucket", "some/prefix")
    objects._files = Failing(error)
    return objects


@pytest.mark.parametrize("code", ["PreconditionFailed", "412", "ConditionalRequestConflict", "409"])
def test_a_failed_condition_means_that_somebody_was_faster(code: str) -> None:
    """Creating reports it as an existing object, replacing as not done."""
    objects = objects_failing(translated(code))

    with pytest.raises(FileExistsError):
        objects.create("key", b"")
    assert objects.replace("key", b"", "tag") is False


def test_an_object_that_went_away_is_not_replaced() -> None:
    """The caller reads again and then creates it."""
    assert objects_failing(FileNotFoundError("key")).replace("key", b"", "tag") is False


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (translated("NotImplemented"), InvalidRequest, "expected a server with conditional writes"),
        (translated("SlowDown", errno.EBUSY), Unavailable, "expected an answer of S3"),
        (TimeoutError("read"), Unavailable, "expected an answer of S3"),
        (EndpointConnectionError(endpoint_url="x"), Unavailable, "expected an answer of S3"),
        (NoCredentialsError(), InvalidRequest, "check the credentials"),
        (PermissionError("Forbidden"), InvalidRequest, "check the credentials"),
    ],
)
def test_other_failures_name_the_store_and_what_to_do(
    error: Exception, kind: type[NimbusGuardError], message: str
) -> None:
    """Every call explains itself alike: try again, or change something first."""
    objects = objects_failing(error)

    for call in (
        lambda: objects.create("key", b""),
        lambda: objects.replace("key", b"", "tag"),
        lambda: objects.delete("key"),
        lambda: objects.read("key"),
        lambda: objects.tag("key"),
        lambda: objects.below("model"),
        objects.folders,
    ):
        with pytest.raises(kind, match=rf"^store s3://bucket/some/prefix: .*{message}"):
            call()


def test_nothing_below_an_address_is_an_empty_store() -> None:
    """A prefix exists as soon as something is written below it."""
    assert objects_failing(FileNotFoundError("prefix")).folders() == []
