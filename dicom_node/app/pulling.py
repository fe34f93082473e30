"""Studies that we asked for ourselves, and those that wait for their priors: when they are read, and where results go."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dicom_node.routing import Route
from dicom_node.settings import Settings
from dicom_node.storage.database import Database
from dicom_node.storage.pulls import PullReason, pulled

if TYPE_CHECKING:
    from dicom_node.ingest.assembly import Plan
    from dicom_node.storage.studies import StudyRow


def ranked(settings: Settings, db: Database, study: StudyRow, route: Route, plan: Plan) -> Plan:
    """The plan as its route has it, with the wait for priors; of a study that we asked for, at the priority that was asked.

    A prior's results stay on the node, whatever they say, and it waits for no priors of its own.
    """
    now = db.now()
    with db.read() as connection:
        asked = pulled(connection, study.study_uid, now)
    if asked is not None and asked.reason is PullReason.PRIOR:
        return replace(plan, priority=asked.priority, destinations=(), payload={**plan.payload, "prior": True})
    if asked is not None:
        plan = replace(plan, priority=asked.priority)
    if route.priors is None or settings.study.archive is None or study.revision:
        return plan
    payload = {**plan.payload, "priors": route.priors.model_dump()}
    return replace(plan, payload=payload, not_before=now + route.priors.wait_seconds)
