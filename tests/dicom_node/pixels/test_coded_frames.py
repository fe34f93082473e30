"""Where coded frames lie, judged by pydicom's own reader; frames as native cells, judged by pydicom's decoders."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames

from dicom_node.errors import PixelError
from dicom_node.pixels.coded import coded_frames
from dicom_node.pixels.decode import extended_offsets
from dicom_node.pixels.decoders import shared_decoders
from dicom_node.pixels.instances import open_data_set
from dicom_node.pixels.layout import layout_of
from dicom_node.pixels.native import NativePixels
from dicom_node.pixels.opening import read_instance
from dicom_node.pixels.quiet import quiet

from .corpus import Row, needs_corpus, rows

FRAMES = [bytes([number]) * (20 + 2 * number) + b"\xff\xd9" for number in range(1, 6)]


def read(content: bytes, frames: int, extended: tuple[bytes, bytes] | None = None, offset: int = 0) -> list[bytes]:
    file = BytesIO(content)
    found: Sequence[Sequence[tuple[int, int]]] = coded_frames(file, offset, frames, extended)
    return [b"".join(content[at : at + length] for at, length in pieces) for pieces in found]


@pytest.mark.parametrize("table", [True, False], ids=["offset table", "none"])
@pytest.mark.parametrize("fragments", [1, 2, 3])
def test_frames_of_several_fragments(table: bool, fragments: int) -> None:
    content = encapsulate(FRAMES, fragments_per_frame=fragments, has_bot=table)
    assert read(content, len(FRAMES)) == list(generate_frames(content, number_of_frames=len(FRAMES)))
    assert read(b"before" + content, len(FRAMES), offset=6) == read(content, len(FRAMES))


def test_one_frame_of_many_fragments_needs_neither_table_nor_marker() -> None:
    whole = bytes(range(200))
    assert read(encapsulate([whole], fragments_per_frame=5, has_bot=False), 1) == [whole]


def test_an_extended_table_tells_lengths_without_padding() -> None:
    odd = [b"abc", b"defgh"]
    content, offsets, _ = encapsulate_extended(odd)
    assert read(content, 2, (offsets, struct.pack("<2Q", 3, 5))) == odd


BROKEN = {
    "nothing": b"",
    "no fragment": encapsulate([b"ab"])[:12],
    "cut off": encapsulate(FRAMES)[:-40],
    "a table that points nowhere": encapsulate(FRAMES).replace((32).to_bytes(4, "little"), (34).to_bytes(4, "little"), 1),
    "fewer frames than stated": encapsulate(FRAMES[:2], fragments_per_frame=2, has_bot=False),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_does_not_agree_is_refused(content: bytes) -> None:
    with pytest.raises(PixelError):
        read(content, len(FRAMES))


@given(st.binary(max_size=200), st.integers(1, 5), st.none() | st.tuples(st.binary(max_size=40), st.binary(max_size=40)))
def test_any_bytes_give_frames_or_a_reason(content: bytes, frames: int, extended: tuple[bytes, bytes] | None) -> None:
    for start in (b"", b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\x02\x00\x00\x00ab"):
        try:
            found = read(start + content, frames, extended)
        except PixelError:
            continue
        assert all(len(one) <= len(start + content) for one in found)


@needs_corpus
def test_frames_of_the_corpus_are_those_that_pydicom_finds_and_decodes() -> None:
    """Small files of each transfer syntax; what pydicom cannot decode is judged by the renders, elsewhere."""
    seen: dict[str, int] = {}
    for row in (one for one in rows() if one.pydicom == "ok" and one.path.stat().st_size < 600_000):
        instance = read_instance(row.path)
        syntax, place = instance.transfer_syntax, instance.pixels
        if place is None or place.length is not None or seen.get(syntax, 0) == 2:
            continue
        _same_as_pydicom(row)
        seen[syntax] = seen.get(syntax, 0) + 1
    assert seen


def _same_as_pydicom(row: Row) -> None:
    instance = read_instance(row.path)
    layout, place = layout_of(instance), instance.pixels
    assert place is not None
    with quiet(), open_data_set(row.path, instance.transfer_syntax) as file:
        stored = dcmread(row.path, force=True)
        coded = coded_frames(file, place.offset, layout.frames, extended_offsets(instance))
        mine = [b"".join(_bytes(file, piece) for piece in pieces) for pieces in coded]
        told = extended_offsets(instance)
        assert mine == list(generate_frames(stored.PixelData, number_of_frames=layout.frames, extended_offsets=told))
        if layout.bits_allocated == 1:
            return
        pixels = NativePixels.of(instance, shared_decoders())
        try:
            stored.decompress(as_rgb=pixels.photometric == "RGB")
        except (RuntimeError, NotImplementedError, ValueError):
            return
    native = b"".join(pixels.all())
    assert stored.PixelData[: len(native)] == native, row.file
    assert stored.PhotometricInterpretation == pixels.photometric, row.file


def _bytes(file: object, piece: tuple[int, int]) -> bytes:
    file.seek(piece[0])  # type: ignore[attr-defined]
    content: bytes = file.read(piece[1])  # type: ignore[attr-defined]
    return content
