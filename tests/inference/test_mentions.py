"""What sentences say of findings by words alone. The rows are sentences of reports, not phantom text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.mentions import Says, says, terms_of
from inference.triage.catalogue import load_catalogue

CATALOGUE = Path(__file__).parents[2] / "config" / "findings" / "chest_xray.yaml"
TERMS = {entry.key: terms_of(entry) for entry in load_catalogue(CATALOGUE).findings}
AFFIRMS, DENIES, MENTIONS, NOTHING = Says.AFFIRMS, Says.DENIES, Says.MENTIONS, Says.NOTHING

ROWS = {
    # plain
    "there is": ("There is a small left pneumothorax.", "pneumothorax", AFFIRMS),
    "noun phrase": ("Large right pleural effusion.", "pleural_effusion", AFFIRMS),
    "plural": ("Bilateral pleural effusions are seen.", "pleural_effusion", AFFIRMS),
    "a prompt's words": ("The heart is enlarged; an enlarged cardiac silhouette.", "cardiomegaly", AFFIRMS),
    "hyphen": ("There is a hiatal-hernia.", "hiatal_hernia", AFFIRMS),
    "silent": ("The bones are unremarkable.", "pneumothorax", NOTHING),
    "part of a word": ("Pneumothoraxlike shadow.", "pneumothorax", NOTHING),
    # denied
    "no": ("No pneumothorax.", "pneumothorax", DENIES),
    "no evidence of": ("There is no evidence of pleural effusion.", "pleural_effusion", DENIES),
    "without": ("Clear lungs without consolidation.", "consolidation", DENIES),
    "list with or, first": ("No pleural effusion, pneumothorax, or consolidation.", "pleural_effusion", DENIES),
    "list with or, middle": ("No pleural effusion, pneumothorax, or consolidation.", "pneumothorax", DENIES),
    "list with or, last": ("No pleural effusion, pneumothorax, or consolidation.", "consolidation", DENIES),
    "and joins": ("No pleural effusion and pneumothorax.", "pneumothorax", DENIES),
    "behind": ("Pneumothorax is not seen.", "pneumothorax", DENIES),
    "negative prompt": ("Fully expanded lungs.", "pneumothorax", DENIES),
    "negative prompt turned": ("The heart size is normal.", "cardiomegaly", DENIES),
    # where a denial ends
    "but": ("No pneumothorax but a small left pleural effusion.", "pleural_effusion", AFFIRMS),
    "however": ("No effusion; however, pneumothorax is present.", "pneumothorax", AFFIRMS),
    "comma without or": ("No pneumothorax, small left pleural effusion.", "pleural_effusion", AFFIRMS),
    "comma after the list": ("No consolidation or pneumothorax, small pleural effusion.", "pleural_effusion", AFFIRMS),
    "and begins anew": ("No pneumothorax and a small pleural effusion.", "pleural_effusion", AFFIRMS),
    "no change": ("No change in the left pneumothorax.", "pneumothorax", AFFIRMS),
    "no significant change": ("No significant change of the pleural effusion.", "pleural_effusion", AFFIRMS),
    # neither
    "one side": ("No left pneumothorax.", "pneumothorax", MENTIONS),
    "one size": ("No large pleural effusion.", "pleural_effusion", MENTIONS),
    "one side behind": ("No pneumothorax on the right.", "pneumothorax", MENTIONS),
    "new": ("No new consolidation.", "consolidation", MENTIONS),
    "possible": ("Possible pneumonia at the left base.", "pneumonia", MENTIONS),
    "cannot exclude": ("A small pneumothorax cannot be excluded.", "pneumothorax", MENTIONS),
    "history": ("History of pneumothorax.", "pneumothorax", MENTIONS),
    "in doubt, normal": ("Possibly normal heart size.", "cardiomegaly", NOTHING),
    "not normal": ("No normal heart size.", "cardiomegaly", NOTHING),
    # a drawn film's own words
    "phantom": ("the heart is enlarged, cardiomegaly.", "cardiomegaly", AFFIRMS),
    "phantom device": ("left pacemaker device in place.", "device", AFFIRMS),
    "phantom nodule": ("there is a nodule in the right mid zone.", "nodule", AFFIRMS),
}


@pytest.mark.parametrize(("sentence", "key", "wanted"), ROWS.values(), ids=ROWS)
def test_what_a_sentence_says(sentence: str, key: str, wanted: Says) -> None:
    assert says(sentence, TERMS[key]) is wanted


def test_every_prompt_affirms_its_own_finding_and_denies_it_where_it_is_meant_to() -> None:
    for entry in load_catalogue(CATALOGUE).findings:
        for prompt in entry.positive:
            assert says(f"There is {prompt}.", TERMS[entry.key]) is AFFIRMS, prompt
        for prompt in entry.negative:
            assert says(f"{prompt}.", TERMS[entry.key]) is not AFFIRMS, prompt


@given(st.text(max_size=200), st.sampled_from(sorted(TERMS)))
def test_any_text_has_an_answer(text: str, key: str) -> None:
    assert says(text, TERMS[key]) in Says
