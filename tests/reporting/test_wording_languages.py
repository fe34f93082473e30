"""A reading in the sentences of each language, and what a language tag may be."""

from __future__ import annotations

import pytest

from reporting import wording
from reporting.errors import DocumentError
from reporting.options import DocumentOptions
from tests.reporting.samples import reading
from tests.reporting.test_document_language import site_reading

LINES = {
    "de": (
        "Pneumothorax: vorhanden, Wahrscheinlichkeit 93,1 % (Schwelle 50,0 %), Notfall.",
        "Pleuraerguss: nicht vorhanden, Wahrscheinlichkeit 2,1 % (Schwelle 40,0 %).",
        "Lungenrundherd: nicht beurteilbar. Das Triage-Modell ist für diesen Befund nicht trainiert.",
        "Zur Durchsicht markiert: Pneumothorax 93,1 % (Notfall). Nicht beurteilbar: Lungenrundherd.",
        "KI-Entwurf, keine Diagnose. Von keiner Person geprüft.",
        "1 Instanz nicht gelesen: Sie ist ein strukturierter Bericht, kein Bild.",
    ),
    "es": (
        "Neumotórax: presente, probabilidad 93,1 % (umbral 50,0 %), emergencia.",
        "Derrame pleural: ausente, probabilidad 2,1 % (umbral 40,0 %).",
        "Nódulo pulmonar: no valorable. El modelo de triaje no fue entrenado para este hallazgo.",
        "Marcado para revisión: Neumotórax 93,1 % (emergencia). No valorable: Nódulo pulmonar.",
        "Borrador de IA, no es un diagnóstico. Ninguna persona lo ha verificado.",
        "1 instancia no leída: es un informe estructurado, no una imagen.",
    ),
}


@pytest.mark.parametrize("language", LINES)
def test_a_reading_in_words(language: str) -> None:
    words, read = wording.of(language), site_reading(reading())
    said = [*map(words.finding_line, read.findings), words.outcome(read), words.notices(read)[0], words.skipped_lines(read)[0]]
    assert said == list(LINES[language])


def test_a_country_chooses_its_decimal_mark_and_spelling() -> None:
    shown = {tag: wording.of(tag).percent(0.931) for tag in ("en", "de", "de-AT", "de-CH", "es", "es-AR", "es-MX")}
    assert shown == {
        "en": "93.1 %",
        "de": "93,1 %",
        "de-AT": "93,1 %",
        "de-CH": "93.1 %",
        "es": "93,1 %",
        "es-AR": "93,1 %",
        "es-MX": "93.1 %",
    }
    assert wording.of("de").phrases.none_reached.endswith("das schließt eine Erkrankung nicht aus.")
    assert wording.of("de-CH").phrases.none_reached.endswith("das schliesst eine Erkrankung nicht aus.")


@pytest.mark.parametrize("tag", ["fr", "", "DE", "de_DE", "deutsch", "de-", "../de"])
def test_a_language_that_is_not_on_offer_is_refused(tag: str) -> None:
    with pytest.raises(DocumentError, match=r"not on offer; allowed: en, de, es"):
        DocumentOptions("1", language=tag)
