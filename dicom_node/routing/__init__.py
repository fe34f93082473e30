"""Routes: which study gets which reading, at what priority, and where its results go; and where results go because of what
they say.
"""

from dicom_node.routing.conditions import Conditions, Judgement
from dicom_node.routing.facts import StudyFacts
from dicom_node.routing.files import Names, PriorsWish, Route, Routes, default_routes, load_routes, parse_routes
from dicom_node.routing.priorities import PRIORITY, PriorityName
from dicom_node.routing.results import ResultConditions, ResultRule

__all__ = [
    "PRIORITY",
    "Conditions",
    "Judgement",
    "Names",
    "PriorityName",
    "PriorsWish",
    "ResultConditions",
    "ResultRule",
    "Route",
    "Routes",
    "StudyFacts",
    "default_routes",
    "load_routes",
    "parse_routes",
]
