"""Which transfer syntaxes are read, and by which decoders."""

from __future__ import annotations

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MPEGTransferSyntaxes,
    RLELossless,
)

NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"})
_SPECTRAL_SELECTION, _FULL_PROGRESSION = "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"
_JPEG_LS = ("pyjpegls", "gdcm")
_OPENJPEG = ("pylibjpeg", "gdcm")
_OPENJPH = ("imagecodecs", "pylibjpeg")

# Which decoders to ask, the first that succeeds wins. "imagecodecs": jpeg.py, jpeg2000.py; the others: pydicom's plug-ins.
DECODERS: dict[str, tuple[str, ...]] = {
    str(RLELossless): ("pylibjpeg", "pydicom"),
    str(JPEGBaseline8Bit): ("pillow", "gdcm", "imagecodecs"),
    str(JPEGExtended12Bit): ("imagecodecs",),  # pydicom's plug-ins refuse 12 bits
    _SPECTRAL_SELECTION: ("imagecodecs",),  # retired; pydicom has no decoder
    _FULL_PROGRESSION: ("imagecodecs",),
    str(JPEGLossless): ("imagecodecs", "gdcm"),  # three times as fast as gdcm
    str(JPEGLosslessSV1): ("imagecodecs", "gdcm"),
    str(JPEGLSLossless): _JPEG_LS,
    str(JPEGLSNearLossless): _JPEG_LS,
    str(JPEG2000Lossless): _OPENJPEG,
    str(JPEG2000): _OPENJPEG,
    str(HTJ2KLossless): _OPENJPH,
    str(HTJ2KLosslessRPCL): _OPENJPH,
    str(HTJ2K): _OPENJPH,
}
JPEG_2000 = frozenset(str(syntax) for syntax in (JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K))


def refusal(transfer_syntax: str) -> str:
    """Why pixels in this transfer syntax cannot be decoded here; empty where they can."""
    if transfer_syntax in NATIVE or transfer_syntax in DECODERS:
        return ""
    if transfer_syntax in MPEGTransferSyntaxes:
        return "its pixels are a video stream, which is not read"
    return f"its transfer syntax {transfer_syntax[:64]} is not supported"
