"""Downloads a missing dataset once, however many processes ask for it, and fails quickly without a network."""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from privsweep.dataset.npz_format import reason, validated, write
from privsweep.dataset.sources import BY_HAND, OFFICIAL
from privsweep.interface.errors import AbsentError
from privsweep.store.locks import locked

ANSWER = 5.0  # seconds that a publisher has to answer
STALL = 30.0  # seconds without a byte after which a download is given up


def absent(name: str, data_dir: Path, failure: str = "") -> str:
    """In one line: that ``data_dir/name.npz`` is missing, why a download failed if one did, and what to do."""
    gone = f"dataset={name}: {data_dir / f'{name}.npz'} is not there"
    if name in BY_HAND:
        return (
            f"{gone} and has no official download; {BY_HAND[name].get} and run "
            f'"privsweep-data {name} --from FOLDER data_dir={data_dir}", or set data_dir'
        )
    if name not in OFFICIAL:
        return f"{gone} and nothing of that name can be downloaded; put it there, or set data_dir"
    failed = f" and the download failed ({failure})" if failure else ""
    return f'{gone}{failed}; run "privsweep-data {name} data_dir={data_dir}" where there is a network, or set data_dir'


def prepared(name: str, data_dir: Path) -> Path:
    """The file ``data_dir/name.npz``, downloaded first when it is missing.

    Raises AbsentError where it cannot be had; nothing is left behind then.
    """
    path = data_dir / f"{name}.npz"
    if path.exists():
        return path
    if name not in OFFICIAL:
        raise AbsentError(absent(name, data_dir))
    if not any(reachable(url) for url in OFFICIAL[name].urls()):
        raise AbsentError(absent(name, data_dir, "no network"))
    try:
        with _alone(path), _stalls_end():
            if not path.exists():
                _fetch(name, path)
    except Exception as error:  # whatever a loader of somebody else's raises
        raise AbsentError(absent(name, data_dir, reason(error))) from error
    return path


def _fetch(name: str, path: Path) -> None:
    # Beside the target, for a temporary folder elsewhere may be a small one in memory.
    with (
        tempfile.TemporaryDirectory(prefix=f".{name}.", dir=path.parent) as folder,
        contextlib.redirect_stdout(sys.stderr),
    ):
        members = OFFICIAL[name].load(Path(folder))
        validated(members, f"dataset={name}: the download")
        write(path, members)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds the lock beside ``path``; makes the folder, and takes it away again where it stays empty."""
    new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    try:
        with locked(lock):
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
    finally:
        if new:
            with contextlib.suppress(OSError):  # not empty: the file is there
                path.parent.rmdir()


@contextlib.contextmanager
def _stalls_end() -> Iterator[None]:
    """The loaders open their connections without a limit of their own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@cache
def reachable(url: str, seconds: float = ANSWER) -> bool:
    """Whether anybody answers at ``url``, through the environment's proxies, within some seconds.

    In a thread, because looking up a name can hang far longer than any timeout of the connection.
    """
    answers: list[bool] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
                answers.append(True)
        except urllib.error.HTTPError:
            answers.append(True)  # somebody answered; the loader says what is wrong
        except Exception:
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answers and answers[0])
