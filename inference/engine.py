"""The engine: frames in, a Reading out. It owns the device and the models of one reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from inference.bundles import verify_bundle
from inference.drafting.drafter import Drafter
from inference.errors import BundleError, DeviceError
from inference.options import EngineOptions, check_options
from inference.reading import DraftReport, Finding, Frame, ModelVersion, Reading, Skipped
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.contrastive import Triage
from inference.triage.judge import judge, not_assessable

_FRONTAL = {"PA": 0, "AP": 1}  # the draft is written from the best view: a PA film before an AP before one that does not say

_SMALLEST = 32  # pixels of a side; two patches of a ViT-B/16 before any enlargement


class Engine:
    """Loaded models, ready to read. Not thread-safe: one thread owns it."""

    def __init__(self, triage: Triage, drafter: Drafter | None, catalogue: FindingsCatalogue, options: EngineOptions) -> None:
        self._triage = triage
        self._drafter = drafter
        self._catalogue = catalogue
        self._mode = options.mode
        self._device = _device(options.device)
        bundles = [triage.bundle, *([drafter.bundle] if drafter else [])]
        self.models: tuple[ModelVersion, ...] = tuple(
            bundle.model_version(options.acknowledgements.get(bundle.card.name, "")) for bundle in bundles
        )

    @classmethod
    def load(cls, options: EngineOptions) -> Engine:
        """Verify the bundles and load the models onto the device.

        Raises BundleError, LicenceError, CatalogueError or DeviceError.
        """
        triage, drafting, catalogue = check_options(options)
        device = _device(options.device)
        if options.threads:
            torch.set_num_threads(options.threads)
        for bundle in filter(None, (triage, drafting)):
            verify_bundle(bundle)
        with _device_errors():
            drafter = Drafter.load(drafting, device) if drafting else None
            return cls(Triage.load(triage, catalogue, device), drafter, catalogue, options)

    def read(self, frames: Sequence[Frame], skipped: Sequence[Skipped] = ()) -> Reading:
        """Read the frames of one study.

        Frames outside the catalogue's scope are not judged and are named with their reason. Where none is left, every
        finding is NOT_ASSESSABLE. Raises DeviceError where the device fails.
        """
        refused = [(frame, self._catalogue.scope.refuse(frame) or _unfit(frame)) for frame in frames]
        inside = [frame for frame, reason in refused if not reason]
        outside = tuple(Skipped(frame.source.sop_instance_uid, reason) for frame, reason in refused if reason)
        left_out = tuple(dict.fromkeys((*skipped, *outside)))
        if not inside:
            return self._unread(left_out, _why_nothing(left_out))
        with _device_errors(), torch.inference_mode():
            findings = judge(self._catalogue, inside, self._triage.score(inside), self._triage.judged)
            draft = self._draft(inside)
        return self._reading(findings, draft, inside, left_out)

    def refuse(self, reason: str, skipped: Sequence[Skipped] = ()) -> Reading:
        """The reading of a study that could not be read: every finding NOT_ASSESSABLE, with the reason."""
        return self._unread(tuple(skipped), reason)

    def _draft(self, frames: Sequence[Frame]) -> DraftReport:
        if self._drafter is None:
            return DraftReport((), "no drafting model is configured for this reading")
        best = min(frames, key=lambda frame: _FRONTAL.get(frame.view, len(_FRONTAL)))
        return self._drafter.draft([best])[0]

    def _unread(self, skipped: tuple[Skipped, ...], reason: str) -> Reading:
        return self._reading(not_assessable(self._catalogue, reason), DraftReport((), reason), (), skipped, reason)

    def _reading(
        self,
        findings: tuple[Finding, ...],
        draft: DraftReport,
        frames: Sequence[Frame],
        skipped: tuple[Skipped, ...],
        reason: str = "",
    ) -> Reading:
        return Reading(
            findings=findings,
            draft=draft,
            models=self.models,
            catalogue=self._catalogue.identity,
            mode=self._mode,
            sources=tuple(frame.source for frame in frames),
            skipped=skipped,
            reason=reason,
            device=str(self._device),
        )


def _unfit(frame: Frame) -> str:
    """Why nothing can be seen on a picture, whatever its tags say; empty where something may be."""
    rows, columns = frame.pixels.shape[:2]
    if min(rows, columns) < _SMALLEST:
        return f"the image of {columns}×{rows} pixels is too small to be read"
    return "the image is of one grey all over" if frame.pixels.min() == frame.pixels.max() else ""


def _why_nothing(skipped: tuple[Skipped, ...]) -> str:
    reasons = list(dict.fromkeys(item.reason for item in skipped))
    if not reasons:
        return "the study holds no image"
    more = f" (and {len(reasons) - 3} other reasons)" if len(reasons) > 3 else ""
    return "; ".join(reasons[:3]) + more


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BundleError(f"engine.device is {name!r}, but this machine shows no CUDA device; use auto or cpu")
    return device


@contextmanager
def _device_errors() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceError("the device is out of memory") from error
    except torch.AcceleratorError as error:
        raise DeviceError(f"the device failed: {str(error).splitlines()[0]}") from error
