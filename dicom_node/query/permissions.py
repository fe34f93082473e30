"""Who may ask for what: by calling AE title, which the listener's allow-list binds to hosts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dicom_node.peer_settings import QueryingPeer
from dicom_node.settings import Settings

NOT_AUTHORIZED = 0x0124  # PS3.7 C.5.14


@dataclass(frozen=True, slots=True)
class Permissions:
    """``peers``: by AE title."""

    peers: Mapping[str, QueryingPeer]

    def find(self, calling_ae: str) -> bool:
        peer = self.peers.get(calling_ae)
        return peer is not None and peer.find

    def get(self, calling_ae: str) -> bool:
        peer = self.peers.get(calling_ae)
        return peer is not None and peer.get

    def move(self, calling_ae: str) -> tuple[str, ...]:
        """To which AE titles."""
        peer = self.peers.get(calling_ae)
        return () if peer is None else peer.move_to

    def commitment(self, calling_ae: str) -> bool:
        peer = self.peers.get(calling_ae)
        return peer is not None and peer.commitment


def permissions(settings: Settings) -> Permissions:
    return Permissions({one.ae_title: one for one in settings.query.peers})
