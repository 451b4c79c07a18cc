"""Signatures of packages in the format of minisign (Denis, 2015-): Ed25519 over the BLAKE2b of an archive, in a small text file beside it.

A signature says who made an archive, which no hash in an index can: whoever changes the archive changes the index as well. Keys come from
`minisign -G`. Files of the older kind, which signs the whole file (`-l`), are refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.bundle.contents import shown
from segpipe.errors import ConfigError, ModelError

ENDING = ".minisig"
MOST_OF_SIGNATURE = 16 << 10
"""Bytes of a signature's file."""
_UNTRUSTED, _TRUSTED = "untrusted comment: ", "trusted comment: "
_KEY, _HASHED, _OLD = b"Ed", b"ED", b"Ed"
"""Of a key, of a signature over a hash, and of one over the whole file."""
_PUBLIC_BYTES, _SIGNATURE_BYTES, _GLOBAL_BYTES = 42, 74, 64
_SECRET = struct.Struct("<2s2s2s32sQQ104s")
"""Of a secret key: kinds of signature, of password and of checksum, salt, two limits of scrypt, and what they hide."""
_HIDDEN = struct.Struct("<8s64s32s")
"""What is hidden: the key's number, the key (its seed and its public half), a checksum."""
_OPEN, _SCRYPT = b"\0\0", b"Sc"
_SEED_BYTES = 32
_R = 8
"""Of scrypt, as libsodium has it."""
_MOST_MEMORY = (1 << 31) - 1


@dataclass(frozen=True)
class PublicKey:
    """Attributes:
    number: 8 bytes that name the key in its signatures.
    key: 32 bytes.
    """

    number: bytes
    key: bytes

    @property
    def name(self) -> str:
        """As minisign shows it, 16 hexadecimal digits."""
        return _name(self.number)


@dataclass(frozen=True)
class SecretKey:
    """Attributes:
    number: see `PublicKey`.
    seed: 32 bytes.
    """

    number: bytes
    seed: bytes


def read_public_key(told: str) -> PublicKey:
    """A public key: the file `minisign.pub`, or its second line itself, which begins with RW.

    Raises:
        ConfigError: neither.
    """
    try:
        path = Path(told)
        data = _decoded(path.read_text(encoding="utf-8").splitlines()[1] if path.is_file() else told, _PUBLIC_BYTES)
    except (OSError, UnicodeDecodeError, IndexError, ValueError) as error:
        raise ConfigError(f"{told[:100]!a}: is no public key; must be one of minisign: the file minisign.pub, or its line RW...") from error
    if data[:2] != _KEY:
        raise ConfigError(f"{told[:100]!a}: is a key of another kind; must be one of Ed25519, as minisign -G makes it")
    return PublicKey(data[2:10], data[10:])


def read_secret_key(path: Path, password: Callable[[], str]) -> SecretKey:
    """A secret key from minisign's file.

    Args:
        password: asked where the key is hidden by one; takes about a second and 1 GB.

    Raises:
        ConfigError: no such file, no key, or another password.
    """
    try:
        data = _decoded(path.read_text(encoding="utf-8").splitlines()[1], _SECRET.size)
        kind, hiding, _, salt, operations, memory, hidden = _SECRET.unpack(data)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); must be a secret key of minisign") from error
    except (UnicodeDecodeError, IndexError, ValueError) as error:
        raise ConfigError(f"{path}: is no secret key; must be the file minisign.key that minisign -G makes") from error
    if kind != _KEY or hiding not in (_OPEN, _SCRYPT):
        raise ConfigError(f"{path}: is a key of another kind; must be one that minisign -G makes")
    if hiding == _SCRYPT:
        hidden = bytes(a ^ b for a, b in zip(hidden, _stream(password(), salt, (operations, memory), path), strict=True))
    number, key, _ = _HIDDEN.unpack(hidden)  # the checksum is empty where there is no password
    seed, public = key[:_SEED_BYTES], key[_SEED_BYTES:]
    if not hmac.compare_digest(_ed25519().Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw(), public):
        raise ConfigError(f"{path}: is damaged, or hidden by another password; must be opened by its own: try again")
    return SecretKey(number, seed)


