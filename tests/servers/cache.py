"""Where downloaded server programs and ready-made data folders are kept between runs."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[2]


def cache_folder() -> Path:
    """Return `.cache` of the checkout, or a folder under the temporary one where nobody could reach the former.

    PostgreSQL refuses to run as root. Run by root it is started as another user, who cannot enter a checkout that
    lies in root's home.
    """
    folder = PROJECT_ROOT / ".cache"
    if os.getuid() == 0 and not reachable_by_everyone(PROJECT_ROOT):
        folder = Path(tempfile.gettempdir()) / f"airflow-dbhygiene-{os.getuid()}"
    folder.mkdir(mode=0o755, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; remove it or set TMPDIR to a folder of your own")
    return folder


def reachable_by_everyone(path: Path) -> bool:
    """Return whether every user may enter `path` and all folders above it."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """Let `build` fill a new folder that then becomes `target`; do nothing when `target` is there already.

    Test workers race for the same folder: one builds, the others wait for it. An interrupted build leaves no `target`.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(f"{target.name}.lock")):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}-") as building:
                Path(building).chmod(0o755)
                result = Path(building) / target.name
                build(result)
                result.rename(target)
    return target


@contextlib.contextmanager
def _locked(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
