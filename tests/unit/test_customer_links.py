"""Links out of e-mails: signed for one purpose, limited in time, readable by nobody else."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.fernet import Fernet, InvalidToken
from itsdangerous import URLSafeSerializer

from portal.settings import Settings
from portal.web.signing import ORDER_PATH, SIGN_IN_PATH, Links, digest, signing_keys

NOW = 1_700_000_000.0


def settings(**values: object) -> Settings:
    return Settings(**{"secret_key": "k" * 32, "portal_base_url": "https://orders.example/shop", **values})


def token(url: str) -> str:
    return urlsplit(url).path.rsplit("/", 1)[1]


def sign_in_link(links: Links) -> str:
    return links.sign_in(email="ada@lovelace.example", contact_id="003A", account_id="001A", now=NOW)


def test_a_sign_in_link_says_who_and_until_when() -> None:
    links = Links(settings())
    url = sign_in_link(links)
    assert url.startswith(f"https://orders.example/shop{SIGN_IN_PATH}")
    read = links.read_sign_in(token(url))
    assert read is not None
    assert (read.email, read.contact_id, read.account_id) == ("ada@lovelace.example", "003A", "001A")
    assert read.expires_at == NOW + 15 * 60


def test_two_links_are_never_the_same() -> None:
    links = Links(settings())
    ids = {links.read_sign_in(token(sign_in_link(links))).id for _ in range(5)}  # type: ignore[union-attr]
    assert len(ids) == 5


def test_no_address_can_be_read_out_of_a_link() -> None:
    text = token(sign_in_link(Links(settings())))
    _, told = URLSafeSerializer("another key").loads_unsafe(text)
    assert told[1:3] == ["003A", "001A"], "what anybody can read of it"
    assert "lovelace" not in text + str(told)
    with pytest.raises(InvalidToken):
        Fernet(base64.urlsafe_b64encode(b"z" * 32)).decrypt(told[3])


def test_a_link_is_good_for_its_purpose_only() -> None:
    links = Links(settings())
    order = token(links.order(reference="PO-AAAA-BBBB", account_id="001A", now=NOW))
    assert links.read_sign_in(order) is None
    assert links.read_order(token(sign_in_link(links))) is None
    read = links.read_order(order)
    assert read is not None
    assert read.reference == "PO-AAAA-BBBB"
    assert read.expires_at == NOW + 30 * 24 * 3600
    assert ORDER_PATH in links.order(reference="x", account_id="y", now=NOW)


@pytest.mark.parametrize("other", [{"secret_key": "z" * 32}, {"secret_key": None}])
def test_only_our_key_makes_links(other: dict[str, object], tmp_path: Path) -> None:
    url = sign_in_link(Links(settings()))
    assert Links(settings(portal_var_dir=tmp_path, **other)).read_sign_in(token(url)) is None


def test_a_changed_link_is_no_link() -> None:
    links = Links(settings())
    text = token(sign_in_link(links))
    for index in range(0, len(text), 7):
        changed = text[:index] + ("A" if text[index] != "A" else "B") + text[index + 1 :]
        assert links.read_sign_in(changed) is None
    for nonsense in ("", ".", "a.b.c", "\u2603", text[:-4], text.rsplit(".", 1)[0]):
        assert links.read_sign_in(nonsense) is None
        assert links.read_order(nonsense) is None


def test_links_outlive_a_rotation_of_the_key() -> None:
    old = Links(settings())
    new = Links(settings(secret_key="n" * 32, secret_key_previous="k" * 32))
    assert new.read_sign_in(token(sign_in_link(old))) is not None
    assert old.read_sign_in(token(sign_in_link(new))) is None


def test_development_keeps_a_key_of_its_own(tmp_path: Path) -> None:
    mine = settings(secret_key=None, portal_var_dir=tmp_path / "new")
    first = signing_keys(mine)
    assert signing_keys(mine) == first
    assert len(first[0]) == 64
    assert os.stat(tmp_path / "new" / "secret_key").st_mode & 0o777 == 0o600


def test_digests_of_one_secret_differ_by_purpose() -> None:
    assert digest("session", "x") != digest("link", "x")
