from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from privsweep.dataset import download
from privsweep.dataset.download import prepared, reachable
from privsweep.dataset.npz_format import read
from privsweep.dataset.sources import OFFICIAL, Official
from privsweep.interface.errors import UserError

NOWHERE = "http://no-such-host.invalid/x"


@pytest.fixture
def publish(monkeypatch, tmp_path):
    """Replaces the publisher of cifar100 and counts its calls."""
    calls: list[Path] = []

    def go(load, urls=None):
        def counted(folder: Path):
            calls.append(folder)
            (folder / "archive.tar.gz").write_bytes(b"some bytes")
            return load(folder)

        here = tmp_path / "publisher"
        here.touch()
        monkeypatch.setitem(OFFICIAL, "cifar100", Official(counted, lambda: urls or [here.as_uri()]))
        return calls

    return go


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "deep" / "data"


def test_a_file_that_is_there_is_taken_as_it_is(npz, tmp_path, publish):
    calls = publish(lambda _: pytest.fail("asked for"), [NOWHERE])
    path = npz(name="cifar100")
    assert prepared("cifar100", tmp_path) == path
    assert not calls


def test_a_missing_file_is_downloaded_and_nothing_else_stays(publish, data_dir, members):
    publish(lambda _: members())
    path = prepared("cifar100", data_dir)
    assert path == data_dir / "cifar100.npz"
    np.testing.assert_array_equal(read(path, "x").train_images[..., 0], members()["train_images"])
    assert [p.name for p in data_dir.iterdir()] == ["cifar100.npz"]


def test_many_who_ask_at_once_download_once(publish, data_dir, members):
    def slow(_):
        time.sleep(0.2)
        return members()

    calls = publish(slow)
    threads = [threading.Thread(target=prepared, args=("cifar100", data_dir)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert [p.name for p in data_dir.iterdir()] == ["cifar100.npz"]


def test_without_a_network_one_line_says_what_to_do(publish, data_dir):
    calls = publish(lambda _: pytest.fail("tried"), [NOWHERE, NOWHERE])
    with pytest.raises(UserError) as error:
        prepared("cifar100", data_dir)
    assert str(error.value) == (
        f"dataset=cifar100: {data_dir}/cifar100.npz is not there and the download failed (no network); "
        f'run "privsweep-data cifar100 data_dir={data_dir}" where there is a network, or set data_dir'
    )
    assert not calls
    assert not data_dir.exists()


def test_one_of_several_mirrors_is_enough(publish, data_dir, members, tmp_path):
    (tmp_path / "mirror").touch()
    publish(lambda _: members(), [NOWHERE, (tmp_path / "mirror").as_uri()])
    assert prepared("cifar100", data_dir).exists()


def fail(error):
    def load(_):
        raise error

    return load


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    ("load", "says"),
    [
        (fail(RuntimeError("File not found or corrupted.\nmore")), r"\(File not found or corrupted\)"),
        (fail(TimeoutError("timed out")), r"\(timed out\)"),
        (fail(EOFError()), r"\(EOFError\)"),
        (lambda _: {"train_images": np.zeros(3)}, "the download: train_labels, test_images, test_labels missing"),
    ],
)
def test_a_failed_download_is_told_and_leaves_nothing(publish, data_dir, load, says, kept):
    publish(load)
    if kept:
        data_dir.mkdir(parents=True)
    with pytest.raises(UserError, match=f"the download failed .*{says}.*; run ") as error:
        prepared("cifar100", data_dir)
    assert "\n" not in str(error.value)
    assert data_dir.exists() == kept
    assert not kept or not list(data_dir.iterdir())


@pytest.mark.parametrize("fails", [False, True])
def test_a_download_that_stalls_ends_and_other_connections_keep_their_limit(publish, data_dir, members, fails):
    limits = []

    def load(_):
        limits.append(socket.getdefaulttimeout())
        return {} if fails else members()

    publish(load)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(123)
    try:
        with contextlib.suppress(UserError):
            prepared("cifar100", data_dir)
        assert socket.getdefaulttimeout() == 123
    finally:
        socket.setdefaulttimeout(before)
    assert limits == [download.STALL]


def test_an_interrupt_is_no_failed_download(publish, data_dir):
    publish(fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        prepared("cifar100", data_dir)
    assert not data_dir.exists()


def test_a_folder_that_cannot_be_made(publish, tmp_path, members):
    publish(lambda _: members())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"dataset=cifar100: .*, or set data_dir$"):
        prepared("cifar100", tmp_path / "file" / "data")


def test_what_has_no_download_says_how_to_prepare_it(data_dir):
    with pytest.raises(UserError, match=r'"privsweep-data medical_mnist --from FOLDER data_dir=') as error:
        prepared("medical_mnist", data_dir)
    assert "medical_mnist.npz is not there" in str(error.value)


def test_an_unknown_name(data_dir):
    with pytest.raises(UserError, match=r"^dataset=mine: .*mine\.npz is not there and nothing of that name"):
        prepared("mine", data_dir)


def test_a_host_that_never_answers_is_given_up_soon():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        start = time.monotonic()
        assert not reachable(f"http://127.0.0.1:{server.getsockname()[1]}/", seconds=0.3)
        assert time.monotonic() - start < 2


def test_a_name_service_that_hangs_is_given_up_soon(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(1))
    start = time.monotonic()
    assert not reachable("http://somewhere.invalid/", seconds=0.2)
    assert time.monotonic() - start < 0.8


def test_a_refusal_is_an_answer():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert reachable(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()


def test_the_limits_are_a_few_seconds():
    assert download.ANSWER <= 10
    assert download.STALL <= 60
