"""Object Lock and encryption on a real S3 server: winners are locked, losers are not, and a lost lock is found."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any

import fsspec
import pytest
from botocore.exceptions import ClientError

from airflow_dbhygiene.errors import PolicyInvalid
from airflow_dbhygiene.policy import Encryption, ObjectLock, Parquet
from airflow_dbhygiene.steps.abandon import abandon
from airflow_dbhygiene.steps.archive import archive
from airflow_dbhygiene.steps.report import report
from airflow_dbhygiene.steps.site import Site
from airflow_dbhygiene.steps.verify import verify
from airflow_dbhygiene.steps.verify_archive import verify_archive
from airflow_dbhygiene.stores.parquet import ParquetStore
from airflow_dbhygiene.stores.s3 import S3Protection
from tests.job import Job
from tests.servers.s3 import S3Server

LOCK = ObjectLock(mode="compliance", days=2)


@dataclass
class S3Job(Job):
    """The job of the other tests, with its archive in a bucket of its own."""

    server: Any = None
    bucket: str = ""

    @property
    def site(self) -> Site:
        """Let the policy's own lock and encryption take effect."""
        return replace(super().site, open_store=self.open)

    @property
    def files(self) -> Any:
        """Give s3fs at the server."""
        settings = {"key": self.server.access_key, "secret": self.server.secret_key}
        endpoint = {"endpoint_url": self.server.endpoint_url, "skip_instance_cache": True}
        return fsspec.filesystem("s3", **settings, **endpoint)

    def open(self, place: Parquet) -> ParquetStore:
        """Open the bucket as the package does."""
        protection = S3Protection(self.files, self.bucket, place.object_lock, place.encryption)
        return ParquetStore(self.files, self.bucket, url=place.url, protection=protection)


@pytest.fixture
def s3_job(job: Job, s3: S3Server) -> S3Job:
    """Give a job whose archive lies in a bucket with Object Lock."""
    bucket = f"locked-{secrets.token_hex(4)}"
    s3.client().create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    return S3Job(job.dsn, job.folder, server=s3, bucket=bucket)


def retention(job: S3Job, key: str) -> dict[str, Any] | None:
    """Give an object's retention, None when it has none."""
    try:
        found: dict[str, Any] = job.server.client().get_object_retention(Bucket=job.bucket, Key=key)["Retention"]
    except ClientError:
        return None
    return found


def test_what_won_is_locked_and_what_lost_is_not(s3_job: S3Job) -> None:
    """From the verification on; nobody can remove such a version, and the certificate is locked too."""
    policy = s3_job.policy(archive=Parquet(f"s3://aws@{s3_job.bucket}", object_lock=LOCK))
    (ticket, *others) = s3_job.start(policy)
    archive(s3_job.site, ticket.run, ticket.chunk)
    s3_job.execute("UPDATE dbhygiene.chunk SET state = 'damaged' WHERE chunk = 1")
    loser = s3_job.files.find(s3_job.bucket)
    archive(s3_job.site, ticket.run, ticket.chunk)
    (winner,) = set(s3_job.files.find(s3_job.bucket, refresh=True)) - set(loser)
    key = winner.removeprefix(f"{s3_job.bucket}/")
    assert retention(s3_job, key) is None
    verify(s3_job.site, ticket.run, ticket.chunk)
    locked = retention(s3_job, key)
    assert locked is not None
    assert locked["Mode"] == "COMPLIANCE"
    version = s3_job.server.client().head_object(Bucket=s3_job.bucket, Key=key)["VersionId"]
    with pytest.raises(ClientError, match="AccessDenied"):
        s3_job.server.client().delete_object(Bucket=s3_job.bucket, Key=key, VersionId=version)
    certificate = s3_job.finish((ticket, *others))
    assert (certificate["state"], certificate["objects_discarded"]) == ("done", 1)
    assert not set(loser) & set(s3_job.files.find(s3_job.bucket, refresh=True))
    assert retention(s3_job, certificate["certificate"].removeprefix(f"{policy.archive.url}/")) is not None
    assert verify_archive(s3_job.site, policy="events").findings == []


def test_what_is_locked_goes_out_of_sight_where_its_run_is_given_up(s3_job: S3Job) -> None:
    """The version stays until its time is over, behind a marker; nobody finds it by its name."""
    policy = s3_job.policy(archive=Parquet(f"s3://aws@{s3_job.bucket}", object_lock=LOCK))
    (ticket, *_) = s3_job.start(policy)
    archive(s3_job.site, ticket.run, ticket.chunk)
    verify(s3_job.site, ticket.run, ticket.chunk)
    (key,) = (path.partition("/")[2] for path in s3_job.files.find(s3_job.bucket))
    assert retention(s3_job, key) is not None
    certificate = abandon(s3_job.site, ticket.run, "the bucket moves", "ops")
    assert (certificate["state"], certificate["objects_discarded"]) == ("abandoned", 1)
    assert key not in {path.partition("/")[2] for path in s3_job.files.find(s3_job.bucket)}
    assert verify_archive(s3_job.site, policy="events").findings == []


def test_a_lock_that_is_not_there_is_found(s3_job: S3Job) -> None:
    """Written without one, and then called locked: each object is named."""
    certificate = s3_job.run(s3_job.policy(archive=Parquet(f"s3://aws@{s3_job.bucket}")))
    assert verify_archive(s3_job.site, policy="events").findings == []
    site = replace(s3_job.site, open_store=lambda place: s3_job.open(Parquet(place.url, object_lock=LOCK)))
    faults = [each.fault for each in verify_archive(site, policy="events").findings]
    assert faults == ["it is under no Object Lock"] * certificate["objects"]


def test_a_bucket_without_object_lock_is_refused_by_the_plan(s3_job: S3Job, s3: S3Server) -> None:
    """Before anything is archived."""
    s3_job.bucket = s3.bucket
    with pytest.raises(PolicyInvalid, match=r"object_lock: bucket 'cold' has no Object Lock"):
        s3_job.start(s3_job.policy(archive=Parquet("s3://aws@cold", object_lock=LOCK)))


def test_objects_are_encrypted_as_the_policy_says(s3_job: S3Job) -> None:
    """Every object and the certificate; they come back as they were."""
    encryption = Encryption(kind="sse-s3")
    policy = s3_job.policy(archive=Parquet(f"s3://aws@{s3_job.bucket}", encryption=encryption))
    certificate = s3_job.run(policy)
    assert certificate["state"] == "done"
    for path in s3_job.files.find(s3_job.bucket):
        bucket, _, key = path.partition("/")
        assert s3_job.server.client().head_object(Bucket=bucket, Key=key)["ServerSideEncryption"] == "AES256"
    assert report(s3_job.site, certificate["run"]) == certificate


def test_the_key_service_is_asked_by_name() -> None:
    """The request alone: the S3 server of the tests has no key service."""
    files = fsspec.filesystem("s3", anon=True)
    for key_id, more in (("alias/archive", {"SSEKMSKeyId": "alias/archive"}), (None, {})):
        protection = S3Protection(files, "cold", None, Encryption(kind="sse-kms", key_id=key_id))
        assert protection.upload_arguments == {"ServerSideEncryption": "aws:kms", **more}
