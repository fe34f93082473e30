"""Who may associate with the node: an allow-list of calling AE title and host, on by default.

An empty list admits nobody. Result, source and reason are those of A-ASSOCIATE-RJ, PS3.8 9.3.4.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from dicom_node.errors import SettingsError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ANY_HOST = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an association is rejected: result, source and reason for the peer (PS3.8 9.3.4), ``text`` for the operator."""

    result: int
    source: int
    reason: int
    text: str


@dataclass(frozen=True, slots=True)
class Caller:
    """What is known of a peer that asks for an association. ``host``: the address the connection comes from.

    ``tls_names``: common name and DNS names of its verified certificate. ``user``: who it has proved to be; empty: nobody.
    """

    calling_ae: str
    called_ae: str
    host: str
    tls_names: tuple[str, ...] = ()
    user: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class AllowedPeer:
    """A calling AE title ("*": any) and the networks it may call from: addresses or CIDR ("10.1.2.3", "10.1.0.0/16").

    ``called_ae``: the title it must call, which is then as good as the node's own; empty: the node's. ``tls_subject``: the
    common name or DNS name its certificate must have; empty: any. ``users``: who must identify themselves by name and
    passcode (PS3.7 D.3.3.7); empty: nobody need. Raises SettingsError for what is no address or network.
    """

    ae_title: str
    networks: tuple[str, ...]
    called_ae: str = ""
    tls_subject: str = ""
    users: tuple[str, ...] = ()
    _parsed: tuple[Network, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parsed", tuple(_network(text, self.ae_title) for text in self.networks))

    def admits(self, calling_ae: str, host: str) -> bool:
        """``host``: the address the connection comes from."""
        if self.ae_title not in ("*", calling_ae):
            return False
        address = _address(host)
        return address is not None and any(address in network for network in self._parsed)

    def certified(self, caller: Caller) -> bool:
        return self.tls_subject in ("", *caller.tls_names)

    def identified(self, caller: Caller) -> bool:
        return not self.users or caller.user in self.users


@dataclass(frozen=True, slots=True)
class AssociationPolicy:
    """``ae_title``: the node's own, which peers must call when ``require_called_ae``."""

    ae_title: str
    allowed: tuple[AllowedPeer, ...]
    require_called_ae: bool = True
    max_associations: int = 100

    def judge(self, caller: Caller, associations: int) -> Rejection | None:
        """None accepts. ``associations``: how many are open, this one not counted."""
        known = [peer for peer in self.allowed if peer.admits(caller.calling_ae, caller.host)]
        if not known:
            return Rejection(1, 1, 3, self._not_allowed(caller))
        certified = [peer for peer in known if peer.certified(caller)]
        if not certified:
            return Rejection(1, 1, 3, f"{_who(caller)} did not show the certificate that its entry in the allow-list asks for")
        called = [peer for peer in certified if self._called(peer, caller)]
        if not called:
            return Rejection(1, 1, 7, f"{_who(caller)} called {caller.called_ae!r}; this node is {self.ae_title!r}")
        if not any(peer.identified(caller) for peer in called):
            return Rejection(1, 2, 1, f"{_who(caller)} did not prove to be a user that its entry in the allow-list names")
        if associations >= self.max_associations:
            return Rejection(2, 3, 2, f"{_who(caller)} came while {associations} associations were open, the most allowed")
        return None

    def _called(self, peer: AllowedPeer, caller: Caller) -> bool:
        if peer.called_ae:
            return caller.called_ae == peer.called_ae
        return not self.require_called_ae or caller.called_ae == self.ae_title

    def _not_allowed(self, caller: Caller) -> str:
        if any(peer.ae_title == caller.calling_ae for peer in self.allowed):
            return f"{_who(caller)} is not allowed from this host; add the host to its entry in the allow-list"
        return f"{_who(caller)} is not on the allow-list"


def _who(caller: Caller) -> str:
    return f"AE {caller.calling_ae!r} at {caller.host}"


def _network(text: str, ae_title: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise SettingsError(f"Allowed peer {ae_title!r}: {text!r} is not an address or network such as 10.1.0.0/16") from error


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