def _stream(password: str, salt: bytes, limits: tuple[int, int], path: Path) -> bytes:
    """What hides a key: scrypt, its cost reckoned from the limits as libsodium does."""
    operations, memory = max(limits[0], 1 << 15), limits[1]
    little = operations < memory // 32
    most = operations // (_R * 4) if little else memory // (_R * 128)
    cost = max(1, (most // 2).bit_length())
    p = 1 if little else min(operations // 4 // (1 << cost), 0x3FFFFFFF) // _R
    try:
        return hashlib.scrypt(password.encode(), salt=salt, n=1 << cost, r=_R, p=p, maxmem=_MOST_MEMORY, dklen=_HIDDEN.size)
    except (ValueError, MemoryError) as error:
        raise ConfigError(f"{path}: its password asks for more memory than there is: make a key with minisign -G -W") from error


def sign(path: Path, key: SecretKey, comment: str) -> str:
    """The text of a signature of a file.

    Args:
        comment: one line that is signed with it.

    Raises:
        ConfigError: the package cryptography is missing.
    """
    private = _ed25519().Ed25519PrivateKey.from_private_bytes(key.seed)
    signature: bytes = private.sign(_digest(path))
    whole: bytes = private.sign(signature + comment.encode())
    first = base64.b64encode(_HASHED + key.number + signature).decode()
    by = f"{_UNTRUSTED}signature of segpipe, key {_name(key.number)}"
    return f"{by}\n{first}\n{_TRUSTED}{comment}\n{base64.b64encode(whole).decode()}\n"


def check_signature(path: Path, signature: bytes, key: PublicKey) -> str:
    """Refuse a file that `key` has not signed.

    Args:
        signature: content of the signature's file.

    Returns:
        The comment that is signed with it.

    Raises:
        ModelError: no signature, one of another key, or of another file.
        ConfigError: the package cryptography is missing.
    """
    from_bytes = _ed25519().Ed25519PublicKey.from_public_bytes
    try:
        lines = signature[: MOST_OF_SIGNATURE + 1].decode("utf-8").splitlines()
        data, whole = _decoded(lines[1], _SIGNATURE_BYTES), _decoded(lines[3], _GLOBAL_BYTES)
        if len(signature) > MOST_OF_SIGNATURE or not lines[0].startswith(_UNTRUSTED) or not lines[2].startswith(_TRUSTED):
            raise ValueError
    except (UnicodeDecodeError, IndexError, ValueError) as error:
        raise _refusal(path, "its signature is none of minisign") from error
    if data[:2] == _OLD:
        raise _refusal(path, "its signature is of the old kind, over the whole file", "sign it again, without -l")
    if data[:2] != _HASHED:
        raise _refusal(path, "its signature is of an unknown kind")
    if data[2:10] != key.number:
        raise _refusal(path, f"it is signed by the key {_name(data[2:10])}, not by {key.name}")
    comment = lines[2].removeprefix(_TRUSTED)
    from cryptography.exceptions import InvalidSignature

    try:
        public = from_bytes(key.key)
        public.verify(data[10:], _digest(path))
        public.verify(whole, data[10:] + comment.encode())
    except (InvalidSignature, ValueError) as error:
        raise _refusal(path, f"it is not what the key {key.name} has signed") from error
    return shown(comment)


def check_beside(path: Path, key: PublicKey) -> str:
    """`check_signature` with the signature that lies beside an archive, as minisign puts it.

    Raises:
        ModelError: as there, or there is none, or it is a folder.
    """
    if path.is_dir():
        raise _refusal(path, "a folder has no signature", "give the archive that was signed")
    place = path.with_name(path.name + ENDING)
    try:
        with place.open("rb") as file:
            signature = file.read(MOST_OF_SIGNATURE + 1)
    except OSError as error:
        raise _refusal(path, f"it is not signed: {place.name} cannot be read ({error.strerror})") from error
    return check_signature(path, signature, key)


def _refusal(path: Path, what: str, cure: str = "do not use it, ask who made it") -> ModelError:
    return ModelError(f"{path}: refused: {what}: {cure}")


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=64)).digest()


def _decoded(line: str, length: int) -> bytes:
    """Raises:
    ValueError: no base64 of so many bytes.
    """
    try:
        data = base64.b64decode(line.strip(), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    if len(data) != length:
        raise ValueError(f"{len(data)} bytes")
    return data


def _name(number: bytes) -> str:
    return number[::-1].hex().upper()


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise ConfigError("the package cryptography is not installed, and signatures need it: pip install 'segpipe[sign]'") from error
    return ed25519
