"""Split files: equal bytes for equal splits, every changed line found, signatures that hold."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from pipeline.errors import FacefoldError
from pipeline.identity.split_file import Person, Split, read_split, written

N = 12


def split_of_twelve(**changes: Any) -> Split:
    people = {
        f"lab:p{i}": Person(
            split="test" if i == 3 else "train",
            names=[f"lab:p{i}"],
            scans=[f"{i:064x}", f"{i + 100:064x}"],
            non_metric=[f"{i + 200:064x}"] if i == 5 else [],
            held_back=[{"benchmark": "now", "how": "rule"}] if i == 3 else [],
        )
        for i in range(N)
    }
    facts = {"store": "1671c58d", "facefold": "0.4.0", "rules": {"seed": 0}, "people": people}
    return Split(**facts | changes)


def key_files(folder: Path, name: str, **pem: Any) -> tuple[Path, Path]:
    """A private key as OpenSSH writes it, or as PEM, and its public key."""
    private = Ed25519PrivateKey.generate()
    lock = pem.get("lock") or NoEncryption()
    form = PrivateFormat.PKCS8 if pem else PrivateFormat.OpenSSH
    (folder / name).write_bytes(private.private_bytes(Encoding.PEM, form, lock))
    public = private.public_key()
    content = (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        if pem
        else public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" me@lab\n"
    )
    (folder / f"{name}.pub").write_bytes(content)
    return folder / name, folder / f"{name}.pub"


def test_it_reads_back_and_equal_splits_give_equal_bytes() -> None:
    split = split_of_twelve()
    content = written(split)
    read = read_split(content, "split.json")
    assert read.split == split and read.signed_by is None
    backwards = split.model_copy(update={"people": dict(reversed(split.people.items()))})
    assert written(backwards) == content
    other = split_of_twelve(rules={"seed": 1})
    assert read_split(written(other), "x").sha256 != read.sha256


def test_it_is_json_and_yaml_with_a_line_a_person() -> None:
    content = written(split_of_twelve()).decode()
    assert json.loads(content) == yaml.safe_load(content)
    assert json.loads(content)["people"]["lab:p3"]["split"] == "test"
    assert sum(line.startswith('"lab:p') for line in content.splitlines()) == N
    assert read_split(content.replace("\n", "\r\n").encode(), "x").split == split_of_twelve()


def test_a_split_of_nobody_and_of_strange_names() -> None:
    nobody = split_of_twelve(people={})
    assert read_split(written(nobody), "x").split == nobody
    strange = 'lab:"p\n1\u2028é'
    people = {strange: Person(split="train", names=[strange], scans=["a"])}
    assert read_split(written(split_of_twelve(people=people)), "x").split.people.keys() == {strange}


def test_every_changed_line_is_named(tmp_path: Path) -> None:
    key, _ = key_files(tmp_path, "key")
    lines = written(split_of_twelve(), key).decode().split("\n")
    for number, line in enumerate(lines[:-2], start=1):
        place = len(line) // 2
        changed = line[:place] + ("x" if line[place] != "x" else "y") + line[place + 1 :]
        content = "\n".join([*lines[: number - 1], changed, *lines[number:]]).encode()
        with pytest.raises(FacefoldError, match=rf"^split.json: line {number}: is not as it was"):
            read_split(content, "split.json")


def test_lines_that_are_lost_added_or_swapped() -> None:
    lines = written(split_of_twelve()).decode().split("\n")
    at = next(i for i, line in enumerate(lines) if line.startswith('"lab:p3"'))

    def fault(changed: list[str]) -> str:
        with pytest.raises(FacefoldError) as caught:
            read_split("\n".join(changed).encode(), "split.json")
        return str(caught.value)

    assert f"line {at + 1}: is not as it was written: got " in fault(lines[:at] + lines[at + 1 :])
    assert f"line {at + 1}: " in fault([*lines[:at], lines[at].replace("p3", "q"), *lines[at:]])
    assert f"line {at + 1}: " in fault([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]])
    assert "is no whole split file" in fault(lines[:at])
    assert "is no whole split file" in fault(["{}", ""])
    pretty = json.dumps(json.loads("\n".join(lines)), indent=2).split("\n")
    assert "is not as it was written" in fault([*pretty, ""])


def test_who_makes_the_seals_anew_has_no_signature_for_it(tmp_path: Path) -> None:
    key, public = key_files(tmp_path, "key")
    honest = written(split_of_twelve(), key).decode().split("\n")
    moved = dict(split_of_twelve().people)
    moved["lab:p3"] = moved["lab:p3"].model_copy(update={"split": "train"})
    forged = written(split_of_twelve(people=moved)).decode().split("\n")
    forged[-3] = honest[-3]
    number = len(forged) - 2
    with pytest.raises(FacefoldError, match=rf"line {number}: .*the signature is not of what"):
        read_split("\n".join(forged).encode(), "split.json")
    with pytest.raises(FacefoldError, match="is not signed with the key of"):
        read_split("\n".join(forged).encode(), "split.json", public)


@pytest.mark.parametrize("pem", [{}, {"pem": True}])
def test_signatures(tmp_path: Path, pem: dict[str, Any]) -> None:
    key, public = key_files(tmp_path, "key", **pem)
    _, other = key_files(tmp_path, "other", **pem)
    content = written(split_of_twelve(), key)
    read = read_split(content, "split.json", public)
    assert read.split == split_of_twelve()
    assert read.signed_by is not None and read.signed_by.startswith("ssh-ed25519 AAAA")
    assert read_split(content, "split.json").signed_by == read.signed_by
    assert read.sha256 == read_split(written(split_of_twelve()), "x").sha256
    with pytest.raises(FacefoldError, match=r"is not signed with the key of .*other\.pub; it says"):
        read_split(content, "split.json", other)
    with pytest.raises(FacefoldError, match=r"split\.json: is not signed; have it written with"):
        read_split(written(split_of_twelve()), "split.json", public)


def test_keys_of_ssh_keygen(tmp_path: Path) -> None:
    key = tmp_path / "split_key"
    try:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no ssh-keygen on this machine")
    content = written(split_of_twelve(), key)
    signer = read_split(content, "split.json", f"{key}.pub").signed_by
    assert signer == " ".join(Path(f"{key}.pub").read_text().split()[:2])


def test_keys_that_are_of_no_use(tmp_path: Path) -> None:
    locked, _ = key_files(tmp_path, "locked", lock=BestAvailableEncryption(b"secret"))
    with pytest.raises(FacefoldError, match=r"locked: is locked with a passphrase, .* ssh-keygen"):
        written(split_of_twelve(), locked)
    key, public = key_files(tmp_path, "key")
    with pytest.raises(FacefoldError, match=r"key\.pub: holds no private key, expected an Ed25519"):
        written(split_of_twelve(), public)
    curve = generate_private_key(SECP256R1())
    (tmp_path / "ec").write_bytes(
        curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(FacefoldError, match=r"got a EC.*, expected Ed25519; make one"):
        written(split_of_twelve(), tmp_path / "ec")
    content = written(split_of_twelve(), key)
    with pytest.raises(FacefoldError, match="key: holds no public key; name the public key"):
        read_split(content, "split.json", key)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"facefold_split": 1', '"facefold_split": 2', "of form 2, expected 1; update facefold"),
        ('"split": "test"', '"split": 3', r"people.lab:p3.split: Input should be a valid string"),
        ('"store": "1671c58d"', '"stores": "1671c58d"', "store: Field required"),
        ('"lab:p4"', '"lab:p3"', "is no JSON .a key comes twice"),
    ],
)
def test_files_that_are_sound_but_say_something_else(
    monkeypatch: pytest.MonkeyPatch, old: str, new: str, fault: str
) -> None:
    from pipeline.identity import split_file

    lines = written(split_of_twelve()).decode().split("\n")[:-5]
    lines = [line.replace(old, new, 1) if old in line else line for line in lines]
    lines.append(f'"seals": "{split_file._seals(lines)}",')
    lines += [f'"sha256": "{split_file._sha256(lines)}",', '"signature": null', "}", ""]
    with pytest.raises(FacefoldError, match=fault):
        read_split("\n".join(lines).encode(), "split.json")


def test_what_is_no_text() -> None:
    with pytest.raises(FacefoldError, match=r"split\.json: is no text"):
        read_split(b"\xff\xfe", "split.json")
