"""Files that are none, and numbers out of long texts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FormatError
from pipeline.formats.content import floats_of_text, integers_of_text, read_bytes

PATH = Path("scan.txt")


def test_a_pipe_is_not_waited_for_and_a_device_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(FormatError, match="no regular file"):
            read_bytes(tmp_path / name)
    with pytest.raises(FormatError, match="a folder"):
        read_bytes(tmp_path)


def test_numbers_of_a_text_are_those_that_python_reads() -> None:
    words = ["1", "-2.5", "+3e-7", ".5", "7.", "1e400", "-inf", "nan", "0.1", "4.9e-324", "1_0"]
    text = ("  " + " \n\t".join(words) + "\r\n").encode()
    np.testing.assert_array_equal(floats_of_text(PATH, text, "x"), [float(w) for w in words])
    assert integers_of_text(PATH, b"1 -2\n+3\t0004 1_0", "x").tolist() == [1, -2, 3, 4, 10]
    assert len(floats_of_text(PATH, b"", "x")) == len(integers_of_text(PATH, b" \n", "x")) == 0


@pytest.mark.parametrize(
    "word", ["1-2", "1,2,3", "1,", ",5", "x", "1.2.3", "--1", "1e", "0x10", "é"]
)
def test_words_that_are_no_numbers_are_quoted(word: str) -> None:
    text = f"5 6 {word} 7".encode("latin-1")
    for parse in (floats_of_text, integers_of_text):
        with pytest.raises(FormatError) as caught:
            parse(PATH, text, "x")
        assert caught.value.fault.startswith("x: ")
        assert repr(word.encode("latin-1")) in caught.value.fault


def test_integers_have_no_fraction_and_fit() -> None:
    for word in (b"1.0", b"9223372036854775808", b"-99999999999999999999"):
        with pytest.raises(FormatError, match="x: "):
            integers_of_text(PATH, b"3 " + word, "x")
