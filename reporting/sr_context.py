"""The context items that open both of our SR documents (TID 1204, 1001, 1004)."""

from __future__ import annotations

from collections.abc import Iterable

from reporting import clean, codes
from reporting.content import CONTAINS, HAS_CONCEPT_MOD, HAS_OBS_CONTEXT, Item, code_item, person_item, text_item, uid_item
from reporting.header import PRODUCT
from reporting.options import DocumentOptions
from reporting.source import SourceStudy
from reporting.uids import derive_uid


def language(tag: str) -> Item:
    """TID 1204."""
    return code_item(HAS_CONCEPT_MOD, codes.LANGUAGE, codes.language(tag))


def observer(source: SourceStudy, options: DocumentOptions) -> list[Item]:
    """The node as device observer; no person observed anything."""
    uid = source.context.device_uid
    return [
        code_item(HAS_OBS_CONTEXT, codes.OBSERVER_TYPE, codes.DEVICE),
        uid_item(HAS_OBS_CONTEXT, codes.DEVICE_OBSERVER_UID, uid if clean.is_uid(uid) else derive_uid("installation", uid)),
        text_item(HAS_OBS_CONTEXT, codes.DEVICE_OBSERVER_NAME, source.context.station_name or PRODUCT),
        text_item(HAS_OBS_CONTEXT, codes.DEVICE_OBSERVER_MANUFACTURER, options.manufacturer),
        text_item(HAS_OBS_CONTEXT, codes.DEVICE_OBSERVER_MODEL, f"{PRODUCT} {options.software_version}"),
    ]


def person_observer(person: str, organization: str) -> list[Item]:
    """TID 1003: who signed."""
    return [
        code_item(HAS_OBS_CONTEXT, codes.OBSERVER_TYPE, codes.PERSON),
        person_item(HAS_OBS_CONTEXT, codes.PERSON_OBSERVER_NAME, clean.person_name(person)),
        text_item(HAS_OBS_CONTEXT, codes.PERSON_OBSERVER_ORGANIZATION, organization),
    ]


def procedures(source: SourceStudy) -> list[Item]:
    return [code_item(HAS_CONCEPT_MOD, codes.PROCEDURE_REPORTED, code) for code in source.procedure_reported()]


def notice_items(notices: Iterable[str]) -> list[Item]:
    return [text_item(CONTAINS, codes.NOTICE, note) for note in notices]
