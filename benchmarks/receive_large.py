"""Objects of more than 4 GB through the node, and their pixels afterwards.

    python benchmarks/receive_large.py [--quick] [--work FOLDER] [--keep FILE]

One multi-frame object with an explicit length near 2^32 and one encapsulated, of undefined length and more than 2^32 bytes, are
made on the way and sent to a listening node of its own (durable). Shown are the seconds until success is answered, the memory
that the node took above its idle state, whether the stored bytes are those sent, and what the pixel reader makes of them within
its bounds. Needs 10 GB of room below FOLDER for some time; ``--quick`` sends 256 MB. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.dicom_node.ingest.wire import Peer, command, data_element, even, item, p_data, pdv  # noqa: E402

MULTIFRAME = "1.2.840.10008.5.1.4.1.1.7.2"  # Multi-frame Grayscale Byte Secondary Capture
NATIVE, ENCAPSULATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.98"
SIDE = 2048
FRAME = SIDE * SIDE
PDU = 131072
NEEDED = 10 << 30
LONGEST_S = 30.0


@dataclass(frozen=True)
class Large:
    """``memory_mb``: of the node, above idle. ``pixels``: what was made of it, or the reason why nothing."""

    name: str
    gb: float
    seconds: float
    gb_per_s: float
    memory_mb: float
    same_bytes: bool
    pixels: str
    pixels_s: float
    reader_memory_mb: float


def frame(number: int) -> bytes:
    return bytes([number % 251]) * FRAME


def head(uid: str, frames: int) -> bytes:
    us = {0x00280002: 1, 0x00280010: SIDE, 0x00280011: SIDE, 0x00280100: 8, 0x00280101: 8, 0x00280102: 7, 0x00280103: 0}
    parts = {
        0x00080016: ("UI", even(MULTIFRAME)),
        0x00080018: ("UI", even(uid)),
        0x00080060: ("CS", b"OT"),
        0x00100020: ("LO", b"P1"),
        0x0020000D: ("UI", even("1.2.826.0.1.77")),
        0x0020000E: ("UI", even("1.2.826.0.1.77.1")),
        0x00280004: ("CS", b"MONOCHROME2 "),
        0x00280008: ("IS", even(str(frames), b" ")),
        **{tag: ("US", struct.pack("<H", value)) for tag, value in us.items()},
    }
    return b"".join(data_element(tag, vr, value) for tag, (vr, value) in sorted(parts.items()))


def content(uid: str, frames: int, encapsulated: bool) -> Iterator[bytes]:
    """The data set in pieces; no more than a frame is in memory."""
    long = struct.pack("<HH2sH", 0x7FE0, 0x0010, b"OB", 0)
    if not encapsulated:
        yield head(uid, frames) + long + struct.pack("<L", frames * FRAME)
        yield from (frame(number) for number in range(frames))
        return
    yield head(uid, frames) + long + struct.pack("<LHHL", 0xFFFFFFFF, 0xFFFE, 0xE000, 0)
    for number in range(frames):
        yield struct.pack("<HHL", 0xFFFE, 0xE000, FRAME) + frame(number)
    yield struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def request(syntax: str) -> bytes:
    context = item(0x20, b"\1\0\0\0" + item(0x30, MULTIFRAME.encode()) + item(0x40, syntax.encode()))
    user = item(0x50, item(0x51, struct.pack(">I", PDU)) + item(0x52, b"1.2.3.4"))
    fixed = struct.pack(">HH16s16s32x", 1, 0, b"WETREAD".ljust(16), b"SENDER".ljust(16))
    body = fixed + item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    return struct.pack(">BxI", 1, len(body)) + body


def send(port: int, uid: str, frames: int, syntax: str) -> int:
    """Returns the status."""
    peer = Peer.associated(port, request(syntax))
    peer.line.settimeout(600)
    peer.send(p_data(pdv(1, 3, command(1, MULTIFRAME, uid))))
    waiting, most = b"", PDU - 6
    for piece in content(uid, frames, syntax == ENCAPSULATED):
        waiting += piece
        whole = (len(waiting) - 1) // most
        peer.send(b"".join(p_data(pdv(1, 0, waiting[at * most : (at + 1) * most])) for at in range(whole)))
        waiting = waiting[whole * most :]
    peer.send(p_data(pdv(1, 2, waiting)))
    status = peer.status()
    peer.release()
    return status


def same(path: Path, uid: str, frames: int, encapsulated: bool) -> bool:
    with path.open("rb") as file:
        size = sum(map(len, content(uid, frames, encapsulated)))
        file.seek(path.stat().st_size - size)
        return all(file.read(len(piece)) == piece for piece in content(uid, frames, encapsulated))


def memory_mb(pid: int, field: str) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def pixels_of(path: Path) -> str:
    """What the worker's reader makes of it."""
    from dicom_node.errors import PixelError
    from dicom_node.pixels.options import PixelOptions
    from dicom_node.pixels.reader import PixelReader

    with PixelReader(PixelOptions()) as reader:
        try:
            selection = reader.select([reader.open(path)])
            shown = [one for one in reader.show_each(selection.chosen) if not isinstance(one, PixelError)]
        except PixelError as error:
            return f"refused: {error.reason}"
    skipped = "; ".join(sorted({one.reason for one in selection.skipped}))
    return f"{len(shown)} frames shown of {len(selection.chosen)} chosen" + (f"; {skipped}" if skipped else "")


