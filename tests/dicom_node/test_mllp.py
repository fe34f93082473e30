"""HL7 receivers, against a real MLLP server (the package `hl7`, asyncio) and against peers that lie, drip and hang up."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.errors import PeerRefused, PeerUnavailable
from dicom_node.remote.mllp import Hl7Peer, TlsFiles, reach, send
from reporting.context import DocumentKind
from reporting.documents import build_documents
from tests.mllp_receiver import Receiver
from tests.reporting.samples import OPTIONS, context, header, reading

ORU = replace(OPTIONS, kinds=frozenset({DocumentKind.HL7_ORU}))
MESSAGE = build_documents(reading(), context(header(PatientName="Müller^Jörg")), ORU)[0].content
CONTROL = MESSAGE.split(b"|")[9].decode()


@contextmanager
def saying(answer: Callable[[socket.socket], None]) -> Iterator[Hl7Peer]:
    """A raw peer that reads one frame and then does as told."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            held = b""
            while b"\x1c\r" not in held:
                held += connection.recv(65536)
            answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Hl7Peer("127.0.0.1", listener.getsockname()[1], timeout_s=1)
    finally:
        thread.join(5)
        listener.close()


def ack(code: str = "AA", control: str = CONTROL, more: str = "") -> bytes:
    return f"\x0bMSH|^~\\&|RIS||||||ACK|1|P|2.5.1\rMSA|{code}|{control}\r{more}\x1c\r".encode()


def test_a_message_is_addressed_sent_and_acknowledged() -> None:
    with Receiver("AA") as receiver:
        assert send(Hl7Peer("127.0.0.1", receiver.port, "RIS", "HOSPITAL"), MESSAGE) == "AA"
    (message,) = receiver.got
    assert (str(message["MSH.F5"]), str(message["MSH.F6"])) == ("RIS", "HOSPITAL")
    assert str(message["PID.F5.R1.C1"]) == "Müller"
    assert str(message["MSH.F18"]) == "UNICODE UTF-8"


def test_another_character_set() -> None:
    with Receiver("AA", encoding="iso-8859-1") as receiver:
        send(Hl7Peer("127.0.0.1", receiver.port, charset="iso-8859-1"), MESSAGE)
    (message,) = receiver.got
    assert str(message["PID.F5.R1.C1"]) == "Müller"
    assert str(message["MSH.F18"]) == "8859/1"


def test_punctuation_of_ours_that_the_character_set_lacks_is_written_plainly() -> None:
    phantom = build_documents(reading(phantom=True), context(), ORU)[0].content
    assert "phantom – not for patients" in phantom.decode()
    with Receiver("AA", encoding="iso-8859-1") as receiver:
        send(Hl7Peer("127.0.0.1", receiver.port, charset="iso-8859-1"), phantom)
    assert "phantom - not for patients" in str(receiver.got[0])


def test_text_the_character_set_lacks_is_refused() -> None:
    greek = build_documents(reading(), context(header(PatientName="Διονυσιος")), ORU)[0].content
    with pytest.raises(PeerRefused, match="set charset: utf-8") as refused:
        send(Hl7Peer("127.0.0.1", 1, charset="iso-8859-1"), greek)
    assert "Διον" not in str(refused.value)


@pytest.mark.parametrize(
    ("code", "raised"),
    [("AE", PeerRefused), ("AR", PeerUnavailable)],
    ids=["error in the message", "refused for other reasons"],
)
def test_negative_acknowledgements_of_a_real_server(code: str, raised: type[Exception]) -> None:
    with Receiver(code) as receiver, pytest.raises(raised, match=f"answered {code}"):
        send(Hl7Peer("127.0.0.1", receiver.port), MESSAGE)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda c: c.sendall(ack(control="OTHER")), "another message"),
        (lambda c: c.sendall(ack(code="??")), "another message"),
        (lambda c: c.sendall(b"\x0bHTTP/1.1 400 Bad Request\x1c\r"), "another message, or none"),
        (lambda _: None, "hung up"),
        (lambda c: c.sendall(ack()[:-2]), "hung up"),
        (lambda c: c.sendall(b"x" * (1 << 20) + b"x"), "more than an acknowledgement"),
        (lambda c: c.recv(1), "within 1 s|no answer in time"),
    ],
    ids=["other control id", "unknown code", "not HL7", "hangs up", "frame without end", "endless", "silent"],
)
def test_whatever_is_no_acknowledgement_is_tried_again(answer: Callable[[socket.socket], None], said: str) -> None:
    with saying(answer) as peer, pytest.raises(PeerUnavailable, match=said):
        send(peer, MESSAGE)


def test_an_acknowledgement_in_pieces_counts() -> None:
    def drip(connection: socket.socket) -> None:
        for byte in ack("CA"):
            connection.sendall(bytes([byte]))

    with saying(drip) as peer:
        assert send(peer, MESSAGE) == "CA"


def test_error_codes_are_told_and_their_texts_are_not() -> None:
    more = "ERR||PID^1^5|101^Required field missing^HL70357|E||||Müller^Jörg is unknown\r"
    with saying(lambda c: c.sendall(ack("AE", more=more))) as peer, pytest.raises(PeerRefused) as refused:
        send(peer, MESSAGE)
    assert "101 at PID^1^5" in str(refused.value)
    assert "Müller" not in str(refused.value)


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for call in (lambda p: send(p, MESSAGE), reach):
        with pytest.raises(PeerUnavailable, match=r"mllp://127\.0\.0\.1"):
            call(Hl7Peer("127.0.0.1", port, timeout_s=2))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    now = datetime.datetime.now(datetime.UTC)
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(host, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "node.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "node.key").write_bytes(private)
    return folder


def test_tls_with_both_sides_known(authority: Path) -> None:
    files = TlsFiles(authority / "node.pem", authority / "node.pem", authority / "node.key")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority / "node.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(authority / "node.pem", authority / "node.key")
    with Receiver("AA", server) as receiver:
        peer = Hl7Peer("127.0.0.1", receiver.port, tls=files, timeout_s=5)
        assert send(peer, MESSAGE) == "AA"
        with pytest.raises(PeerUnavailable):
            send(replace(peer, tls=TlsFiles(authority / "node.pem")), MESSAGE)  # no certificate of ours
        with pytest.raises(PeerUnavailable, match="TLS failed"):
            send(replace(peer, tls=TlsFiles()), MESSAGE)  # not an authority of the system
    assert len(receiver.got) == 1


def test_tls_files_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = Hl7Peer("127.0.0.1", listener.getsockname()[1], tls=TlsFiles(tmp_path / "ca.pem"))
        with pytest.raises(PeerUnavailable, match="check its `tls`"):
            send(peer, MESSAGE)


def test_a_receiver_without_tls_is_told_apart() -> None:
    with Receiver("AA") as receiver, warnings.catch_warnings(), pytest.raises(PeerUnavailable):
        send(Hl7Peer("127.0.0.1", receiver.port, tls=TlsFiles(), timeout_s=2), MESSAGE)
