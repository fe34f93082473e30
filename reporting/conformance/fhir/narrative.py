"""What a Narrative may hold: basic XHTML with something in it (R4 2.4.0, txt-1, txt-2)."""

from __future__ import annotations

import re
from typing import Final
from xml.etree import ElementTree

_XHTML: Final = "{http://www.w3.org/1999/xhtml}"
_ENTITY: Final = re.compile(r"&([A-Za-z][A-Za-z0-9]*);")
_XML_ENTITIES: Final = frozenset({"amp", "lt", "gt", "quot", "apos"})
# HTML 4.0 chapters 7 to 11 without section 4 of chapter 9 and without 15's, and <a>, <img> (R4 2.4.0)
_ELEMENTS: Final = re.compile(
    "a|abbr|acronym|address|b|big|blockquote|br|caption|cite|code|col|colgroup|dd|dfn|div|dl|dt|em|h[1-6]|hr|i|img|li"
    "|ol|p|pre|q|samp|small|span|strong|sub|sup|table|tbody|td|tfoot|th|thead|tr|tt|ul|var"
)


def is_narrative(text: object) -> bool:
    """Whether this is one ``div`` of allowed elements, without scripts, with text or a picture."""
    if not isinstance(text, str) or "<!DOCTYPE" in text or "<!ENTITY" in text:
        return False
    try:
        root = ElementTree.fromstring(_ENTITY.sub(_named, text))  # no entities of its own: nothing to expand
    except (ElementTree.ParseError, ValueError):
        return False
    if root.tag != f"{_XHTML}div":
        return False
    nodes = list(root.iter())
    said = any((part or "").strip() for node in nodes for part in (node.text, node.tail)) or any(
        node.tag == f"{_XHTML}img" for node in nodes
    )
    return said and all(_allowed(node) for node in nodes)


def _named(match: re.Match[str]) -> str:
    """HTML's named characters are allowed, and XML knows five of them."""
    return match[0] if match[1] in _XML_ENTITIES else " "


def _allowed(node: ElementTree.Element) -> bool:
    names = [name.lower() for name in node.attrib]
    plain = not any(name.startswith("on") for name in names)
    return plain and _ELEMENTS.fullmatch(str(node.tag).removeprefix(_XHTML)) is not None
