"""From the settings to the destinations of the outbox: whom to call, how, and under what limits."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from dicom_node.errors import ListenError, SettingsError
from dicom_node.settings import (
    Destination,
    DicomDestination,
    FhirDestination,
    FolderDestination,
    FsspecDestination,
    Hl7Destination,
    Settings,
    StowDestination,
    TlsSettings,
    WebhookDestination,
)

if TYPE_CHECKING:
    from dicom_node.delivery.destination import CommitmentPolicy, Send
    from dicom_node.delivery.destination import Destination as Target
    from dicom_node.delivery.retry import RetryPolicy
    from dicom_node.remote.bucket import Bucket
    from dicom_node.remote.dimse import DicomPeer
    from dicom_node.remote.fhir import FhirPeer
    from dicom_node.remote.http import HttpPeer
    from dicom_node.remote.mllp import Hl7Peer
    from dicom_node.remote.tls import TlsFiles
    from dicom_node.storage.database import Database

_LISTEN_AGAIN_S: Final = 15.0
_log = structlog.get_logger()


def targets(settings: Settings, db: Database) -> dict[str, Target]:
    """Every destination of the settings, by name."""
    return {name: _target(settings, one, db) for name, one in settings.destinations.items()}


def retry_policy(settings: Settings) -> RetryPolicy:
    """How deliveries are tried again."""
    from dicom_node.delivery.breaker import BreakerPolicy
    from dicom_node.delivery.retry import RetryPolicy

    wished = settings.delivery
    longest_s = min(wished.breaker_longest_s, wished.max_retry_s)
    return RetryPolicy(
        wished.first_retry_s,
        wished.max_retry_s,
        wished.give_up_hours * 3600,
        wished.poll_seconds,
        lease_s=wished.lease_seconds,
        patience_s=patience_seconds(settings.destinations.values()),
        breaker=BreakerPolicy(wished.breaker_failures, min(wished.first_retry_s, longest_s), longest_s),
    )


def patience_seconds(destinations: Iterable[Destination]) -> float:
    """Longer than one document can take: connect, negotiate, send and answer each have the destination's timeout."""
    return 60 + 4 * max((one.timeout_s for one in destinations if not isinstance(one, FolderDestination)), default=15.0)


def dicom_peer(settings: Settings, wished: DicomDestination) -> DicomPeer:
    """Where a destination of kind dicom is called. Paths are made absolute."""
    from dicom_node.remote.dimse import DicomPeer

    tls = _tls(settings, wished.tls) if wished.tls else None
    return DicomPeer(wished.host, wished.port, wished.ae_title, wished.calling_ae_title, wished.timeout_s, tls)


def hl7_peer(settings: Settings, wished: Hl7Destination) -> Hl7Peer:
    """Where a destination of kind hl7 is called. Paths are made absolute."""
    from dicom_node.remote.mllp import Hl7Peer

    tls = _tls(settings, wished.tls) if wished.tls else None
    return Hl7Peer(wished.host, wished.port, wished.application, wished.facility, wished.charset, tls, wished.timeout_s)


def fhir_peer(settings: Settings, wished: FhirDestination) -> FhirPeer:
    """Where a destination of kind fhir is called. Paths are made absolute."""
    from dicom_node.remote.fhir import FhirPeer

    token, basic = _path(settings, wished.token_file), _path(settings, wished.basic_file)
    return FhirPeer(wished.url, token, wished.timeout_s, basic, _tls(settings, wished.tls))


def http_peer(settings: Settings, wished: StowDestination | WebhookDestination) -> HttpPeer:
    """Where a destination of kind stow or webhook is called. Paths are made absolute."""
    from dicom_node.remote.http import HttpPeer

    tls = _tls(settings, wished.tls)
    if isinstance(wished, WebhookDestination):
        return HttpPeer(wished.url, timeout_s=wished.timeout_s, tls=tls)
    token, basic = _path(settings, wished.token_file), _path(settings, wished.basic_file)
    return HttpPeer(wished.url, token, wished.timeout_s, basic, tls)


