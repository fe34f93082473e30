"""The listener that the node's settings ask for."""

from __future__ import annotations

from dicom_node.errors import SettingsError
from dicom_node.ingest.listener import ListenerSettings
from dicom_node.ingest.policy import ANY_HOST, AllowedPeer
from dicom_node.ingest.tls import TlsFiles
from dicom_node.settings import Settings
from dicom_node.storage.instances import ConflictRule


def listener_settings(settings: Settings) -> ListenerSettings:
    """Paths are made absolute. Raises SettingsError for what is no address or network, or would admit nobody."""
    wished = settings.listener
    if any(peer.tls_subject for peer in wished.allowed) and (wished.tls is None or wished.tls.ca_file is None):
        raise SettingsError(
            "key 'listener.allowed': a peer with tls_subject needs 'listener.tls.ca_file', else nobody is admitted"
        )
    if any(peer.users for peer in wished.allowed) and wished.passcodes_file is None:
        raise SettingsError(
            "key 'listener.allowed': a peer with users needs 'listener.passcodes_file', else nobody is admitted"
        )
    allowed = tuple(
        AllowedPeer(peer.ae_title, peer.hosts, peer.called_ae or "", peer.tls_subject, peer.users) for peer in wished.allowed
    )
    return ListenerSettings(
        ae_title=wished.ae_title,
        host=wished.host,
        port=wished.port,
        allowed=(AllowedPeer("*", ANY_HOST),) if wished.allow_any else allowed,
        require_called_ae=wished.require_called_ae,
        max_associations=wished.max_associations,
        watermark_bytes=wished.watermark_mb * 2**20,
        idle_timeout_s=wished.idle_timeout_s,
        acse_timeout_s=wished.request_timeout_s,
        extra_sop_classes=wished.extra_sop_classes,
        tls=_tls(settings),
        passcodes=settings.path(wished.passcodes_file) if wished.passcodes_file else None,
        durable=wished.durability == "full",
        conflicts=ConflictRule(wished.conflicts),
        tells_ends=_tells_ends(settings),
        processes=wished.processes,
    )


def _tells_ends(settings: Settings) -> bool:
    """Whether anything of the settings looks at the ends of associations."""
    rules = (rule.association_end_seconds for rule in settings.study.rules)
    return any(seconds is not None for seconds in (settings.study.association_end_seconds, *rules))


def _tls(settings: Settings) -> TlsFiles | None:
    wished = settings.listener.tls
    if wished is None:
        return None
    ca = settings.path(wished.ca_file) if wished.ca_file else None
    return TlsFiles(settings.path(wished.certificate_file), settings.path(wished.key_file), ca)
