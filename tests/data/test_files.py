"""Downloads against a real server: each failure is one message with the remedy, and leaves nothing behind."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from vem.data import files
from vem.data.files import Source
from vem.errors import VemError

CONTENT = bytes(range(256)) * 400
SHA = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


def source(*urls: str) -> Source:
    return Source("set/file.bin", urls, SHA)


def left_behind(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_missing_file_is_fetched_once(site, tmp_path):
    site.files["file.bin"] = CONTENT
    path = files.obtain(source(site.url + "file.bin"), tmp_path)
    assert path == tmp_path / "set" / "file.bin" and path.read_bytes() == CONTENT
    files.obtain(source(site.url + "file.bin"), tmp_path)
    assert site.asked == ["file.bin"]
    assert left_behind(tmp_path) == [path]


def test_the_second_address_is_tried_when_the_first_fails(site, tmp_path):
    site.files["mirror/file.bin"] = CONTENT
    path = files.obtain(source(site.url + "home/file.bin", site.url + "mirror/file.bin"), tmp_path)
    assert path.read_bytes() == CONTENT
    assert site.asked == ["home/file.bin", "mirror/file.bin"]


def test_a_folder_that_is_only_tried_is_fetched_nothing_into(site, tmp_path):
    site.files["file.bin"] = CONTENT
    with files.nothing_fetched(), pytest.raises(VemError, match=r"file\.bin is missing"):
        files.obtain(source(site.url + "file.bin"), tmp_path)
    assert not site.asked and not list(tmp_path.iterdir())
    assert files.obtain(source(site.url + "file.bin"), tmp_path).exists()


def unused_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("404", "the server answered 404"),
        ("cut short", "the connection broke off before the end"),
        ("changed", "another checksum"),
        ("no server", "no connection"),
    ],
)
def test_a_failed_download_is_one_message_and_leaves_nothing(site, tmp_path, case, says):
    url = site.url + "file.bin"
    if case == "cut short":
        site.files["file.bin"] = CONTENT
        site.cut_short.add("file.bin")
    elif case == "changed":
        site.files["file.bin"] = CONTENT[:-1] + b"x"
    elif case == "no server":
        url = f"http://127.0.0.1:{unused_port()}/file.bin"
    with pytest.raises(VemError) as caught:
        files.obtain(source(url), tmp_path)
    message = str(caught.value)
    assert says in message and url in message and "data.root" in message and SHA in message
    assert str(tmp_path / "set" / "file.bin") in message and "by hand" in message
    assert left_behind(tmp_path) == []


def test_a_folder_that_cannot_be_written(site, tmp_path):
    site.files["file.bin"] = CONTENT
    (tmp_path / "set").write_text("a file where the folder should be")
    with pytest.raises(VemError, match=r"cannot be written.*data\.root"):
        files.obtain(source(site.url + "file.bin"), tmp_path)


@pytest.mark.parametrize("content", [CONTENT[:1000], CONTENT[:-1] + b"x", b""])
def test_a_local_file_with_a_wrong_checksum(tmp_path, content):
    path = tmp_path / "set" / "file.bin"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(VemError) as caught:
        files.obtain(source("http://127.0.0.1:1/never-asked"), tmp_path)
    message = str(caught.value)
    for part in (str(path), SHA.split(":")[1], hashlib.sha256(content).hexdigest(), "Delete it"):
        assert part in message
    assert path.read_bytes() == content


def test_gunzip_gives_the_content_and_refuses_damage(tmp_path):
    path = tmp_path / "file.gz"
    long = np.random.default_rng(0).bytes(3 * files.CHUNK + 17)
    packed = gzip.compress(long)
    path.write_bytes(packed)
    assert b"".join(files.gunzip(path)) == long
    for damage in (packed[: len(packed) // 2], packed[:-4], packed[:-4] + b"\0\0\0\0", b"plain text", b""):
        path.write_bytes(damage)
        with pytest.raises(VemError, match="cannot be read"):
            b"".join(files.gunzip(path))


def test_write_bytes_leaves_the_earlier_version_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_bytes(path, b"old")

    def full(*args: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(VemError, match="the disk is full"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and left_behind(tmp_path) == [path]


def test_the_folder_is_the_root_else_the_environment_else_a_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("VEM_DATA", str(tmp_path / "environment"))
    assert files.data_folder(tmp_path / "root") == tmp_path / "root"
    assert files.data_folder(None) == tmp_path / "environment"
    monkeypatch.delenv("VEM_DATA")
    assert files.data_folder(None).name == "vem"
