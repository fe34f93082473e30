"""The engine: frames in, a Reading out. It owns the device and the models of one reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from inference.bundles import Bundle, verify_bundle
from inference.consistency import check
from inference.drafting.drafter import Drafter
from inference.errors import BundleError, DeviceError
from inference.options import EngineOptions, check_options, heads_of
from inference.reading import DraftReport, Finding, Frame, HeatMap, ModelVersion, Reading, Skipped
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.contrastive import Triage
from inference.triage.gate import Gate
from inference.triage.heatmaps import check_tower, explain
from inference.triage.judge import judge, not_assessable


class Engine:
    """Loaded models, ready to read. Not thread-safe: one thread owns it."""

    def __init__(self, triage: Triage, drafter: Drafter | None, catalogue: FindingsCatalogue, options: EngineOptions) -> None:
        self._triage = triage
        self._drafter = drafter
        self._catalogue = catalogue
        self._heads = heads_of(options, triage.bundle, catalogue)
        self._mode = options.mode
        self._draft_images = options.draft_images
        self._device = _device(options.device)
        self._gate = Gate(catalogue, triage)
        self._explains = options.heat_maps
        if self._explains:
            check_tower(triage)
        self.why = triage.why  # how the precision of triage came, for an operator
        self.precision = ", ".join([f"triage {triage.precision}", *([f"drafting {drafter.precision}"] if drafter else [])])
        bundles = [triage.bundle, *([drafter.bundle] if drafter else [])]
        self.models: tuple[ModelVersion, ...] = tuple(
            bundle.model_version(options.acknowledgements.get(bundle.card.name, "")) for bundle in bundles
        )

    @classmethod
    def load(cls, options: EngineOptions) -> Engine:
        """Verify the bundles and load the models onto the device.

        Raises BundleError, LicenceError, CatalogueError, HeadError or DeviceError.
        """
        _, _, catalogue = check_options(options)
        drafter = load_drafter(options) if options.drafting else None
        return cls(load_triage(options), drafter, catalogue, options)

    def read(self, frames: Sequence[Frame], skipped: Sequence[Skipped] = ()) -> Reading:
        """Read the frames of one study.

        Frames outside the catalogue's scope, by their tags or by what the model takes them for, are not judged and are named
        with their reason. Where none is left, every finding is NOT_ASSESSABLE. Raises DeviceError where the device fails.
        """
        with _device_errors(), torch.inference_mode():
            seen = self._gate.look(frames)
        inside = seen.kept
        outside = tuple(Skipped(frame.source.sop_instance_uid, reason) for frame, reason in seen.refused)
        left_out = tuple(dict.fromkeys((*skipped, *outside)))
        if not inside:
            return self._unread(left_out, _why_nothing(left_out))
        with _device_errors(), torch.inference_mode():
            findings, shadow = self._judge(inside, seen.vectors)
            draft = check(self._draft(inside), findings, self._catalogue, self._drafter)
        with _device_errors():
            maps = self._explain(inside, findings)
        return self._reading(findings, draft, inside, left_out, shadow=shadow, maps=maps)

    def refuse(self, reason: str, skipped: Sequence[Skipped] = ()) -> Reading:
        """The reading of a study that could not be read: every finding NOT_ASSESSABLE, with the reason."""
        return self._unread(tuple(skipped), reason)

    def _judge(self, frames: Sequence[Frame], vectors: NDArray[np.float32]) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
        """The findings, and those that a probe on trial would have given. ``vectors``: embeddings, (frames, width)."""
        margins = self._triage.margins_of(vectors)
        said = self._heads.opinion(margins, vectors, self._triage.judged)
        trial = self._heads.shadow(margins, vectors)
        findings = judge(self._catalogue, frames, said.probabilities, said.judged, said.rulings)
        if trial is None:
            return findings, ()
        shadow = judge(self._catalogue, frames, trial.probabilities, trial.judged, trial.rulings)
        return findings, tuple(finding for finding in shadow if finding.key in trial.judged)

    def _explain(self, frames: Sequence[Frame], findings: Sequence[Finding]) -> tuple[HeatMap, ...]:
        if not self._explains:
            return ()
        directions = dict(zip(self._catalogue.keys, self._triage.contrasts, strict=True)) | self._heads.directions
        return explain(self._triage, frames, findings, directions)

    def draft(self, frames: Sequence[Frame]) -> DraftReport:
        """The draft alone, of pictures that triage may not cover, held against no finding. Raises DeviceError."""
        with _device_errors(), torch.inference_mode():
            return self._draft(frames)

    def _draft(self, frames: Sequence[Frame]) -> DraftReport:
        if self._drafter is None:
            return DraftReport((), "no drafting model is configured for this reading")
        return self._drafter.draft_study(frames, images=self._draft_images)

    def _unread(self, skipped: tuple[Skipped, ...], reason: str) -> Reading:
        return self._reading(not_assessable(self._catalogue, reason), DraftReport((), reason), (), skipped, reason)

    def _reading(
        self,
        findings: tuple[Finding, ...],
        draft: DraftReport,
        frames: Sequence[Frame],
        skipped: tuple[Skipped, ...],
        reason: str = "",
        shadow: tuple[Finding, ...] = (),
        maps: tuple[HeatMap, ...] = (),
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
            precision=self.precision,
            heads=self._heads.versions,
            shadow=shadow,
            heat_maps=maps,
        )


def load_triage(options: EngineOptions) -> Triage:
    """The triage model alone, verified and on the device. Raises as ``Engine.load``."""
    bundle, _, catalogue = check_options(options)
    device = _prepare(bundle, options)
    with _device_errors():
        return Triage.load(
            bundle, catalogue, device, precision=options.precision, resizing=options.resizing, cache=options.cache
        )


def load_drafter(options: EngineOptions) -> Drafter:
    """The drafting model alone, verified and on the device. Raises as ``Engine.load``, and where no model is configured."""
    _, bundle, _ = check_options(options)
    if bundle is None:
        raise BundleError("no drafting model is configured for this reading; set `drafting` to the folder of a bundle")
    device = _prepare(bundle, options)
    with _device_errors():
        return Drafter.load(bundle, device, precision=options.precision, cache=options.cache)


def _prepare(bundle: Bundle, options: EngineOptions) -> torch.device:
    device = _device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    verify_bundle(bundle)
    return device


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
