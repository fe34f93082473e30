"""Errors of the reporting package.

ReportingError
├── ContextError    the study's own attributes do not allow a document (no usable header, no Study Instance UID)
└── DocumentError   a built document does not pass its checks
"""


class ReportingError(Exception):
    """Base of all errors raised by ``reporting``."""


class ContextError(ReportingError):
    """A document cannot be made for this study; the message names the attribute."""


class DocumentError(ReportingError):
    """A built document failed its check and must not leave; the message names the rule."""
