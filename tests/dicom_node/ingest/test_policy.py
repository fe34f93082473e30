"""Who is let in, and what the others are told."""

from __future__ import annotations

import pytest

from dicom_node.errors import SettingsError
from dicom_node.ingest.limiter import EventLimiter
from dicom_node.ingest.policy import ANY_HOST, AllowedPeer, AssociationPolicy, Caller

POLICY = AssociationPolicy(
    "WETREAD",
    (
        AllowedPeer("PACS", ("10.1.0.0/16", "192.168.1.7")),
        AllowedPeer("CT1", ("2001:db8::/32",)),
        AllowedPeer("OPEN", ANY_HOST),
    ),
    max_associations=3,
)


@pytest.mark.parametrize(
    ("calling", "called", "host", "associations", "expected"),
    [
        pytest.param("PACS", "WETREAD", "10.1.2.3", 0, None, id="in the network"),
        pytest.param("PACS", "WETREAD", "192.168.1.7", 2, None, id="the single address"),
        pytest.param("PACS", "WETREAD", "::ffff:10.1.2.3", 0, None, id="IPv4 seen through IPv6"),
        pytest.param("CT1", "WETREAD", "2001:db8::5%eth0", 0, None, id="IPv6 with a zone"),
        pytest.param("OPEN", "WETREAD", "203.0.113.9", 0, None, id="any host"),
        pytest.param("PACS", "WETREAD", "192.168.1.8", 0, (1, 1, 3), id="another host"),
        pytest.param("CT1", "WETREAD", "10.1.2.3", 0, (1, 1, 3), id="another peer's host"),
        pytest.param("pacs", "WETREAD", "10.1.2.3", 0, (1, 1, 3), id="AE titles are case-sensitive"),
        pytest.param("", "WETREAD", "10.1.2.3", 0, (1, 1, 3), id="no AE title"),
        pytest.param("PACS", "WETREAD", "not an address", 0, (1, 1, 3), id="no address"),
        pytest.param("PACS", "OTHER", "10.1.2.3", 0, (1, 1, 7), id="another called AE"),
        pytest.param("NOBODY", "OTHER", "10.1.2.3", 9, (1, 1, 3), id="a stranger learns nothing else"),
        pytest.param("PACS", "WETREAD", "10.1.2.3", 3, (2, 3, 2), id="too many"),
    ],
)
def test_judgement(calling: str, called: str, host: str, associations: int, expected: tuple[int, int, int] | None) -> None:
    rejection = POLICY.judge(Caller(calling, called, host), associations)
    assert (rejection and (rejection.result, rejection.source, rejection.reason)) == expected


def test_an_empty_list_admits_nobody() -> None:
    assert AssociationPolicy("WETREAD", ()).judge(Caller("PACS", "WETREAD", "127.0.0.1"), 0) is not None


def test_the_called_ae_may_be_left_open() -> None:
    policy = AssociationPolicy("WETREAD", (AllowedPeer("*", ANY_HOST),), require_called_ae=False)
    assert policy.judge(Caller("PACS", "WHATEVER", "127.0.0.1"), 0) is None


def test_a_wrong_network_is_a_setting_that_names_itself() -> None:
    with pytest.raises(SettingsError, match=r"'PACS'.*'10\.1\.0\.0/99'.*such as"):
        AllowedPeer("PACS", ("10.1.0.0/99",))


def test_a_known_peer_on_a_wrong_host_is_told_apart_for_the_operator() -> None:
    known = POLICY.judge(Caller("PACS", "WETREAD", "192.168.1.8"), 0)
    stranger = POLICY.judge(Caller("NOBODY", "WETREAD", "192.168.1.8"), 0)
    assert known is not None
    assert stranger is not None
    assert "add the host" in known.text
    assert "not on the allow-list" in stranger.text


def test_the_limiter_lets_one_a_minute_through_and_counts_the_rest() -> None:
    limiter = EventLimiter(60.0)
    assert [limiter.admit("a", now) for now in (0.0, 1.0, 59.0, 60.0, 61.0)] == [0, None, None, 2, None]
    assert limiter.admit("b", 2.0) == 0


def test_the_limiter_does_not_grow_for_ever() -> None:
    limiter = EventLimiter(60.0)
    for number in range(3000):
        limiter.admit(str(number), float(number) / 1000)
    assert len(limiter._seen) == 1000
