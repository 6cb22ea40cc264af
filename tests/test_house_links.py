"""tools/linkcheck.py finds each kind of defect, and nothing in a sound site."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.linkcheck import check

SCRIPT = Path(__file__).resolve().parent.parent / "tools" / "linkcheck.py"
SOUND = """<html><body><h1 id="top">A</h1><a href="#top">up</a> <a href="part/b.html#here">b</a>
<a href="part/">folder</a> <a href="https://example.org/missing">out</a>
<a href="mailto:a@example.org">mail</a> <img src="a%20b.png" alt="A line"></body></html>"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "index.html").write_text(SOUND)
    (tmp_path / "a b.png").write_bytes(b"")
    (tmp_path / "part" / "index.html").write_text("<a href='/index.html#top'>up</a>")
    (tmp_path / "part" / "b.html").write_text("<p id='here'>b</p>")
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "template.html").write_text("<a href='missing.html'>x</a>")
    return tmp_path


def test_sound_site(site):
    assert check(site) == ([], 3, 5)


@pytest.mark.parametrize(
    ("html", "finding"),
    [
        ('<a href="gone.html">x</a>', "no such file: gone.html"),
        ('<a href="part/gone.html#a">x</a>', "no such file: part/gone.html#a"),
        ('<script src="gone.js"></script>', "no such file: gone.js"),
        ('<a href="#gone">x</a>', "no such anchor: #gone"),
        ('<a href="part/b.html#gone">x</a>', "no such anchor: part/b.html#gone"),
        ('<img src="a%20b.png">', "image without alt text: a%20b.png"),
        ('<img src="a%20b.png" alt=" ">', "image without alt text: a%20b.png"),
        ('<img src="a%20b.png" alt="_images/f00.png">', "image without alt text: a%20b.png"),
    ],
)
def test_defect_is_found(site, html, finding):
    (site / "index.html").write_text(SOUND + html)
    assert check(site)[0] == [f"index.html: {finding}"]


def run(folder):
    return subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True)


def test_command_fails_on_a_finding(site):
    assert run(site).returncode == 0
    (site / "part" / "b.html").unlink()
    result = run(site)
    assert result.returncode == 1
    assert "index.html: no such file: part/b.html#here" in result.stdout


def test_command_fails_on_an_empty_folder(tmp_path):
    assert run(tmp_path).returncode == 1