def measure(name: str, port: int, node: int, data: Path, frames: int, syntax: str) -> Large:
    uid = f"1.2.826.0.1.77.{frames}.{len(syntax)}"
    idle, begun = memory_mb(node, "VmRSS"), time.monotonic()
    status = send(port, uid, frames, syntax)
    seconds = time.monotonic() - begun
    if status:
        raise SystemExit(f"{name}: the node answered 0x{status:04X}")
    (path,) = data.glob("instances/**/*.dcm")
    size = path.stat().st_size
    right = same(path, uid, frames, syntax == ENCAPSULATED)
    begun = time.monotonic()
    told = pixels_of(path)
    reading = time.monotonic() - begun
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    path.unlink()
    peak = memory_mb(node, "VmHWM") - idle
    return Large(name, size / 1e9, seconds, size / 1e9 / seconds, peak, right, told, reading, most)


def start(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    config = folder / "node.yaml"
    listener = {"port": port, "watermark_mb": 0, "allowed": [{"ae_title": "SENDER", "hosts": ["127.0.0.1"]}]}
    config.write_text(json.dumps({"data": "data", "listener": listener}), "utf-8")
    command_line = [sys.executable, "-m", "dicom_node.cli", "listen", "--config", str(config)]
    node = subprocess.Popen(command_line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while node.poll() is None:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return node, port
        time.sleep(0.1)
    raise SystemExit("the node did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="256 MB instead of 4 GB")
    parser.add_argument("--work", type=Path, help="folder with room; a disk shows what durability costs")
    parser.add_argument("--keep", type=Path, help="file that the result is kept in")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.work))
    if not options.quick and shutil.disk_usage(folder).free < NEEDED:
        folder.rmdir()
        raise SystemExit(f"skipped: less than {NEEDED >> 30} GB are free below {options.work or tempfile.gettempdir()}")
    explicit, undefined = (64, 66) if options.quick else (1023, 1030)
    cases = [("explicit length", explicit, NATIVE), ("undefined length", undefined, ENCAPSULATED)]
    node, port = start(folder)
    try:
        time.sleep(2)
        found = [measure(name, port, node.pid, folder / "data", frames, syntax) for name, frames, syntax in cases]
    finally:
        node.terminate()
        node.wait(60)
        shutil.rmtree(folder)
    for one in found:
        bytes_are = "as sent" if one.same_bytes else "OTHERS"
        print(f"{one.name:18s} {one.gb:5.2f} GB in {one.seconds:5.1f} s, {one.memory_mb:6.1f} MB; the bytes are {bytes_are}")
        print(f"{'':18s} pixels: {one.pixels}, {one.pixels_s:.1f} s, {one.reader_memory_mb:.0f} MB")
    result = {"cpus": os.cpu_count(), "quick": options.quick, "objects": [asdict(one) for one in found]}
    if options.keep:
        options.keep.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result))
    if not all(one.same_bytes and one.memory_mb < 64 and (options.quick or one.seconds <= LONGEST_S) for one in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
