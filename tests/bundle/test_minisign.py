"""Signatures: made here and by minisign, each read by the other; whatever is not signed by the key is refused."""

from __future__ import annotations

import base64
import functools
import http.server
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segpipe.bundle.hub import add, pull
from segpipe.bundle.minisign import PublicKey, check_beside, read_public_key, read_secret_key, sign
from segpipe.bundle.named import find_package
from segpipe.errors import ConfigError, ModelError
from tests.bundle.conftest import change_document
from tests.bundle.test_hub import serving
from tests.conftest import Run

ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
needs_minisign = pytest.mark.skipif(shutil.which("minisign") is None, reason="needs minisign")
LABEL = "blocks-thresholds@1.2"


class Keys:
    """A pair of keys in minisign's files, without a password."""

    def __init__(self, folder: Path, number: bytes = b"12345678") -> None:
        folder.mkdir(exist_ok=True)
        self.public, self.secret = folder / "minisign.pub", folder / "minisign.key"
        private = ed25519.Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        hidden = number + private.private_bytes_raw() + public + bytes(32)
        text = base64.b64encode(b"Ed" + number + public).decode()
        self.public.write_text(f"untrusted comment: minisign public key\n{text}\n")
        data = b"Ed" + b"\0\0" + b"B2" + bytes(48) + hidden
        self.secret.write_text(f"untrusted comment: minisign secret key\n{base64.b64encode(data).decode()}\n")

    @property
    def key(self) -> PublicKey:
        return read_public_key(str(self.public))

    def sign(self, path: Path, comment: str = "a comment") -> Path:
        place = path.with_name(path.name + ".minisig")
        place.write_text(sign(path, read_secret_key(self.secret, lambda: ""), comment))
        return place


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys")


def minisign(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["minisign", *map(str, words)], capture_output=True, text=True, timeout=60)


@needs_minisign
def test_what_is_signed_here_minisign_verifies(keys: Keys, archive: Path) -> None:
    keys.sign(archive, "segpipe x@1")
    done = minisign("-Vm", archive, "-p", keys.public)
    assert done.returncode == 0, done.stderr
    assert "segpipe x@1" in done.stdout
    archive.write_bytes(archive.read_bytes() + b"x")
    assert minisign("-Vm", archive, "-p", keys.public).returncode != 0


@needs_minisign
def test_what_minisign_signs_is_verified_here_and_its_keys_are_read(archive: Path, tmp_path: Path) -> None:
    made = minisign("-G", "-W", "-p", tmp_path / "a.pub", "-s", tmp_path / "a.key")
    assert made.returncode == 0, made.stderr
    signed = minisign("-Sm", archive, "-s", tmp_path / "a.key", "-t", "of the hospital")
    assert signed.returncode == 0, signed.stderr
    line = (tmp_path / "a.pub").read_text().splitlines()[1]
    assert check_beside(archive, read_public_key(line)) == "'of the hospital'"
    archive.with_name(archive.name + ".minisig").write_text(sign(archive, read_secret_key(tmp_path / "a.key", lambda: ""), "again"))
    assert minisign("-Vm", archive, "-P", line).returncode == 0
    assert minisign("-Slm", archive, "-s", tmp_path / "a.key").returncode == 0
    with pytest.raises(ModelError, match="of the old kind.*without -l"):
        check_beside(archive, read_public_key(line))


Attack = Callable[[Path, Path, Keys], object]


def line_changed(number: int, change: Callable[[str], str]) -> Attack:
    def attack(path: Path, signature: Path, keys: Keys) -> None:
        lines = signature.read_text().splitlines()
        lines[number] = change(lines[number])
        signature.write_text("\n".join(lines) + "\n")

    return attack


def by_another(path: Path, signature: Path, keys: Keys) -> None:
    Keys(keys.public.parent.with_name("others"), b"87654321").sign(path)


def by_another_of_the_same_number(path: Path, signature: Path, keys: Keys) -> None:
    Keys(keys.public.parent.with_name("others")).sign(path)


def flipped(line: str) -> str:
    data = bytearray(base64.b64decode(line))
    data[-1] ^= 1
    return base64.b64encode(bytes(data)).decode()


