"""The sender of ``receive.py``: N associations at once, PDUs cut beforehand, a fresh UID for each object."""

from __future__ import annotations

import multiprocessing
import os
import socket
import struct
import threading
import time
from typing import Any

CT, DX = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"
KINDS = {"ct": (CT, 524_288, 800), "dx": (DX, 12_500_000, 60)}  # SOP class, bytes of pixels, objects of one cell
PDU = 131072


def _even(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def _request(sop_class: str) -> bytes:
    context = _item(0x20, b"\1\0\0\0" + _item(0x30, sop_class.encode()) + _item(0x40, EXPLICIT.encode()))
    user = _item(0x50, _item(0x51, struct.pack(">I", PDU)) + _item(0x52, b"1.2.3"))
    head = struct.pack(">HH16s16s32x", 1, 0, b"PEER".ljust(16), b"BENCH".ljust(16))
    body = head + _item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    return struct.pack(">BxI", 1, len(body)) + body


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(value)) + value


def _command(sop_class: str, uid: bytes) -> bytes:
    body = _element(2, _even(sop_class)) + _element(0x100, b"\1\0") + _element(0x110, b"\1\0")
    body += _element(0x700, b"\0\0") + _element(0x800, b"\1\0") + _element(0x1000, uid)
    body = _element(0, struct.pack("<I", len(body))) + body
    return struct.pack(">BxIIBB", 4, len(body) + 6, len(body) + 2, 1, 3) + body


def _data(tag: int, vr: bytes, value: bytes) -> bytes:
    long = vr in (b"OW", b"SQ")
    return struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr) + struct.pack("<xxI" if long else "<H", len(value)) + value


def _data_set(sop_class: str, pixels: int) -> bytes:
    """With as many attributes as an image has, and a SOP Instance UID of 64 characters to be replaced."""
    text = [(0x0008, n, b"LO", b"synthetic " * 2) for n in range(0x0070, 0x00F0, 8)]
    text += [(0x0018, n, b"DS", b"1.25") for n in range(0x0050, 0x0150, 16)]
    parts = [_data(0x00080016, b"UI", _even(sop_class)), _data(0x00080018, b"UI", b"9" * 64)]
    parts += [_data(group << 16 | n, vr, value) for group, n, vr, value in text[:16]]
    parts += [_data(0x00100020, b"LO", b"SYNTHETI")]
    parts += [_data(group << 16 | n, vr, value) for group, n, vr, value in text[16:]]
    parts += [_data(0x0020000D, b"UI", b"1.2.3.4\0"), _data(0x0020000E, b"UI", b"1.2.3.4.1\0")]
    return b"".join([*parts, _data(0x7FE00010, b"OW", bytes(range(256)) * (pixels // 256))])


def _pdus(data: bytes, size: int) -> tuple[bytearray, memoryview]:
    """The first PDU, to be patched, and the rest."""
    step = size - 6
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    flags = [0] * (len(pieces) - 1) + [2]
    made = [struct.pack(">BxIIBB", 4, len(p) + 6, len(p) + 2, 1, f) + p for p, f in zip(pieces, flags, strict=True)]
    return bytearray(made[0]), memoryview(b"".join(made[1:]))


def _read(line: socket.socket) -> tuple[int, bytes]:
    kind, length = struct.unpack(">BxI", _exact(line, 6))
    return kind, _exact(line, length)


def _exact(line: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = line.recv(count - len(data))
        if not piece:
            raise ConnectionError("the receiver hung up")
        data += piece
    return data


def _max_pdu(accept: bytes) -> int:
    at = accept.index(b"\x51\0\0\4")
    return int.from_bytes(accept[at + 4 : at + 8], "big") or PDU


def associate(port: int, sop_class: str) -> tuple[socket.socket, int]:
    line = socket.create_connection(("127.0.0.1", port), timeout=120)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.sendall(_request(sop_class))
    kind, body = _read(line)
    if kind != 2:
        raise ConnectionError("the association was rejected")
    return line, min(_max_pdu(body), PDU)


def _send_all(port: int, kind: str, count: int, name: str, times: list[float], failures: list[str]) -> None:
    sop_class, pixels, _ = KINDS[kind]
    data = _data_set(sop_class, pixels)
    place = data.index(b"9" * 64) + 12
    try:
        line, size = associate(port, sop_class)
        first, rest = _pdus(data, size)
        for number in range(count):
            uid = f"1.2.826.0.1.{name}.{number}.".ljust(64, "7").encode()
            first[place : place + 64] = uid
            begun = time.perf_counter()
            line.sendall(_command(sop_class, uid) + first)
            line.sendall(rest)
            _, answer = _read(line)
            if _element(0x900, b"\0\0") not in answer:
                raise ConnectionError("refused")
            times.append(time.perf_counter() - begun)
        line.sendall(struct.pack(">BxI4x", 5, 4))
        _read(line)
        line.close()
    except (OSError, ValueError) as error:
        failures.append(f"{type(error).__name__}: {error}")


def _sender(port: int, kind: str, shares: list[int], number: int, barrier: Any, results: Any) -> None:
    times: list[float] = []
    failures: list[str] = []
    threads = [
        threading.Thread(target=_send_all, args=(port, kind, share, f"{number + 1}.{os.getpid()}.{n + 1}", times, failures))
        for n, share in enumerate(shares)
    ]
    barrier.wait()
    begun = time.time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((begun, time.time(), times, failures))


def load(port: int, kind: str, associations: int, count: int) -> tuple[float, list[float], int]:
    """Seconds, time of each object that was stored, and how many were not."""
    processes = min(2, associations)
    shares = [[count // associations] * (associations // processes + (n < associations % processes)) for n in range(processes)]
    barrier, results = multiprocessing.Barrier(processes), multiprocessing.Queue()  # type: ignore[var-annotated]
    senders = [
        multiprocessing.Process(target=_sender, args=(port, kind, share, n, barrier, results)) for n, share in enumerate(shares)
    ]
    for sender in senders:
        sender.start()
    got = [results.get() for _ in senders]
    for sender in senders:
        sender.join()
    times = [one for _, _, some, _ in got for one in some]
    return max(g[1] for g in got) - min(g[0] for g in got), times, sum(map(sum, shares)) - len(times)
