"""A message as a syslog line (RFC 5424, PS3.15 A.6): facility 10 (security), message ID DICOM+RFC3881, UTF-8 with its BOM."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_FACILITY: Final = 10  # security/authorization
_SEVERITIES: Final = {0: 5, 4: 4, 8: 3, 12: 2}  # notice, warning, error, critical
_BOM: Final = b"\xef\xbb\xbf"


def syslog_line(xml: str, at: float, outcome: int, host: str, process: int) -> bytes:
    """``at``: seconds since 1970 UTC, of the event. ``host``: at most 255 printable ASCII characters without a space."""
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    priority = _FACILITY * 8 + _SEVERITIES.get(outcome, 4)
    name = "".join(char for char in host if "!" <= char <= "~")[:255] or "-"
    head = f"<{priority}>1 {moment} {name} WetRead {process} DICOM+RFC3881 - "
    return head.encode("ascii") + _BOM + xml.encode()


def counted_frame(line: bytes) -> bytes:
    """Octet counting, MSG-LEN SP SYSLOG-MSG (RFC 5425 section 4.3; RFC 6587 section 3.4.1)."""
    return b"%d %s" % (len(line), line)
