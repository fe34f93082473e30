"""The association request and its answer. pynetdicom decodes it, negotiates contexts and roles, and encodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pynetdicom import pdu as codec
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import negotiate_as_acceptor

from dicom_node.ingest import pdu
from dicom_node.ingest.contexts import supported_for
from dicom_node.ingest.line import BUFFER, Line
from dicom_node.ingest.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from dicom_node.ingest.services import Context, Offer

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_MAX_REQUEST = 1 << 20  # bytes; 128 contexts with every transfer syntax have 170,000
_PROTOCOL_VERSION = 1
_ACCEPTED = 0
_CONTEXT_NOT_SUPPORTED = (1, 1, 2)  # A-ASSOCIATE-RJ, PS3.8 9.3.4
_VERSION_NOT_SUPPORTED = (1, 2, 2)


class Unacceptable(Exception):  # noqa: N818
    """The request is rejected, whoever sends it. ``answer``: result, source and reason (PS3.8 9.3.4)."""

    def __init__(self, text: str, answer: tuple[int, int, int]) -> None:
        super().__init__(text)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Request:
    """An association request. ``max_pdu``: what the peer takes, in bytes; 0: any. ``primitive``: pynetdicom's form of it."""

    calling_ae: str
    called_ae: str
    max_pdu: int
    identity: UserIdentityNegotiation | None
    primitive: Any


def read_request(line: Line) -> Request:
    """Wait for an A-ASSOCIATE-RQ. Raises Fault where something else comes, Unacceptable, Lost, Silent."""
    head = bytes(line.fetch(pdu.HEADER.size, BUFFER))
    kind, length = pdu.HEADER.unpack(head)
    if kind != pdu.ASSOCIATE_RQ:
        raise pdu.Fault(f"a PDU of type 0x{kind:02X} came in place of an association request", source=pdu.SERVICE_USER)
    if length > _MAX_REQUEST:
        raise pdu.Fault(f"an association request of {length} bytes", source=pdu.SERVICE_USER)
    body = bytearray(head)
    while (missing := len(head) + length - len(body)) > 0:
        body += line.fetch(min(missing, BUFFER))
    return _decoded(bytes(body))


def _decoded(data: bytes) -> Request:
    try:
        request = codec.A_ASSOCIATE_RQ()
        request.decode(data)
        primitive = request.to_primitive()
        items = list(primitive.user_information)
        calling, called = primitive.calling_ae_title.strip(), primitive.called_ae_title.strip()
    except Exception as error:  # pynetdicom raises of every kind on bytes that are no request
        text = "an association request that cannot be decoded"
        raise pdu.Fault(f"{text} ({type(error).__name__})", source=pdu.SERVICE_USER) from error
    if not request.protocol_version & _PROTOCOL_VERSION:
        raise Unacceptable("a protocol version that is not supported", _VERSION_NOT_SUPPORTED)
    if primitive.application_context_name != APPLICATION_CONTEXT:
        raise Unacceptable("an application context that is not DICOM's", _CONTEXT_NOT_SUPPORTED)
    lengths = [item.maximum_length_received for item in items if isinstance(item, MaximumLengthNotification)]
    identities = [item for item in items if isinstance(item, UserIdentityNegotiation)]
    return Request(calling, called, lengths[0] if lengths else 0, identities[0] if identities else None, primitive)


def accept(request: Request, offer: Offer, max_pdu: int, confirm_user: bool) -> tuple[bytes, dict[int, Context]]:
    """The A-ASSOCIATE-AC to send, and what it accepts. ``confirm_user``: the identity that the peer gave was verified."""
    proposed = request.primitive.presentation_context_definition_list
    wished = {
        item.sop_class_uid: (item.scu_role, item.scp_role)
        for item in request.primitive.user_information
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation)
    }
    results, roles = negotiate_as_acceptor(proposed, supported_for(proposed, offer), wished)
    answer = A_ASSOCIATE()
    answer.application_context_name = APPLICATION_CONTEXT
    answer.calling_ae_title, answer.called_ae_title = request.calling_ae, request.called_ae
    answer.result, answer.result_source = _ACCEPTED, 1
    answer.presentation_context_definition_results_list = results
    answer.user_information = [*_ours(max_pdu), *roles, *(_confirmed(request) if confirm_user else ())]
    encoded = codec.A_ASSOCIATE_AC()
    encoded.from_primitive(answer)
    contexts = {
        one.context_id: Context(
            str(one.abstract_syntax), str(one.transfer_syntax[0]), one.context_id, bool(one.as_scp), bool(one.as_scu)
        )
        for one in results
        if one.result == _ACCEPTED
    }
    return bytes(encoded.encode()), contexts


def _ours(max_pdu: int) -> list[Any]:
    length, uid, version = (
        MaximumLengthNotification(),
        ImplementationClassUIDNotification(),
        ImplementationVersionNameNotification(),
    )
    length.maximum_length_received = max_pdu
    uid.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version.implementation_version_name = IMPLEMENTATION_VERSION
    return [length, uid, version]


def _confirmed(request: Request) -> list[Any]:
    """The positive response, where the peer asked for one; for a name and a passcode it is empty (PS3.7 D.3.3.7.2)."""
    if request.identity is None or not request.identity.positive_response_requested:
        return []
    response = UserIdentityNegotiation()
    response.server_response = b""
    return [response]
