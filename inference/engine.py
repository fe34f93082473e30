"""The engine: frames in, a Reading out. It owns the device and the models of one reading."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from inference.bundles import Bundle, verify_bundle
from inference.consistency import check
from inference.devices import device_errors
from inference.drafting.drafter import Drafter
from inference.errors import BundleError
from inference.options import EngineOptions, check_options, heads_of
from inference.reading import DraftReport, Finding, Frame, HeatMap, ModelVersion, Reading, Skipped
from inference.stages import DRAFT_FOLLOWS, Study, Triaged
from inference.triage.catalogue import FindingsCatalogue
from inference.triage.contrastive import Triage
from inference.triage.gate import Gate, Looked
from inference.triage.heatmaps import check_tower, explain
from inference.triage.judge import judge, not_assessable
from inference.triage.sketch import sketch_of

NO_DRAFTER: Final = "no drafting model is configured for this reading"
OTHER_MODELS: Final = "the node was given other models after it had sent the findings"


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
        return self.finish(self.triage([Study(tuple(frames), tuple(skipped))]))[0]

    def triage(self, studies: Sequence[Study]) -> list[Triaged]:
        """The findings of several studies, in order, from one pass of the model: each as ``read`` gives it, its draft to come.

        How a sum of floats is rounded may depend on the size of the batch: probabilities agree with those of a study read
        alone to 1e-5 in float32. Raises DeviceError where the device fails.
        """
        with self._errors("triage"), torch.inference_mode():
            looked = self._gate.look_each([study.frames for study in studies])
        return [self._triaged(study, seen) for study, seen in zip(studies, looked, strict=True)]

    def finish(self, triaged: Sequence[Triaged]) -> list[Reading]:
        """The readings with their drafts, in order, written in common batches. Raises DeviceError where the device fails."""
        waiting = [one for one in triaged if one.pending]
        drafts = iter(self._drafts([one.frames for one in waiting]))
        return [self._checked(one.reading, next(drafts)) if one.pending else one.reading for one in triaged]

    def resume(self, reading: Reading, frames: Sequence[Frame]) -> Triaged:
        """What ``triage`` gave once and was saved, ready for ``finish``. ``frames``: those of the study, judged or not.

        Where another engine made it the draft is given up, with the reason: a reading names one set of models only.
        """
        own = (self.models, self._catalogue.identity, str(self._device), self.precision, self._heads.versions)
        if own != (reading.models, reading.catalogue, reading.device, reading.precision, reading.heads):
            return Triaged(replace(reading, draft=DraftReport((), OTHER_MODELS)), ())
        inside = set(reading.sources)
        return Triaged(reading, tuple(frame for frame in frames if frame.source in inside))

    def _triaged(self, study: Study, seen: Looked) -> Triaged:
        outside = tuple(Skipped(frame.source.sop_instance_uid, reason) for frame, reason in seen.refused)
        left_out = tuple(dict.fromkeys((*study.skipped, *outside)))
        if not seen.kept:
            return Triaged(self._unread(left_out, _why_nothing(left_out)), ())
        with self._errors("triage"):
            with torch.inference_mode():
                findings, shadow = self._judge(seen.kept, seen.vectors)
            maps = self._explain(seen.kept, findings)
        draft = DraftReport((), DRAFT_FOLLOWS, pending=True) if self._drafter else DraftReport((), NO_DRAFTER)
        reading = self._reading(findings, draft, seen.kept, left_out, shadow=shadow, maps=maps, sketch=sketch_of(seen.vectors))
        return Triaged(reading, seen.kept)

    def _checked(self, reading: Reading, draft: DraftReport) -> Reading:
        with self._errors("drafting"), torch.inference_mode():
            return replace(reading, draft=check(draft, reading.findings, self._catalogue, self._drafter))

    def _errors(self, doing: str) -> AbstractContextManager[None]:
        return device_errors(self._device, doing)

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
        return self._drafts([frames])[0]

    def _drafts(self, studies: Sequence[Sequence[Frame]]) -> list[DraftReport]:
        if self._drafter is None:
            return [DraftReport((), NO_DRAFTER) for _ in studies]
        with self._errors("drafting"), torch.inference_mode():
            return self._drafter.draft_studies(studies, images=self._draft_images)

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
        sketch: tuple[float, ...] = (),
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
            sketch=sketch,
        )


def load_triage(options: EngineOptions) -> Triage:
    """The triage model alone, verified and on the device. Raises as ``Engine.load``."""
    bundle, _, catalogue = check_options(options)
    device = _prepare(bundle, options)
    with device_errors(device, "loading the triage model"):
        return Triage.load(
            bundle, catalogue, device, precision=options.precision, resizing=options.resizing, cache=options.cache
        )


def load_drafter(options: EngineOptions) -> Drafter:
    """The drafting model alone, verified and on the device. Raises as ``Engine.load``, and where no model is configured."""
    _, bundle, _ = check_options(options)
    if bundle is None:
        raise BundleError("no drafting model is configured for this reading; set `drafting` to the folder of a bundle")
    device = _prepare(bundle, options)
    with device_errors(device, "loading the drafting model"):
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