def bucket(settings: Settings, wished: FsspecDestination) -> Bucket:
    """Where a destination of kind fsspec lies."""
    from dicom_node.remote.bucket import Bucket

    return Bucket(wished.url, _path(settings, wished.options_file), wished.timeout_s)


def tell_reports(settings: Settings, db: Database, stop: threading.Event) -> None:
    """Listen for storage commitment reports until ``stop``; returns at once where no destination asks for commitment.

    An address that cannot be had is told and tried again: deliveries go on without it, and what awaits a report waits.
    """
    from dicom_node.delivery.committing import hear
    from dicom_node.remote.commitment import ReportListener

    asked = {n: one for n, one in settings.destinations.items() if isinstance(one, DicomDestination) and one.commitment}
    if not asked:
        return
    wished, retry = settings.commitment, retry_policy(settings)
    policies = {name: (_commitment(settings, one), retry) for name, one in asked.items()}
    own, theirs = ({getattr(one, key) for one in asked.values()} for key in ("calling_ae_title", "ae_title"))
    while not stop.is_set():
        try:
            tls = _server_tls(settings)
            listener = ReportListener(wished.host, wished.port, own, theirs, partial(hear, db, policies), tls)
            listener.start()
        except (ListenError, SettingsError) as error:
            _log.error("commitment reports cannot be received", error=str(error))
            stop.wait(_LISTEN_AGAIN_S)
            continue
        _log.info("listening for commitment reports", host=wished.host, port=listener.port)
        stop.wait()
        listener.stop()


def _target(settings: Settings, wished: Destination, db: Database) -> Target:
    from dicom_node.delivery import sending
    from dicom_node.delivery.destination import Destination as Target
    from dicom_node.delivery.destination import one_by_one

    if isinstance(wished, DicomDestination):
        commitment = _commitment(settings, wished) if wished.commitment else None
        send = partial(sending.to_dicom, dicom_peer(settings, wished))
        return Target(send, wished.batch, wished.concurrency, commitment)
    if isinstance(wished, StowDestination):
        return Target(partial(sending.to_stow, http_peer(settings, wished), wished.confirm), wished.batch, wished.concurrency)
    if isinstance(wished, WebhookDestination):
        hook = sending.Webhook(http_peer(settings, wished), settings.path(wished.secret_file), wished.study, wished.links)
        return Target(partial(sending.to_webhook, hook, db), 1, wished.concurrency)
    return Target(one_by_one(_send(settings, wished)), 1, wished.concurrency)


def _send(settings: Settings, wished: FhirDestination | Hl7Destination | FolderDestination | FsspecDestination) -> Send:
    from dicom_node.delivery import sending
    from dicom_node.remote.fhir_delivery import FhirServer

    if isinstance(wished, FolderDestination):
        return partial(sending.to_folder, settings.path(wished.path))
    if isinstance(wished, FsspecDestination):
        return partial(sending.to_bucket, bucket(settings, wished))
    if isinstance(wished, Hl7Destination):
        return partial(sending.to_hl7, hl7_peer(settings, wished))
    return partial(sending.to_fhir, FhirServer(fhir_peer(settings, wished), confirm=wished.confirm))


def _commitment(settings: Settings, wished: DicomDestination) -> CommitmentPolicy:
    from dicom_node.delivery.destination import CommitmentPolicy
    from dicom_node.remote.commitment import CommitmentPeer

    whom = CommitmentPeer(dicom_peer(settings, wished))
    return CommitmentPolicy(whom, wished.commitment_timeout_s, settings.commitment.asks, settings.commitment.sends)


def _tls(settings: Settings, wished: TlsSettings) -> TlsFiles:
    from dicom_node.remote.tls import TlsFiles

    return TlsFiles(*(_path(settings, file) for file in (wished.ca_file, wished.certificate_file, wished.key_file)))


def _server_tls(settings: Settings) -> ssl.SSLContext | None:
    from dicom_node.remote.tls import server_context

    return server_context(_tls(settings, settings.commitment.tls)) if settings.commitment.tls else None


def _path(settings: Settings, file: Path | None) -> Path | None:
    return settings.path(file) if file else None
