"""Paths that can be written and paths that cannot, on a real file system."""

import pytest

from easyflax.callbacks.paths import check_file_writable, check_folder_writable


@pytest.fixture
def blocked(tmp_path):
    (tmp_path / "file").write_text("kept")
    return tmp_path / "file"


@pytest.mark.parametrize("below", ["", "run", "run/deeper"])
def test_a_folder_in_place_of_which_there_is_a_file_is_refused(blocked, below):
    path = blocked / below if below else blocked
    with pytest.raises(
        OSError, match=r"Owner: the folder '.*file.*' cannot be written \(.*\), expected one that can. Pass"
    ):
        check_folder_writable("Owner", path)
    assert blocked.read_text() == "kept"


def test_a_missing_folder_is_made_and_left_empty(tmp_path):
    check_folder_writable("Owner", tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_file_that_can_be_written_is_neither_made_nor_changed(tmp_path, blocked):
    check_file_writable("Owner", tmp_path / "logs" / "new.csv")
    check_file_writable("Owner", str(blocked))
    assert list((tmp_path / "logs").iterdir()) == []
    assert blocked.read_text() == "kept"


def test_a_folder_or_what_lies_below_a_file_is_no_file_to_write(tmp_path, blocked):
    for path in (tmp_path, blocked / "log.csv", str(blocked / "more" / "log.csv")):
        with pytest.raises(OSError, match=r"Owner: the file '.*' cannot be written \(.*\), expected one"):
            check_file_writable("Owner", path)
