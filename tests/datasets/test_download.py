import hashlib
import socket
from pathlib import Path

import pytest

from easyflax.datasets.download import RemoteFile, fetch
from easyflax.errors import DownloadError, EasyflaxError

CONTENT = bytes(range(256)) * 1000


def remote(*urls: str, content: bytes = CONTENT) -> RemoteFile:
    return RemoteFile(urls, hashlib.sha256(content).hexdigest(), len(content))


def unused_url() -> str:
    """An address on this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_is_downloaded_once_and_then_taken_from_the_cache(site, home):
    site.files["a.bin"] = CONTENT
    file = remote(site.url + "a.bin")
    first = fetch(file, "letters")
    assert first == home / "datasets" / "letters" / "a.bin"
    assert first.read_bytes() == CONTENT
    assert fetch(file, "letters") == first
    assert site.requests == ["a.bin"]
    assert files_in(home) == ["a.bin"]


def test_a_damaged_copy_in_the_cache_is_downloaded_again(site):
    site.files["a.bin"] = CONTENT
    file = remote(site.url + "a.bin")
    path = fetch(file, "letters")
    path.write_bytes(CONTENT[:-1] + b"?")
    assert fetch(file, "letters").read_bytes() == CONTENT
    assert site.requests == ["a.bin", "a.bin"]


def test_a_file_with_another_checksum_is_refused_and_not_kept(site, home):
    other = CONTENT[:-1] + b"?"
    site.files["a.bin"] = other
    with pytest.raises(DownloadError, match=rf"got a file with SHA-256 {hashlib.sha256(other).hexdigest()}"):
        fetch(remote(site.url + "a.bin"), "letters")
    assert files_in(home) == []


def test_an_interrupted_download_is_reported_and_leaves_nothing_behind(site, home):
    site.files["a.bin"] = CONTENT
    site.cut["a.bin"] = 100_000
    with pytest.raises(DownloadError, match=r"got 100,000 of 256,000 bytes"):
        fetch(remote(site.url + "a.bin"), "letters")
    assert files_in(home) == []
    del site.cut["a.bin"]
    assert fetch(remote(site.url + "a.bin"), "letters").read_bytes() == CONTENT


def test_a_failed_download_keeps_the_old_copy_until_a_better_one_is_there(site, home):
    path = home / "datasets" / "letters" / "a.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"old")
    with pytest.raises(DownloadError):
        fetch(remote(site.url + "a.bin"), "letters")
    assert path.read_bytes() == b"old"


def test_offline_the_error_names_the_file_the_address_and_where_to_put_it(home):
    url = unused_url() + "a.bin"
    file = remote(url)
    with pytest.raises(DownloadError) as caught:
        fetch(file, "letters")
    message = str(caught.value)
    assert message.startswith(f"Data set 'letters': {url}: ")
    assert "refused" in message
    assert f"Expected a.bin with 256,000 bytes and SHA-256 {file.sha256}." in message
    assert message.endswith(f"put the file at {home / 'datasets' / 'letters' / 'a.bin'} yourself.")


def test_a_file_put_in_the_cache_by_hand_needs_no_network(home):
    path = home / "datasets" / "letters" / "a.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert fetch(remote(unused_url() + "a.bin"), "letters") == path


def test_the_second_address_is_used_when_the_first_fails(site):
    site.files["copy/a.bin"] = CONTENT
    path = fetch(remote(site.url + "a.bin", site.url + "copy/a.bin"), "letters")
    assert path.read_bytes() == CONTENT
    assert site.requests == ["a.bin", "copy/a.bin"]


def test_when_every_address_fails_each_is_named_with_its_reason(site):
    refused = unused_url() + "a.bin"
    with pytest.raises(DownloadError, match=r"HTTP Error 404: Not Found; http.*refused"):
        fetch(remote(site.url + "a.bin", refused), "letters")


def test_a_download_error_is_an_easyflax_error_and_an_os_error():
    assert issubclass(DownloadError, EasyflaxError)
    assert issubclass(DownloadError, OSError)


def test_a_terminal_sees_a_progress_bar_and_a_file_does_not(site, capsys, monkeypatch):
    site.files["a.bin"] = CONTENT
    fetch(remote(site.url + "a.bin"), "letters")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    fetch(remote(site.url + "a.bin"), "again")
    assert "a.bin" in capsys.readouterr().err
