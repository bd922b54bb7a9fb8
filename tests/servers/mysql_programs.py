"""The programs and ready-made data folders of MariaDB and MySQL.

MariaDB is Debian's package mariadb-server. MySQL is in no stable release: `unpack_mysql` takes it from Debian's sid,
which moves. Where that fails there is no MySQL to test with, and `ServerUnavailable` says so.
"""

import functools
import os
import shutil
import subprocess
from pathlib import Path

from tests.servers.cache import build_once, cache_folder
from tests.servers.postgres_programs import hand_over
from tests.servers.process import NOBODY, run

MARIADB = "mariadb"
MYSQL = "mysql"
_UNPACK = Path(__file__).with_name("unpack_mysql")


class ServerUnavailable(Exception):
    """The server's programs cannot be had on this machine."""


def server_command(flavour: str) -> list[str]:
    """Return how the server is called, without its options.

    :raises ServerUnavailable: with the reason, when its programs are not here and cannot be brought
    """
    return _mariadb() if flavour == MARIADB else [str(_mysql() / "mysqld")]


def environment() -> dict[str, str]:
    """Return all that the servers need to find in their environment."""
    return {"PATH": f"{os.defpath}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}


def fresh_data_folder(flavour: str) -> Path:
    """Return a data folder as the server's own program makes it, to be copied: that is faster than making one."""
    folder = cache_folder() / "mysql" / f"data-{_release(flavour)}"
    return build_once(folder, _initialize_mariadb if flavour == MARIADB else _initialize_mysql)


def _mariadb() -> list[str]:
    program = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise ServerUnavailable("mariadbd is missing; run `make setup`, which installs Debian's mariadb-server")
    return [program, "--no-defaults"]


def _mysql() -> Path:
    return build_once(cache_folder() / "mysql" / "sid", _unpack)


@functools.cache
def _failure() -> list[str]:
    """Remember that unpacking failed: a second try would take as long and fail as well."""
    return []


def _unpack(target: Path) -> None:
    if not _failure():
        done = subprocess.run([_UNPACK, target], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        _failure().append(f"MySQL could not be unpacked from Debian's sid:\n{done.stdout}{done.stderr}"[:2000])
    raise ServerUnavailable(_failure()[0])


def _release(flavour: str) -> str:
    told = subprocess.run(
        [*server_command(flavour), "--version"], capture_output=True, text=True, check=True, env=environment()
    ).stdout
    return told.partition("Ver ")[2].split()[0].replace("/", "_")


def _initialize_mariadb(target: Path) -> None:
    _make(target)
    settings = ["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
    user = [] if os.getuid() else [f"--user={_name_of_nobody()}"]
    run(["mariadb-install-db", *settings, *user, f"--datadir={target}"], env=environment())


def _initialize_mysql(target: Path) -> None:
    _make(target)
    settings = ["--initialize-insecure", "--secure-file-priv="]
    run([*server_command(MYSQL), *settings, f"--datadir={target}"], env=environment())


def _make(target: Path) -> None:
    target.mkdir(mode=0o700)
    hand_over(target)


def _name_of_nobody() -> str:
    import pwd  # noqa: PLC0415 - there is none on Windows, where nobody runs this

    return pwd.getpwuid(NOBODY).pw_name
