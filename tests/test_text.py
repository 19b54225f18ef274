"""Names from outside, as a terminal, a log and a file system get them."""

from __future__ import annotations

import unicodedata

import pytest

from pipeline.text import NAME_BYTES, file_name, printable, redacted, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Éva_01 – 中文.obj", "Éva_01 – 中文.obj"),
        ("a\x1b[31mred\x1b[0m", r"a\x1b[31mred\x1b[0m"),
        ("a\nfacefold: sound", r"a\nfacefold: sound"),
        ("a\r\x07\x00\x9b2J", r"a\r\x07\x00\x9b2J"),
        ("exe.\u202ejbo", r"exe.\u202ejbo"),
        ("a\u2066b\u2069\u200b\u2028", r"a\u2066b\u2069\u200b\u2028"),
        ("a\udcff", r"a\udcff"),
        ("\U000e0041", r"\U000e0041"),
        ("[red]x[/red]", "[red]x[/red]"),
        (3, "3"),
    ],
)
def test_what_is_printed(text: object, shown: str) -> None:
    assert printable(text) == shown


def test_nothing_that_steers_a_terminal_is_printed() -> None:
    every = "".join(map(chr, range(0x110000)))
    left = {unicodedata.category(c) for c in printable(every)}
    assert not left & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert {"Lu", "Ll", "Lo", "Mn", "Nd", "Sm", "Zs"} <= left


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://KEY:SECRET@bucket/x", "s3://…@bucket/x"),
        ("s3://KEY:SEC/RET+x=@bucket/x", "s3://…@bucket/x"),
        ("s3://KEY:S@CRET@bucket/x: fault", "s3://…@bucket/x: fault"),
        ("http://user@host:4200/api", "http://…@host:4200/api"),
        ("abfss://container@account.dfs.core.windows.net/x",) * 2,
        ("abfss://c:SECRET@account/x", "abfss://…@account/x"),
        ("s3://bucket/faces: mail a@b.org",) * 2,
        ("s3://KEY:SECRET/x", "s3://…/x"),
        ("az://c/x?sig=SECRET", "az://c/x?…"),
        ("tcp://127.0.0.1:8786, http://[::1]:4200/api",) * 2,
        ("got s3://b/x: fault",) * 2,
        ("s3://b/a:b@c",) * 2,
        ("store 's3://K:S@b/x' and az://L:T@c", "store 's3://…@b/x' and az://…@c"),
    ],
)
def test_passwords_in_urls_are_not_shown(url: str, shown: str) -> None:
    assert redacted(url) == printable(url) == shown


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("lab:anna", "lab_anna"),
        ("in/ben_k/day 2", "in_ben_k_day 2"),
        ("Éva", "Éva"),
        ("..", "%2E."),
        (".", "%2E"),
        ("", "%"),
        (".hidden", "%2Ehidden"),
        ("../../etc/passwd", "%2E._.._etc_passwd"),
        ("/etc/passwd", "_etc_passwd"),
        ("a\0b\x1b\n", "a%00b%1B%0A"),
        ("a%00b", "a%2500b"),
        ("a\\b", "a%5Cb"),
        ("\u202eobj", "%E2%80%AEobj"),
        ("\udcff", "%ED%B3%BF"),
    ],
)
def test_names_of_files(text: str, name: str) -> None:
    assert file_name(text) == name


def test_long_names_stay_apart() -> None:
    names = [file_name(letter * n) for letter in "aé中" for n in (300, 301, 5000)]
    assert len(set(names)) == len(names)
    assert all(len(name.encode()) <= NAME_BYTES for name in names)


def test_a_long_value_is_shortened() -> None:
    assert shortened("abc") == "abc"
    assert shortened("a" * 1200, 5) == "aaaaa… (1,200 letters)"
