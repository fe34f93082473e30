"""`wetread ask`, `draft` and `summarize`: the drafting model for people at a terminal. Nothing leaves the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node import logs
from dicom_node.choices import engine_options
from dicom_node.errors import PixelError, SettingsError
from dicom_node.pictures import Picture
from dicom_node.questions import show
from dicom_node.questions.places import by_study, pictures_of, text_of
from dicom_node.settings import Settings, defaults_folder, load_settings
from inference.drafting.results import Answer, Choice
from inference.drafting.texts import article, question_source
from inference.options import EngineOptions, check_options
from inference.reading import Frame, ModelVersion, Reading, UseMode

if TYPE_CHECKING:
    from inference.drafting.drafter import Drafter
    from inference.engine import Engine


@dataclass(frozen=True, slots=True)
class Question:
    """``places``: files, folders, or a Study Instance UID of the node's store. ``choices``: the answers allowed, or any."""

    places: tuple[str, ...]
    text: str
    choices: tuple[str, ...] = ()


def choices_of(text: str) -> tuple[str, ...]:
    """The answers in "yes,no". Raises SettingsError for one alone, and for one given twice."""
    found = tuple(choice.strip() for choice in text.split(",") if choice.strip())
    if text and len(found) < 2:
        raise SettingsError(f'--choices {text!r}: give at least two answers with commas between them, as in "yes,no"')
    if len(set(found)) < len(found):
        raise SettingsError(f"--choices {text!r}: an answer stands in it twice")
    return found


def ask(question: Question, config: Path | None, reading: str | None, *, as_json: bool) -> int:
    """Print an answer, its score and the image it is about. Returns 0.

    Raises SettingsError, PixelError and InferenceError, whose messages are for the user.
    """
    question_source(question.text)  # an empty or endless question is told before a model is loaded
    settings = _settings(config)
    options = _options(settings, reading)
    shown = _one_picture(pictures_of(question.places, settings if config else None))
    drafter = _drafter(options)
    answered = _answer(drafter, shown.frame, question)
    if answered.reason:
        raise PixelError(f"{shown.name}: {answered.reason}")
    told = show.Told(question.text, answered, shown, _model(drafter, options))
    show.as_json(told.json()) if as_json else show.as_lines(told.lines())
    return 0


def draft(places: tuple[str, ...], config: Path | None, reading: str | None, modality: str, *, as_json: bool) -> int:
    """Print a draft of each picture, or of each study. Returns 0, or 2 where none could be written. Raises as ``ask``."""
    options = _options(_settings(config), reading)
    if options.drafting is None:
        raise SettingsError("this reading has no drafting model; name one under `drafting` of the reading")
    studies = by_study(pictures_of(places, None, modality))
    engine = _engine(options)
    drafted = [(pictures, _read(engine, [picture.frame for picture in pictures])) for pictures in studies]
    if as_json:
        show.as_json([show.draft_json(pictures, result) for pictures, result in drafted])
    else:
        show.as_lines(line for pictures, result in drafted for line in show.draft_lines(pictures, result))
    return 0 if any(result.draft.sentences for _, result in drafted) else 2


def summarize(file: str, config: Path | None, reading: str | None, *, as_json: bool) -> int:
    """Print the impression of a text. Returns 0. Raises SettingsError, ReportingError and InferenceError, for the user."""
    text = text_of(file)
    article(text)  # nothing to summarise is told before a model is loaded
    options = _options(_settings(config), reading)
    drafter = _drafter(options)
    (summary,) = drafter.summarise([text])
    if summary.cut:
        raise SettingsError(f"{file}: is longer than this model reads at once, and its end would be lost; give it in parts")
    if summary.reason:
        raise SettingsError(f"{file}: {summary.reason}")
    model = _model(drafter, options)
    show.as_json(show.summary_json(summary, model)) if as_json else show.as_lines(show.summary_lines(summary, model))
    return 0


def _settings(config: Path | None) -> Settings:
    settings = load_settings(config or defaults_folder() / "node.yaml")
    logs.configure(settings.log.level, settings.log.form)
    return settings


def _options(settings: Settings, wished: str | None) -> EngineOptions:
    name = wished or next(iter(settings.readings), "")
    if name not in settings.readings:
        raise SettingsError(f"--reading {name!r} is not in the settings; there are: {', '.join(settings.readings) or 'none'}")
    options = replace(engine_options(settings, name), mode=UseMode.RESEARCH)
    check_options(options)
    return options


def _drafter(options: EngineOptions) -> Drafter:
    from inference.engine import load_drafter

    return load_drafter(options)


def _engine(options: EngineOptions) -> Engine:
    from inference.engine import Engine

    return Engine.load(options)


def _model(drafter: Drafter, options: EngineOptions) -> ModelVersion:
    return drafter.bundle.model_version(options.acknowledgements.get(drafter.bundle.card.name, ""))


def _one_picture(pictures: Sequence[Picture]) -> Picture:
    """The one that a draft would be written from first."""
    from inference.drafting.studies import choose_images

    (best,) = choose_images([picture.frame for picture in pictures], 1)
    return next(picture for picture in pictures if picture.frame is best)


def _answer(drafter: Drafter, frame: Frame, question: Question) -> Answer | Choice:
    if question.choices:
        return drafter.choose([frame], [question.text], question.choices)[0]
    return drafter.ask([frame], [question.text])[0]


def _read(engine: Engine, frames: Sequence[Frame]) -> Reading:
    """The whole reading; where triage does not cover the pictures, the draft alone, which nothing was held against."""
    reading = engine.read(frames)
    return reading if reading.assessed else replace(reading, draft=engine.draft(frames))
