"""Where the files of a data set come from, and what can go wrong on the way.

Faults are made by a server on this machine; nothing outside is reached.
"""

import builtins
import contextlib
import gc
import hashlib
import http.server
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pooch
import pytest
import requests

from lstm_lib import datasets
from lstm_lib.datasets import DataNotFoundError, File, Info, fetch, parsers, registry

BODIES = {"tiny/a.txt": random.Random(0).randbytes(300_000), "tiny/b.txt": b"short"}
A, B = BODIES
HEADER = "HTTP/1.1 {} x\r\nConnection: close\r\n"

# Runs in a process of its own: loads the set that argv describes, prints the hash of what came.
CHILD = """
import hashlib, json, sys
from lstm_lib.datasets import File, Info, load, parsers, registry
set_ = json.loads(sys.argv[1])
files = tuple(File(**file) for file in set_.pop("files"))
registry.SETS["tiny"] = Info(**set_, files=files)
parsers.PARSERS["tiny"] = lambda files: files
print(hashlib.sha256(b"".join(load("tiny", quiet=True).values())).hexdigest())
"""


class Server(http.server.ThreadingHTTPServer):
    """Answers each path by the next of its `plans`, the last one for ever."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plans = {f"/{path}": [complete] for path in BODIES}
        self.requests = []
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self):
        self.shutdown()
        self.server_close()
        self.thread.join()

    def plan(self, path, *answers):
        self.plans[f"/{path}"] = list(answers)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with self.server.lock:
            self.server.requests.append(self.path)
            answers = self.server.plans[self.path]
            answer = answers[0] if len(answers) == 1 else answers.pop(0)
        self.close_connection = True
        answer(self, BODIES[self.path[1:]])

    def send(self, status, size=None):
        length = "" if size is None else f"Content-Length: {size}\r\n"
        self.wfile.write((HEADER.format(status) + length + "\r\n").encode())

    def log_message(self, *args):
        pass


def complete(handler, body):
    handler.send(200, len(body))
    handler.wfile.write(body)


def without_length(handler, body):
    handler.send(200)
    handler.wfile.write(body)


def truncated(handler, body):
    handler.send(200, len(body))
    handler.wfile.write(body[: len(body) // 2])


def truncated_without_length(handler, body):
    handler.send(200)
    handler.wfile.write(body[: len(body) // 2])


def dropped(handler, body):
    handler.send(200, len(body))
    handler.wfile.write(body[: len(body) // 2])
    # Reset, instead of an orderly end.
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def wrong_bytes(handler, body):
    complete(handler, body[:-1] + bytes([body[-1] ^ 1]))


def page(handler, body):
    complete(handler, b"<html>Please log in</html>")


def status(code):
    def answer(handler, body):
        handler.send(code, 0)

    answer.__name__ = f"status_{code}"
    return answer


FAULTS = [
    truncated,
    truncated_without_length,
    dropped,
    wrong_bytes,
    page,
    status(404),
    status(500),
]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the user's, and no folder of the user's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.delenv("LSTM_BOOK_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(datasets, "_shown", set())
    folder = pooch.os_cache("lstm-book")
    assert folder.is_relative_to(tmp_path)
    return folder


@pytest.fixture
def server(cache, monkeypatch):
    """A server that has the data set "tiny"."""
    server = Server()
    add_tiny(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield server
    server.close()
    gc.collect()  # a connection left open shows as a ResourceWarning of this test


@pytest.fixture
def offline(cache, monkeypatch):
    """The data set "tiny" on a port where nobody listens."""
    with socket.socket() as taken:  # bound, so that no other test gets it
        taken.bind(("127.0.0.1", 0))
        add_tiny(monkeypatch, f"http://127.0.0.1:{taken.getsockname()[1]}")
        yield


@pytest.fixture
def no_wait(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def add_tiny(monkeypatch, address):
    files = [
        File(path, f"{address}/{path}", hashlib.sha256(body).hexdigest(), len(body))
        for path, body in BODIES.items()
    ]
    tiny = Info("tiny", "test", address, "MIT", True, "Nobody (1900)", "", {}, tuple(files))
    monkeypatch.setitem(registry.SETS, "tiny", tiny)
    monkeypatch.setitem(parsers.PARSERS, "tiny", lambda files: files)


def start_child():
    tiny = registry.SETS["tiny"]
    described = vars(tiny) | {"files": [vars(file) for file in tiny.files]}
    command = [sys.executable, "-W", "error", "-c", CHILD, json.dumps(described)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def loaded():
    """Load the set, and see that it is what it should be."""
    assert datasets.load("tiny") == {"a.txt": BODIES[A], "b.txt": BODIES[B]}


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def put(folder, **bodies):
    for path, body in (BODIES | bodies).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)
    return folder


def test_downloaded_once_then_taken_from_the_cache(server, cache):
    loaded()
    assert content(cache) == BODIES
    loaded()
    assert server.requests == [f"/{A}", f"/{B}"]
    assert sorted(path.name for path in cache.iterdir()) == ["tiny"]


def test_a_server_that_does_not_say_the_length(server):
    server.plan(A, without_length)
    loaded()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_tried_again_after_a_fault(server, cache, fault, no_wait):
    server.plan(A, *[fault] * fetch.RETRIES, complete)
    loaded()
    assert server.requests == [f"/{A}"] * (fetch.RETRIES + 1) + [f"/{B}"]
    assert content(cache) == BODIES


def test_tried_again_when_a_server_falls_silent(server, cache, no_wait, monkeypatch):
    go_on = threading.Event()

    def silent(handler, body):
        handler.send(200, len(body))
        handler.wfile.write(body[: len(body) // 2])
        go_on.wait(60)

    monkeypatch.setattr("pooch.downloaders.DEFAULT_TIMEOUT", 0.5)
    server.plan(A, silent, complete)
    loaded()
    go_on.set()
    assert server.requests == [f"/{A}"] * 2 + [f"/{B}"]
    assert content(cache) == BODIES


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_given_up_after_some_tries_and_nothing_kept(server, cache, fault, no_wait):
    server.plan(B, fault)
    with pytest.raises(DataNotFoundError, match="'tiny'.* could not be downloaded") as caught:
        datasets.load("tiny")
    assert B in str(caught.value) and A not in str(caught.value)
    assert server.requests.count(f"/{B}") == fetch.RETRIES + 1
    assert content(cache) == {A: BODIES[A]}
    assert [path.name for path in cache.iterdir()] == ["tiny"]
    # What was downloaded well is not asked for again.
    server.plan(B, complete)
    loaded()
    assert server.requests.count(f"/{A}") == 1


def test_the_error_says_all_that_is_needed(offline, cache, no_wait):
    with pytest.raises(FileNotFoundError) as caught:
        datasets.load("tiny")
    message = str(caught.value)
    for part in ("'tiny' (300,005 bytes)", "LSTM_BOOK_DATA", "Connection refused"):
        assert part in message
    for file in registry.SETS["tiny"].files:
        assert f"{file.url} ({file.bytes:,} bytes)\n    as {cache}/{file.path}\n" in message
    # Without the pages of a failed connection's traceback.
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_the_error_lists_only_what_is_missing(offline, cache, tmp_path, monkeypatch, no_wait):
    folder = put(tmp_path / "data")
    (folder / B).unlink()
    monkeypatch.setenv("LSTM_BOOK_DATA", str(folder))
    with pytest.raises(DataNotFoundError) as caught:
        datasets.load("tiny")
    assert f"as {folder / B}\n" in str(caught.value)
    assert "a.txt" not in str(caught.value)


def test_following_the_error_helps(offline, cache, no_wait):
    with pytest.raises(DataNotFoundError):
        datasets.load("tiny")
    put(cache)
    loaded()


@pytest.mark.parametrize("wrong", [b"", BODIES[A][:-1], BODIES[A][:-1] + b"?"])
def test_a_corrupt_file_in_the_cache_is_downloaded_again(server, cache, wrong):
    put(cache, **{A: wrong})
    loaded()
    assert server.requests == [f"/{A}"]
    assert content(cache) == BODIES


def test_a_corrupt_file_in_the_cache_is_not_used_offline(offline, cache, no_wait):
    put(cache, **{A: BODIES[A][:-1] + b"?"})
    with pytest.raises(DataNotFoundError, match="could not be downloaded"):
        datasets.load("tiny")


def test_a_cache_that_cannot_be_written(server, tmp_path):
    (tmp_path / "caches").write_text("a file where the folder should be")
    with pytest.raises(DataNotFoundError, match="Not a directory|File exists"):
        datasets.load("tiny")


def test_an_interrupted_download_leaves_nothing(server, cache, monkeypatch):
    whole = requests.Response.iter_content

    def interrupted(self, chunk_size):
        yield next(whole(self, chunk_size))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(requests.Response, "iter_content", interrupted)
        with pytest.raises(KeyboardInterrupt):
            datasets.load("tiny")
    assert content(cache) == {}
    loaded()


def test_a_killed_download_is_never_used(server, cache):
    half_sent, go_on = threading.Event(), threading.Event()

    def stalled(handler, body):
        handler.send(200, len(body))
        handler.wfile.write(body[:200_000])
        half_sent.set()
        go_on.wait(60)

    server.plan(A, stalled, complete)
    child = start_child()
    assert half_sent.wait(60)
    # Wait until some of it is on the disk.
    deadline = time.monotonic() + 60
    while not any(content(cache).values()):
        assert time.monotonic() < deadline
    child.send_signal(signal.SIGKILL)
    child.communicate()
    go_on.set()
    left = content(cache)
    assert A not in left and any(0 < len(body) < len(BODIES[A]) for body in left.values())
    loaded()
    assert server.requests.count(f"/{A}") == 2


def test_two_processes_at_once(server, cache):
    """Both ask before either is answered, and get the same file slowly, in steps."""
    both = threading.Barrier(2)

    def slowly(handler, body):
        handler.send(200, len(body))
        for start in range(0, len(body), 50_000):
            both.wait(60)
            handler.wfile.write(body[start : start + 50_000])

    for path in BODIES:
        server.plan(path, slowly)
    children = [start_child(), start_child()]
    expected = hashlib.sha256(b"".join(BODIES.values())).hexdigest()
    for child in children:
        out, err = child.communicate(timeout=120)
        assert (out.strip(), err, child.returncode) == (expected, "", 0)
    assert sorted(server.requests) == [f"/{A}"] * 2 + [f"/{B}"] * 2
    assert content(cache) == BODIES
    assert [path.name for path in cache.iterdir()] == ["tiny"]


def test_a_process_never_sees_half_of_anothers_file(server, cache, monkeypatch):
    """While one downloads, the file is absent in the cache; then it is whole at once."""
    seen = []
    replace = os.replace

    def watched(handler, body):
        handler.send(200, len(body))
        for start in range(0, len(body), 10_000):
            handler.wfile.write(body[start : start + 10_000])
            seen.append(content(cache).get(A))

    def watched_replace(source, target):
        seen.append(content(cache).get(A))
        replace(source, target)
        seen.append(content(cache).get(A))

    monkeypatch.setattr(os, "replace", watched_replace)
    server.plan(A, watched)
    loaded()
    whole = seen.index(BODIES[A])
    assert whole > 1 and set(seen[:whole]) == {None} and set(seen[whole:]) == {BODIES[A]}


def test_progress_is_shown(server, capfd):
    loaded()
    out, err = capfd.readouterr()
    for path in BODIES:
        assert re.search(rf"{path}: 100%\|", err)
    assert "download-" not in err
    assert out == "tiny: Nobody (1900). Licence: MIT. Local use only: do not pass it on.\n"


def test_quiet_is_silent(server, capfd):
    datasets.load("tiny", quiet=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("answer", [complete, page], ids=lambda answer: answer.__name__)
def test_poochs_logger_is_left_as_it_was(server, answer, monkeypatch, no_wait):
    monkeypatch.setattr(pooch.get_logger(), "level", 17)
    server.plan(B, answer)
    with contextlib.suppress(DataNotFoundError):
        datasets.load("tiny")
    assert pooch.get_logger().level == 17


def test_the_notice_is_shown_once(server, capfd):
    datasets.load("tiny", quiet=True)  # does not count as shown
    capfd.readouterr()
    datasets.load("tiny")
    assert capfd.readouterr() == (registry.SETS["tiny"].notice + "\n", "")
    datasets.load("tiny")
    assert capfd.readouterr() == ("", "")


def test_the_users_folder_comes_first_and_is_left_alone(server, cache, tmp_path, monkeypatch):
    folder = put(tmp_path / "data")
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    monkeypatch.setenv("LSTM_BOOK_DATA", str(folder))
    loaded()
    assert server.requests == [] and not cache.exists()
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before


@pytest.mark.parametrize("wrong", [b"", BODIES[B] + b"?", b"shorT"])
def test_a_wrong_file_in_the_users_folder_is_an_error(server, cache, tmp_path, monkeypatch, wrong):
    folder = put(tmp_path / "data", **{B: wrong})
    (folder / A).unlink()
    put(cache)
    monkeypatch.setenv("LSTM_BOOK_DATA", str(folder))
    with pytest.raises(ValueError) as caught:
        datasets.load("tiny")
    for part in (folder / B, f"5 bytes with SHA-256 {hashlib.sha256(b'short').hexdigest()}"):
        assert str(part) in str(caught.value)
    assert (folder / B).read_bytes() == wrong
    assert server.requests == []


def test_what_the_users_folder_lacks_goes_to_the_cache(server, cache, tmp_path, monkeypatch):
    folder = put(tmp_path / "data")
    (folder / B).unlink()
    monkeypatch.setenv("LSTM_BOOK_DATA", str(folder))
    loaded()
    assert server.requests == [f"/{B}"]
    assert content(cache) == {B: BODIES[B]} and content(folder) == {A: BODIES[A]}


def test_the_users_folder_may_begin_with_a_tilde(server, tmp_path, monkeypatch):
    put(tmp_path / "data")
    monkeypatch.setenv("LSTM_BOOK_DATA", "~/data")
    loaded()
    assert server.requests == []


def test_an_empty_variable_is_as_good_as_none(server, tmp_path, monkeypatch):
    """It does not mean the working folder."""
    monkeypatch.chdir(put(tmp_path / "data"))
    monkeypatch.setenv("LSTM_BOOK_DATA", "")
    loaded()
    assert server.requests == [f"/{A}", f"/{B}"]


def test_a_users_folder_that_does_not_exist(server, monkeypatch):
    monkeypatch.setenv("LSTM_BOOK_DATA", "/no/such/folder")
    with pytest.raises(NotADirectoryError, match="LSTM_BOOK_DATA.*'/no/such/folder'"):
        datasets.load("tiny")


@pytest.mark.parametrize("missing", ["pooch", "tqdm"])
def test_pooch_is_needed_only_where_the_data_is_not(server, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(DataNotFoundError, match=rf"{missing}.*pip install pooch tqdm") as caught:
        datasets.load("tiny")
    assert "FOLDER/tiny/a.txt" in str(caught.value)
    put(tmp_path / "data")
    monkeypatch.setenv("LSTM_BOOK_DATA", str(tmp_path / "data"))
    loaded()
    assert server.requests == []


def test_what_is_checked_is_what_is_used(server, cache, monkeypatch):
    """Another process may change a file between two reads: so each file is read once."""
    put(cache)
    reads = []
    whole = builtins.open

    def counted(file, *args, **kwargs):
        reads.append(os.fspath(file) if not isinstance(file, int) else file)
        return whole(file, *args, **kwargs)

    monkeypatch.setattr("io.open", counted)
    loaded()
    assert [reads.count(str(cache / path)) for path in BODIES] == [1, 1]
