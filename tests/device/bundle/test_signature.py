"""Signatures made and checked by the real ssh-keygen."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures_bundle import TinyModel
from fixtures_signature import make_key, needs_keys, sign

from device.bundle import manifest, signature
from device.errors import SignatureError

pytestmark = needs_keys


@pytest.fixture
def bundle(tiny_model: TinyModel, tmp_path: Path) -> Path:
    return tiny_model.write(tmp_path / "bundles")


@pytest.fixture
def quality(tmp_path: Path) -> Path:
    return make_key(tmp_path, "quality")


@pytest.fixture
def signers(quality: Path, tmp_path: Path) -> Path:
    """A list that allows the key `quality` alone."""
    file = tmp_path / "allowed_signers"
    file.write_text(f"quality@plant {quality.with_suffix('.pub').read_text()}")
    return file


def test_the_signer_is_named(bundle: Path, quality: Path, signers: Path) -> None:
    sign(bundle, quality)
    assert signature.verify(bundle, signers) == "quality@plant"


def test_unsigned(bundle: Path, signers: Path) -> None:
    with pytest.raises(SignatureError, match="unsigned bundles are refused"):
        signature.verify(bundle, signers)


def test_a_foreign_key(bundle: Path, signers: Path, tmp_path: Path) -> None:
    sign(bundle, make_key(tmp_path, "stranger"))
    with pytest.raises(SignatureError, match="a key that is not in"):
        signature.verify(bundle, signers)


def test_a_manifest_that_was_changed(bundle: Path, quality: Path, signers: Path) -> None:
    sign(bundle, quality)
    with (bundle / manifest.FILE).open("a") as file:
        file.write("\n")
    with pytest.raises(SignatureError, match=r"does not vouch for manifest\.json"):
        signature.verify(bundle, signers)


def test_a_signature_that_was_made_for_something_else(bundle: Path, quality: Path, signers: Path) -> None:
    sign(bundle, quality, namespace="git")
    with pytest.raises(SignatureError, match=r"does not vouch for manifest\.json"):
        signature.verify(bundle, signers)


def test_a_key_that_is_no_longer_valid(bundle: Path, quality: Path, signers: Path) -> None:
    sign(bundle, quality)
    name, key = signers.read_text().split(" ", 1)
    signers.write_text(f'{name} valid-before="20200101" {key}')
    with pytest.raises(SignatureError):
        signature.verify(bundle, signers)


@pytest.mark.parametrize("content", ["", "no signature at all", "-----BEGIN SSH SIGNATURE-----\n"])
def test_a_damaged_signature(bundle: Path, signers: Path, content: str) -> None:
    (bundle / manifest.SIGNATURE_FILE).write_text(content)
    with pytest.raises(SignatureError):
        signature.verify(bundle, signers)


def test_no_list_of_signers(bundle: Path, quality: Path, tmp_path: Path) -> None:
    sign(bundle, quality)
    with pytest.raises(SignatureError, match="must list who may sign, does not exist"):
        signature.verify(bundle, tmp_path / "nowhere")