ATTACKS: dict[str, tuple[Attack, str]] = {
    "another file": (lambda path, signature, keys: path.write_bytes(path.read_bytes() + b"x"), "is not what the key"),
    "another key": (by_another, "signed by the key .* not by"),
    "another key of the same number": (by_another_of_the_same_number, "is not what the key"),
    "another comment": (line_changed(2, lambda line: line + "!"), "is not what the key"),
    "a changed signature": (line_changed(1, flipped), "is not what the key"),
    "a changed signature of the comment": (line_changed(3, flipped), "is not what the key"),
    "no base64": (line_changed(1, lambda line: "!" + line[1:]), "none of minisign"),
    "a short signature": (line_changed(1, lambda line: line[:40]), "none of minisign"),
    "no comment": (line_changed(2, lambda line: "x"), "none of minisign"),
    "an empty file": (lambda path, signature, keys: signature.write_bytes(b""), "none of minisign"),
    "a huge file": (lambda path, signature, keys: signature.write_bytes(signature.read_bytes() + b"\n" * 99_999), "none of minisign"),
    "no signature": (lambda path, signature, keys: signature.unlink(), "is not signed"),
}


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_what_the_key_has_not_signed_is_refused(attack: str, keys: Keys, archive: Path, tmp_path: Path) -> None:
    change, word = ATTACKS[attack]
    signature = keys.sign(archive)
    assert check_beside(archive, keys.key) == "'a comment'"
    change(archive, signature, keys)
    with pytest.raises(ModelError, match=word) as caught:
        check_beside(archive, keys.key)
    assert str(caught.value).isprintable()


def test_a_secret_key_with_a_password_is_opened_by_it_alone(tmp_path: Path) -> None:
    """A key that `minisign -G` made with the password "geheim", its memory limit lowered to libsodium's least."""
    import hashlib

    keys = Keys(tmp_path / "keys")
    data = base64.b64decode(keys.secret.read_text().splitlines()[1])
    operations, memory = 1 << 15, 1 << 24  # operations < memory / 32: libsodium takes p = 1 and N = operations / 32, 1024
    stream = hashlib.scrypt(b"geheim", salt=bytes(32), n=1024, r=8, p=1, dklen=104)
    hidden = bytes(a ^ b for a, b in zip(data[-104:], stream, strict=True))
    head = b"EdScB2" + bytes(32) + operations.to_bytes(8, "little") + memory.to_bytes(8, "little")
    keys.secret.write_text(f"untrusted comment: x\n{base64.b64encode(head + hidden).decode()}\n")
    assert read_secret_key(keys.secret, lambda: "geheim").number == b"12345678"
    with pytest.raises(ConfigError, match="hidden by another password"):
        read_secret_key(keys.secret, lambda: "other")


@pytest.mark.parametrize("text", ["", "RWx", "a\nb\n"])
def test_what_is_no_key_is_told_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(ConfigError, match="no public key"):
        read_public_key(str(tmp_path / "key"))
    with pytest.raises(ConfigError, match="no secret key"):
        read_secret_key(tmp_path / "key", lambda: "")
    with pytest.raises(ConfigError, match="no public key"):
        read_public_key(text)


def test_a_hub_gives_what_the_key_has_signed_and_nothing_else(keys: Keys, archive: Path, folder: Path, tmp_path: Path) -> None:
    signed, plain, wrong = (str(tmp_path / name) for name in ("signed", "plain", "wrong"))
    add(Path(signed), folder, read_secret_key(keys.secret, lambda: ""))
    assert pull(signed, LABEL, keys.key).label == LABEL
    add(Path(plain), archive)
    with pytest.raises(ModelError, match="is not signed"):
        pull(plain, LABEL, keys.key)
    Keys(tmp_path / "others", b"87654321").sign(archive)
    add(Path(wrong), archive)  # takes the signature along
    with pytest.raises(ModelError, match=f"{LABEL}: refused: it is signed by the key"):
        pull(wrong, LABEL, keys.key)


def test_a_key_that_was_asked_for_once_cannot_be_forgotten(keys: Keys, archive: Path, folder: Path, tmp_path: Path) -> None:
    """Whoever holds the hub waits for the call without a key."""
    hub = tmp_path / "hub"
    keys.sign(archive)
    add(hub, archive)
    pull(str(hub), LABEL, keys.key)
    change_document(folder, lambda document: document.update(version="1.3"))
    add(hub, folder)
    with pytest.raises(ModelError, match=f"was pulled with the key {keys.key.name} before, and now no key is asked for: give --key"):
        pull(str(hub), "blocks-thresholds")
    with pytest.raises(ModelError, match="is not signed"):
        pull(str(hub), "blocks-thresholds", keys.key)
    assert pull(str(hub), LABEL, keys.key).label == LABEL


