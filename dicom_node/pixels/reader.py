"""Pictures of studies by one set of options: what the node, research runs and commands hold on to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from dicom_node.errors import PixelError
from dicom_node.pixels.decoders import Decoders, shared_decoders
from dicom_node.pixels.frames import Chosen, Selection, select_frames
from dicom_node.pixels.instances import Instance
from dicom_node.pixels.opening import read_instance
from dicom_node.pixels.options import PixelOptions
from dicom_node.pixels.render import render_frame
from inference.reading import Frame


class PixelReader:
    """Opens, selects and shows. Thread-safe.

    ``decoders``: None for some of its own, which end with it.
    """

    def __init__(self, options: PixelOptions, decoders: Decoders | None = None) -> None:
        self._options = options
        self.decoders = decoders or Decoders(options.limits)

    @property
    def identity(self) -> str:
        return self._options.identity

    def open(self, path: Path) -> Instance:
        """Raises as ``read_instance``."""
        return read_instance(path, self.decoders)

    def select(self, instances: Sequence[Instance]) -> Selection:
        """As ``select_frames``, by the rules of these options."""
        return select_frames(instances, self._options.rules)

    def show(self, chosen: Chosen) -> Frame:
        """Raises as ``render_frame``."""
        look = replace(chosen.look, fast=self._options.fast)
        return render_frame(chosen.instance, chosen.frame_number, self.decoders, look)

    def show_each(self, chosen: Sequence[Chosen]) -> Iterator[Frame | PixelError]:
        """In their order, several at once; a frame that cannot be shown gives its reason. Raises StorageError."""
        with ThreadPoolExecutor(self._options.limits.count, "show") as pool:
            yield from pool.map(self._shown, chosen)

    def _shown(self, chosen: Chosen) -> Frame | PixelError:
        try:
            return self.show(chosen)
        except PixelError as error:
            return error

    def close(self) -> None:
        """End the decoder processes."""
        self.decoders.close()

    def __enter__(self) -> PixelReader:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()


def shared_reader() -> PixelReader:
    """With default options and the decoders that this process shares: for who is handed no other."""
    return PixelReader(PixelOptions(), shared_decoders())
