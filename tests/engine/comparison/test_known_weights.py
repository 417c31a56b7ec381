"""Weights from a local mirror: hashes, what is recorded, what is refused, nothing by surprise."""

import functools
import hashlib
import http.server
import threading
import time

import pytest

from invdiff.app.cli import main
from invdiff.engine.comparison import known_weights
from invdiff.errors import ModelError

CONTENT = b"weights"
PINNED = hashlib.sha256(CONTENT).hexdigest()
TABLE = {
    "pinned": known_weights.WeightSet(
        (("one.pth", "https://127.0.0.1:9/one.pth", PINNED),), "tests", "MIT"
    ),
    "recorded": known_weights.WeightSet(
        (("two/model.bin", "https://127.0.0.1:9/two", ""),), "tests", "MIT"
    ),
}


@pytest.fixture(autouse=True)
def table(monkeypatch):
    monkeypatch.setattr(known_weights, "WEIGHTS", TABLE)


@pytest.fixture
def mirror(tmp_path):
    place = tmp_path / "mirror"
    (place / "two").mkdir(parents=True)
    (place / "one.pth").write_bytes(CONTENT)
    (place / "two" / "model.bin").write_bytes(b"first")
    return place


def test_a_known_file_comes_from_a_folder_and_is_good(tmp_path, mirror):
    (path,) = known_weights.fetch("pinned", tmp_path / "here", str(mirror))
    assert path.read_bytes() == CONTENT
    (state,) = known_weights.verify("pinned", tmp_path / "here")
    assert state.state == "good"


def test_a_file_that_is_there_is_not_fetched_again(tmp_path, mirror):
    known_weights.fetch("pinned", tmp_path, str(mirror))
    known_weights.fetch("pinned", tmp_path, str(tmp_path / "gone"))


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_another_file_is_not_kept(tmp_path, mirror, prefix):
    (mirror / "one.pth").write_bytes(b"altered")
    with pytest.raises(ModelError, match=r"is not the known file .*: it was not kept"):
        known_weights.fetch("pinned", tmp_path / "here", f"{prefix}{mirror}")
    assert not list((tmp_path / "here").iterdir())


def test_a_hash_without_a_published_one_is_recorded_and_compared(tmp_path, mirror):
    (path,) = known_weights.fetch("recorded", tmp_path, str(mirror))
    (state,) = known_weights.verify("recorded", tmp_path)
    assert state.state == "good"
    path.write_bytes(b"altered")
    assert next(known_weights.verify("recorded", tmp_path)).state == "altered"
    (mirror / "two" / "model.bin").write_bytes(b"second")
    with pytest.raises(ModelError, match="is not the known file"):
        known_weights.fetch("recorded", tmp_path, str(mirror))


def test_a_file_that_nobody_recorded_is_unknown(tmp_path):
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "model.bin").write_bytes(b"from elsewhere")
    assert next(known_weights.verify("recorded", tmp_path)).state == "unknown"


def test_a_mirror_may_be_an_address(tmp_path, mirror):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(mirror))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        (path,) = known_weights.fetch("pinned", tmp_path / "here", address)
        server.shutdown()
    assert path.read_bytes() == CONTENT


class Broken(http.server.BaseHTTPRequestHandler):
    """A server with which something is wrong, as the first folder of the address says."""

    def do_GET(self):
        if self.path.startswith("/garbage"):
            self.wfile.write(b"nonsense\r\n\r\n")
            return
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(CONTENT)
        if self.path.startswith("/silent"):
            time.sleep(3)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("how", "told"),
    [("garbage", "nonsense"), ("short", "7 of 1,000 bytes came"), ("silent", "timed out")],
)
def test_a_server_that_fails_is_one_line_and_leaves_nothing(
    tmp_path, monkeypatch, capsys, how, told
):
    monkeypatch.setattr(known_weights, "PATIENCE", 1)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / ".model.bin.partial").write_bytes(b"of a fetch that was killed")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mirror = f"http://127.0.0.1:{server.server_port}/{how}"
        words = ["weights", "fetch", "recorded", "--mirror", mirror, "--to", str(tmp_path)]
        assert main(words) == 1
        server.shutdown()
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"model.bin cannot be had ({told}" in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_command_line(tmp_path, mirror, monkeypatch, capsys):
    monkeypatch.setenv(known_weights.PLACE, str(tmp_path / "here"))
    assert main(["weights", "fetch", "pinned", "--mirror", str(mirror)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "here" / "one.pth")
    assert main(["weights", "verify"]) == 0
    assert "good     one.pth" in capsys.readouterr().out
    assert main(["weights", "list"]) == 0
    assert "pinned                 here      hash published" in capsys.readouterr().out
    (tmp_path / "here" / "one.pth").write_bytes(b"altered")
    assert main(["weights", "verify", "pinned"]) == 1
    assert "one.pth is altered: fetch it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["fetch"], 2, "weights fetch needs a name"),
        (["list", "--mirror", "x"], 2, "--mirror belongs to weights fetch"),
        (["fetch", "nothing"], 2, "'nothing' are no known weights: take pinned, recorded"),
        (["fetch", "pinned", "--mirror", "nowhere"], 1, "nowhere/one.pth cannot be had"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, words, code, message):
    monkeypatch.setenv(known_weights.PLACE, str(tmp_path))
    assert main(["weights", *words]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_published_hashes_are_the_ones_that_file_names_begin_with():
    from invdiff.model.vision.extractors import networks

    for file, sha256 in (
        (networks.INCEPTION_FILE, networks.INCEPTION_SHA256),
        (networks.FILE, networks.SHA256),
        (networks.VGG16_FILE, networks.VGG16_SHA256),
    ):
        assert file.removesuffix(".pth").rsplit("-", 1)[1] == sha256[:8]