def test_a_server_that_does_not_answer_is_not_taken_for_a_missing_signature(keys: Keys, archive: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    keys.sign(archive)
    add(hub, archive)

    class Answers(http.server.SimpleHTTPRequestHandler):
        code = 503

        def do_GET(self) -> None:
            if self.path.endswith(".minisig"):
                self.send_error(self.code)
            else:
                super().do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            """Tests are quiet."""

    with serving(functools.partial(Answers, directory=str(hub))) as where:
        with pytest.raises(ConfigError, match=r"minisig cannot be had"):
            pull(where, LABEL, keys.key)
        Answers.code = 404
        with pytest.raises(ModelError, match="is not signed"):
            pull(where, LABEL, keys.key)


def test_the_program_asks_hubs_for_the_key_of_the_variable(keys: Keys, made: Path, segpipe: Run, tmp_path: Path) -> None:
    add(tmp_path / "hub", made / "package.zip")
    refused = segpipe("hub", "pull", "hub", LABEL, SEGPIPE_HUB_KEY=str(keys.public))
    assert (refused.returncode, len(refused.stderr.splitlines())) == (5, 1)
    assert "is not signed" in refused.stderr


def test_a_name_is_used_only_if_signed_where_a_key_is_asked_for(
    keys: Keys, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub"
    add(hub, archive)
    pull(str(hub), LABEL)
    monkeypatch.setenv("SEGPIPE_HUB_KEY", str(keys.public))
    with pytest.raises(ModelError, match="is not signed"):
        find_package(LABEL)
    keys.sign(hub / "packages" / "blocks-thresholds-1.2.zip")
    monkeypatch.setenv("SEGPIPE_HUB", str(hub))
    assert find_package(LABEL).label == LABEL


def test_the_program_signs_and_verifies(keys: Keys, archive: Path, segpipe: Run, tmp_path: Path) -> None:
    done = segpipe("hub", "add", "hub", str(archive), "--sign", str(keys.secret))
    assert done.returncode == 0, done.stderr
    assert ", signed" in done.stdout
    pulled = segpipe("hub", "pull", "hub", LABEL, "--key", str(keys.public))
    assert pulled.returncode == 0, pulled.stderr
    beside = tmp_path / "blocks-thresholds-1.2.zip.minisig"
    assert beside.read_bytes() == (tmp_path / "hub" / "packages" / beside.name).read_bytes()
    said = segpipe(*pulled.stdout.split("next     segpipe ")[1].split(), "--device", "cpu")  # as it told
    assert said.returncode == 0 and f"signed   by {keys.key.name}" in said.stdout, said.stderr
    beside.unlink()
    unsigned = segpipe("verify", "blocks-thresholds-1.2.zip", "--key", str(keys.public))
    assert (unsigned.returncode, unsigned.stdout, len(unsigned.stderr.splitlines())) == (5, "", 1)
    keys.sign(tmp_path / "blocks-thresholds-1.2.zip", "segpipe x")
    line = keys.public.read_text().splitlines()[1]
    verified = segpipe("verify", "blocks-thresholds-1.2.zip", "--key", line, "--device", "cpu")
    assert verified.returncode == 0, verified.stderr
    assert f"signed   by {keys.key.name}: 'segpipe x'" in verified.stdout


@needs_minisign
def test_a_key_that_minisign_hides_by_a_password_signs(archive: Path, tmp_path: Path) -> None:
    """With minisign's own limits: about a second and 1 GB."""
    words = ["minisign", "-G", "-p", str(tmp_path / "b.pub"), "-s", str(tmp_path / "b.key")]
    made = subprocess.run(words, input="geheim\ngeheim\n", capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr
    archive.with_name(archive.name + ".minisig").write_text(sign(archive, read_secret_key(tmp_path / "b.key", lambda: "geheim"), "x"))
    assert minisign("-Vm", archive, "-p", tmp_path / "b.pub").returncode == 0
    with pytest.raises(ConfigError, match="hidden by another password"):
        read_secret_key(tmp_path / "b.key", lambda: "other")
