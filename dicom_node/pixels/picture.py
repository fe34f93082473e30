"""A frame as a JPEG or PNG picture, made whole inside a decoder process (PS3.18 8.3.5.1): header, pixels and encoder."""

from __future__ import annotations

import io
from typing import Any, Final

from numpy.typing import NDArray
from PIL import Image

from dicom_node.errors import PixelError
from dicom_node.pixels import codecs
from dicom_node.pixels.decoders import Decoders
from dicom_node.pixels.instances import read_here
from dicom_node.pixels.layout import layout_of
from dicom_node.pixels.limits import Limits
from dicom_node.pixels.render import render_frame
from dicom_node.pixels.task import Decode, Picture, Viewport

_JPEG_LONGEST: Final = 65500  # pixels of one side that libjpeg writes


class _Here(Decoders):
    """Decodes where it is: inside a decoder process, whose limits hold."""

    def __init__(self) -> None:
        super().__init__(Limits(processes=1))

    def decode(self, task: Decode) -> NDArray[Any]:
        return codecs.decode(task)


def drawn(asked: Picture) -> bytes:
    """The coded picture. Raises as ``read_here`` and ``render_frame``; PixelError where it cannot be coded so."""
    instance = read_here(asked.path)
    number = asked.frame_number or (layout_of(instance).frames + 1) // 2
    shown = render_frame(instance, number, _Here(), asked.look)
    return _coded(shown.pixels, asked)


def _coded(pixels: NDArray[Any], asked: Picture) -> bytes:
    image = Image.fromarray(pixels)
    if asked.viewport is not None:
        image = _fitted(image, asked.viewport)
    if asked.form == "jpeg" and max(image.size) > _JPEG_LONGEST:
        raise PixelError(f"a side of it is longer than the {_JPEG_LONGEST} pixels of JPEG; ask for image/png or a viewport")
    out = io.BytesIO()
    if asked.form == "jpeg":
        image.save(out, "JPEG", quality=asked.quality, subsampling=0)
    else:
        image.save(out, "PNG", compress_level=3)
    return out.getvalue()


def _fitted(image: Image.Image, viewport: Viewport) -> Image.Image:
    left, top, width, height = viewport.region or (0.0, 0.0, float(image.width), float(image.height))
    box = (left, top, left + abs(width), top + abs(height))
    if box[2] > image.width or box[3] > image.height:
        raise PixelError("the region of the viewport lies outside of the image")
    scale = min(viewport.width / abs(width), viewport.height / abs(height))
    size = (max(1, round(abs(width) * scale)), max(1, round(abs(height) * scale)))
    fitted = image.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC, box=box)
    fitted = fitted.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if width < 0 else fitted
    return fitted.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if height < 0 else fitted
