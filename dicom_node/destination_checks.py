"""`wetread check` for destinations: each kind of peer is tried by its own means."""

from __future__ import annotations

import os
from pathlib import Path

from dicom_node.check_item import PEER_LIMIT_S, Item, State, nearest_existing
from dicom_node.delivery.destinations import bucket, dicom_peer, fhir_peer, hl7_peer, http_peer
from dicom_node.errors import NodeError, PeerRefused
from dicom_node.remote import bucket as place
from dicom_node.remote import stow, webhook
from dicom_node.remote.commitment import offer
from dicom_node.remote.dimse import echo
from dicom_node.remote.fhir_capabilities import capabilities
from dicom_node.remote.fhir_plan import KINDS, REPORT, contradictions, shortcomings
from dicom_node.remote.mllp import reach
from dicom_node.settings import (
    Destination,
    DicomDestination,
    FhirDestination,
    FolderDestination,
    FsspecDestination,
    Hl7Destination,
    Settings,
    StowDestination,
    WebhookDestination,
)


def check_destination(settings: Settings, name: str, wished: Destination) -> Item:
    """One destination, tried without storing anything there."""
    label = f"destination {name}"
    try:
        return _tried(label, settings, wished)
    except NodeError as error:
        return Item(label, State.FAILED, str(error))


def _tried(label: str, settings: Settings, wished: Destination) -> Item:
    if isinstance(wished, FolderDestination):
        return _folder(label, settings.path(wished.path))
    wished = wished.model_copy(update={"timeout_s": min(wished.timeout_s, PEER_LIMIT_S)})
    if isinstance(wished, DicomDestination):
        return _dicom(label, settings, wished)
    if isinstance(wished, Hl7Destination):
        receiver = hl7_peer(settings, wished)
        reach(receiver)
        return Item(label, State.OK, f"{receiver} takes connections; whether it takes messages shows with the first one")
    if isinstance(wished, StowDestination):
        return _stow(label, settings, wished)
    if isinstance(wished, WebhookDestination):
        peer = http_peer(settings, wished)
        webhook.read_secret(peer, settings.path(wished.secret_file))
        webhook.reach(peer)
        return Item(label, State.OK, f"{peer} answers; whether it takes notices shows with the first one")
    if isinstance(wished, FsspecDestination):
        place.reach(bucket(settings, wished))
        return Item(label, State.OK, f"{wished.url} can be listed; whether it can be written shows with the first document")
    return _record(label, settings, wished)


def _dicom(label: str, settings: Settings, wished: DicomDestination) -> Item:
    peer = dicom_peer(settings, wished)
    echo(peer)
    if not wished.commitment:
        return Item(label, State.OK, f"{peer} answers C-ECHO")
    offer(peer)
    port = settings.commitment.port
    return Item(label, State.OK, f"{peer} answers C-ECHO and offers storage commitment; its answers must come to port {port}")


def _stow(label: str, settings: Settings, wished: StowDestination) -> Item:
    stow.reach(http_peer(settings, wished))
    said = f"{wished.url} answers a search for studies (QIDO-RS)"
    if wished.url.startswith("http:") and (wished.token_file or wished.basic_file):
        return Item(label, State.WARNING, f"{said}; its login is sent unencrypted: use https")
    return Item(label, State.OK, said)


def _record(label: str, settings: Settings, wished: FhirDestination) -> Item:
    """What the FHIR server says of itself, and what of our documents will therefore be written otherwise, or not at all."""
    peer = fhir_peer(settings, wished)
    offered = capabilities(peer)
    chosen = settings.documents
    try:
        contradictions(offered, chosen.fhir_version)
    except PeerRefused as error:
        return Item(label, State.FAILED, f"{peer}: {error}")
    found = shortcomings(offered, KINDS, chosen.fhir_write)
    open_login = wished.url.startswith("http:") and (wished.token_file or wished.basic_file)
    notes = [*found, *(["its login is sent unencrypted: use https"] if open_login else [])]
    if offered.rules(REPORT) is None:
        return Item(label, State.FAILED, f"{peer}: {'; '.join(notes)}; nothing of a result can be written there")
    said = f"FHIR {offered.fhir_version}" if offered.fhir_version else "it tells nothing of itself; used as the settings say"
    state = State.WARNING if notes or not offered.fhir_version else State.OK
    return Item(label, state, "; ".join([f"{wished.url} answers, {said}", *notes]))


def _folder(label: str, folder: Path) -> Item:
    existing = nearest_existing(folder)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Item(label, State.FAILED, f"{existing} cannot be written; give the node's user the right, or change `path`")
    return Item(label, State.OK, f"{folder} {'can be written' if folder.exists() else 'will be made with the first delivery'}")
