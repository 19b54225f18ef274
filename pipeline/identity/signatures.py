"""Ed25519 signatures (RFC 8032) by keys as OpenSSH or OpenSSL write them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import FacefoldError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

MAKE_ONE = "make one: ssh-keygen -t ed25519 -N '' -f split_key"


class Signature(NamedTuple):
    """A signature, and the public key that its maker says it is checked with."""

    algorithm: str
    public_key: str
    """As OpenSSH writes it, without a comment: `ssh-ed25519 AAAA…`."""
    value: str
    """64 bytes, base64."""


def sign(message: bytes, key: Path | str) -> Signature:
    """The signature by the private key in a file: OpenSSH's or PEM, without a passphrase.

    Raises FacefoldError where there is no such key in it.
    """
    private = _private_key(Path(key))
    value = base64.b64encode(private.sign(message)).decode()
    return Signature("ed25519", _as_text(private.public_key()), value)


def check_signature(message: bytes, signature: Signature, signed_by: Path | str | None) -> bool:
    """Whether it is of this message, by the public key in the file `signed_by`, or without one by
    the key that it holds itself, which only shows that nothing was changed by accident.

    Raises ValueError where it is no such signature, FacefoldError where the file has no such key.
    """
    from cryptography.exceptions import InvalidSignature

    if signature.algorithm != "ed25519":
        raise ValueError(f"algorithm {signature.algorithm!r}, expected ed25519")
    own = _public_key(signature.public_key.encode())
    trusted = own if signed_by is None else _public_key_in(Path(signed_by))
    try:
        trusted.verify(base64.b64decode(signature.value, validate=True), message)
    except InvalidSignature:
        return False
    return _as_text(trusted) == _as_text(own)


def _private_key(file: Path) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        load_pem_private_key,
        load_ssh_private_key,
    )

    content = file.read_bytes()
    load = load_ssh_private_key if b"BEGIN OPENSSH" in content else load_pem_private_key
    try:
        key = load(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        locked = "assword" in str(error)
        fault = "is locked with a passphrase" if locked else "holds no private key"
        raise FacefoldError(
            f"{file}: {fault}, expected an Ed25519 key without a passphrase; {MAKE_ONE}"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise FacefoldError(f"{file}: got a {type(key).__name__}, expected Ed25519; {MAKE_ONE}")
    return key


def _public_key_in(file: Path) -> Ed25519PublicKey:
    try:
        return _public_key(file.read_bytes())
    except ValueError as error:
        raise FacefoldError(
            f"{file}: {error}; name the public key, such as split_key.pub, of whoever signed"
        ) from error


def _public_key(content: bytes) -> Ed25519PublicKey:
    """ValueError where it is none."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import (
        load_pem_public_key,
        load_ssh_public_key,
    )

    load = load_pem_public_key if content.lstrip().startswith(b"-----") else load_ssh_public_key
    try:
        key = load(content.strip())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("holds no public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"holds a {type(key).__name__}, expected an Ed25519 key")
    return key


def _as_text(key: Ed25519PublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
