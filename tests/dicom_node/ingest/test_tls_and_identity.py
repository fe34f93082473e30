"""TLS by BCP 195 with certificates of both sides, and users who prove who they are."""

from __future__ import annotations

import datetime
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydicom.dataset import Dataset

from dicom_node.errors import SettingsError
from dicom_node.ingest.identity import read_passcodes
from dicom_node.ingest.policy import AllowedPeer
from dicom_node.ingest.tls import TlsFiles, server_context
from tests.dicom_node.ingest.wire import Peer, associate_rq, data_set, store
from tests.support import peer_path

Start = Callable[..., Any]
LOCAL = ("127.0.0.0/8",)


@dataclass(frozen=True)
class Made:
    """A certificate and its key, in memory and as PEM files."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    pem: Path
    key_pem: Path


def _made(folder: Path, name: str, authority: Made | None = None, dns: str = "localhost") -> Made:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=False)
        .sign(authority.key if authority else key, hashes.SHA256())
    )
    pem, key_pem = folder / f"{name}.pem", folder / f"{name}.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = serialization.NoEncryption()
    key_pem.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
    return Made(certificate, key, pem, key_pem)


@dataclass(frozen=True)
class House:
    authority: Made
    node: Made
    modality: Made
    stranger: Made

    @property
    def files(self) -> TlsFiles:
        return TlsFiles(self.node.pem, self.node.key_pem, self.authority.pem)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = tmp_path_factory.mktemp("certificates")
    authority, other = _made(folder, "hospital"), _made(folder, "elsewhere")
    node, modality = _made(folder, "node", authority), _made(folder, "ct1", authority, "ct1.example")
    return House(authority, node, modality, _made(folder, "ct9", other))


def _client(house: House, who: Made | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(house.authority.pem))
    if who is not None:
        context.load_cert_chain(who.pem, who.key_pem)
    return context


def _call(port: int, context: ssl.SSLContext) -> Peer:
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    Peer.all_open.append(plain)
    line = context.wrap_socket(plain, server_hostname="localhost")
    Peer.all_open.append(line)
    return Peer(line)


def test_an_object_comes_over_tls_with_certificates_of_both_sides(start: Start, house: House) -> None:
    rule = AllowedPeer("SENDER", LOCAL, tls_subject="ct1")
    node = start(tls=house.files, allowed=(rule,))
    peer = _call(node.port, _client(house, house.modality))
    peer.send(associate_rq())
    assert peer.pdu()[0] == 2
    data = data_set("1.2.1", pixels=bytes(range(256)) * 3000)
    peer.send(store("1.2.1", data, step=16000))
    assert peer.status() == 0
    peer.release()
    (row,) = node.rows("1.2.1")
    assert node.files.path(row.path).read_bytes()[-row.size :] == data


def test_what_comes_while_the_node_stops_is_decrypted_or_not_taken(start: Start, house: House) -> None:
    looked, go_on = threading.Event(), threading.Event()

    def free_bytes(_path: Path) -> int:
        looked.set()
        assert go_on.wait(20)
        return 1 << 40

    node = start(free_bytes, tls=house.files)
    peer = _call(node.port, _client(house, house.modality))
    peer.send(associate_rq())
    assert peer.pdu()[0] == 2
    data = data_set("1.2.1", pixels=bytes(30_000))
    peer.send(store("1.2.1", data, step=40_000))
    assert looked.wait(20)
    (connection,) = node.listener._server._open
    connection.stop()  # the second half is in the system's hands, encrypted
    go_on.set()
    assert peer.status() == 0
    (row,) = node.rows("1.2.1")
    assert node.files.path(row.path).read_bytes()[-row.size :] == data


def test_who_never_ends_the_handshake_can_be_cut(start: Start, house: House) -> None:
    node = start(tls=house.files, acse_timeout_s=60.0)
    peer = Peer.call(node.port)
    _until(lambda: bool(node.listener._server._open))
    (connection,) = node.listener._server._open
    _until(lambda: isinstance(connection._socket, ssl.SSLSocket))
    connection.cut()
    assert peer.pdu() == (0, b"")


@pytest.mark.parametrize(
    ("subject", "accepted"),
    [
        pytest.param("ct1", True, id="its common name"),
        pytest.param("ct1.example", True, id="its DNS name"),
        pytest.param("", True, id="any"),
        pytest.param("ct2", False, id="another's"),
    ],
)
def test_the_allow_list_asks_for_a_certificate(start: Start, house: House, subject: str, accepted: bool) -> None:
    node = start(tls=house.files, allowed=(AllowedPeer("SENDER", LOCAL, tls_subject=subject),))
    peer = _call(node.port, _client(house, house.modality))
    peer.send(associate_rq())
    kind, body = peer.pdu()
    assert (kind, tuple(body[1:]) if kind == 3 else ()) == ((2, ()) if accepted else (3, (1, 1, 3)))
    assert accepted or "certificate" in node.events()[0].text


@pytest.mark.parametrize("who", ["nobody", "a stranger", "an old protocol", "in the clear"])
def test_others_do_not_get_through(start: Start, house: House, who: str) -> None:
    node = start(tls=house.files, acse_timeout_s=5.0)
    context = {
        "nobody": lambda: _client(house, None),
        "a stranger": lambda: _client(house, house.stranger),
        "an old protocol": lambda: _old_protocol(_client(house, house.modality)),
        "in the clear": lambda: None,
    }[who]()
    with suppress(ssl.SSLError, ConnectionError):  # TLS 1.3 tells of a refused certificate with the first read only
        peer = Peer.call(node.port) if context is None else _call(node.port, context)
        peer.send(associate_rq())
        assert peer.pdu()[0] != 2
    _until(lambda: bool(node.events()))
    assert node.listener.associations == 0
    assert [event.text.startswith("No TLS") for event in node.events()] == [True]


def _old_protocol(context: ssl.SSLContext) -> ssl.SSLContext:
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


@pytest.mark.skipif(not shutil.which("storescu", path=peer_path()), reason="DCMTK's storescu is not installed")
def test_dcmtk_sends_over_tls(
    start: Start, house: House, make: Callable[..., Dataset], send_file: Callable[[Dataset], Path]
) -> None:
    node = start(tls=house.files, allowed=(AllowedPeer("SENDER", LOCAL, tls_subject="ct1"),))
    program = shutil.which("storescu", path=peer_path())
    secure = ["+tls", house.modality.key_pem, house.modality.pem, "+cf", house.authority.pem]
    command = [program, *secure, "-aet", "SENDER", "-aec", "WETREAD", "127.0.0.1", node.port, send_file(make())]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(node.rows("1.2.3.4")) == 1


def test_only_forward_secret_authenticated_ciphers_are_offered(house: House) -> None:
    context = server_context(house.files)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    for cipher in context.get_ciphers():
        assert cipher["aead"], cipher["name"]
        assert cipher["kea"] in ("kx-ecdhe", "kx-any"), cipher["name"]


@pytest.mark.parametrize("broken", ["no such file", "not a certificate", "another's key"])
def test_files_that_cannot_be_used_are_named(house: House, tmp_path: Path, broken: str) -> None:
    file = tmp_path / "some.pem"
    if broken == "not a certificate":
        file.write_text("text")
    certificate = house.node.pem if broken == "another's key" else file
    key = house.modality.key_pem if broken == "another's key" else house.node.key_pem
    with pytest.raises(SettingsError, match=certificate.name):
        server_context(TlsFiles(certificate, key))


@pytest.fixture
def passcodes(tmp_path: Path) -> Path:
    file = tmp_path / "passcodes.yaml"
    file.write_text('ct1: "secret one"\nct2: "secret two"\n')
    file.chmod(0o600)
    return file


@pytest.mark.parametrize(
    ("identity", "accepted"),
    [
        pytest.param(("ct1", "secret one"), True, id="right"),
        pytest.param(("ct1", "secret two"), False, id="another's passcode"),
        pytest.param(("ct1", ""), False, id="no passcode"),
        pytest.param(("ct2", "secret two"), False, id="a user the rule does not name"),
        pytest.param(("nobody", ""), False, id="an unknown user"),
        pytest.param(None, False, id="no identity"),
    ],
)
def test_a_rule_may_ask_who_the_user_is(
    start: Start, passcodes: Path, identity: tuple[str, str] | None, accepted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    node = start(passcodes=passcodes, allowed=(AllowedPeer("SENDER", LOCAL, users=("ct1",)),))
    peer = Peer.call(node.port)
    peer.send(associate_rq(identity=identity))
    kind, body = peer.pdu()
    if accepted:
        assert kind == 2
        assert b"\x59\0\0\2\0\0" in body  # the positive response that was asked for
        peer.release()
    else:
        assert (kind, tuple(body[1:])) == (3, (1, 2, 1))
    told = capsys.readouterr()
    assert "secret" not in told.out + told.err + repr(node.events())


def test_an_identity_that_no_rule_asks_for_is_ignored(start: Start) -> None:
    node = start()
    peer = Peer.call(node.port)
    peer.send(associate_rq(identity=("somebody", "something")))
    kind, body = peer.pdu()
    assert kind == 2
    assert b"\x59\0\0\2" not in body
    peer.release()


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        pytest.param("a: b", 0o644, "chmod 600", id="others may read it"),
        pytest.param("a: 1234", 0o600, "numbers in quotes", id="a number"),
        pytest.param("[a]", 0o600, "name: passcode", id="a list"),
        pytest.param("a: [", 0o600, "not valid YAML", id="no YAML"),
        pytest.param("a: ''", 0o600, "no passcode empty", id="an empty passcode"),
    ],
)
def test_a_passcode_file_that_cannot_be_used(tmp_path: Path, text: str, mode: int, why: str) -> None:
    file = tmp_path / "passcodes.yaml"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(SettingsError, match=why) as raised:
        read_passcodes(file)
    assert "1234" not in str(raised.value)


def test_a_rule_may_have_its_own_called_ae(start: Start) -> None:
    node = start(allowed=(AllowedPeer("SENDER", LOCAL, called_ae="WARD7"),))
    for called, kind in (("WARD7", 2), ("WETREAD", 3)):
        peer = Peer.call(node.port)
        peer.send(associate_rq(called=called))
        assert peer.pdu()[0] == kind
