"""Pages of templates, with what every page has: who looks, the time, words for ages and sizes."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from dicom_node.version import software_version
from dicom_node.views import words
from dicom_node.web.access import Visitor
from dicom_node.web.parts import parts_of


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("dicom_node.web"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(age=words.age, moment=words.moment, size=words.size, priority=words.priority_name, coded=_coded)
    return made


def page(request: Request, template: str, visitor: Visitor | None, code: int = 200, **told: Any) -> HTMLResponse:
    """``visitor`` None: nobody is logged in, so that the page shows nothing of the node."""
    parts = parts_of(request)
    common = {
        "visitor": visitor,
        "now": parts.db.now(),
        "path": request.url.path,
        "version": software_version(),
        "title": parts.settings.documents.institution or parts.settings.listener.ae_title,
        "mode": parts.settings.mode.value,
    }
    return HTMLResponse(_templates().get_template(template).render(**common, **told), code)


def _coded(text: str) -> Markup:
    """What stands between backticks as code."""
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))
