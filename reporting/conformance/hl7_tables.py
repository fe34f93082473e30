"""What HL7 v2 says of anybody's messages, as tables: required fields, closed code tables, the order of ORU^R01 and ACK."""

from __future__ import annotations

import re
from typing import Final

# Fields that every version from 2.4 on requires, and those of ERR, SFT and SPM since 2.5, where the segments got their form
REQUIRED: Final[dict[str, tuple[int, ...]]] = {
    "MSH": (7, 9, 10, 11, 12),
    "MSA": (1, 2),
    "SFT": (1, 2, 3, 4),
    "EVN": (2,),
    "PID": (3, 5),
    "NK1": (1,),
    "PV1": (2,),
    "ORC": (1,),
    "OBR": (4,),
    "OBX": (3, 11),
    "SPM": (4,),
    "TXA": (1, 2, 12, 17),
    "AL1": (1, 3),
    "DG1": (1, 6),
    "MRG": (1,),
    "IN1": (1, 3),
    "CTI": (1,),
}
REQUIRED_BEFORE_2_4: Final = {"MSH": (9, 10, 11, 12), "MSA": (1, 2), "PID": (3, 5), "PV1": (2,), "OBR": (4,), "OBX": (3, 11)}
# Fields of a date and time, or of a date
TIMES: Final[dict[str, tuple[int, ...]]] = {
    "MSH": (7,),
    "EVN": (2, 3, 6),
    "PID": (7, 29),
    "PV1": (44, 45),
    "ORC": (9, 15),
    "OBR": (6, 7, 8, 14, 22),
    "OBX": (14, 19),
    "TXA": (4, 6, 7, 8),
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SET_IDS: Final = ("PID", "OBR", "OBX", "NTE")  # field 1 is a sequence number
# HL7 tables (not for users to extend): place, number, codes
CODES: Final[tuple[tuple[str, int, str, frozenset[str]], ...]] = (
    ("MSH", 11, "0103", frozenset("DPT")),
    ("MSA", 1, "0008", frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})),
    ("OBR", 25, "0123", frozenset("OISAPCRFXYZMN")),
    ("OBX", 11, "0085", frozenset("ABCDFINOPRSUVWX")),
    ("ORC", 1, "0119", _words("AF CA CH CN CP CR DC DE DF DR FU HD HR LI MC NA NR NW OC OD OE OF OH OK OP OR PA PR PY RE")
        | _words("RF RL RO RP RQ RR RU SC SN SQ SR SS UA UC UD UF UH UM UN UR UX XO XR XX")),
)  # fmt: skip
VERSIONS: Final = _words("2.1 2.2 2.3 2.3.1 2.3.2 2.4 2.5 2.5.1 2.6 2.7 2.7.1 2.8 2.8.1 2.8.2 2.9 2.9.1")
VALUE_TYPES: Final = _words(  # table 0125, and the data types that later versions add to it
    "AD CE CF CK CN CNE CP CQ CWE CX DR DT DTM ED EI FT HD ID IS MA MO NA NM PN RP SN ST TM TN TS TX XAD XCN XON XPN XTN"
)
CHARACTER_SETS: Final = {  # table 0211 to Python's codecs; None: not read here
    "": "ascii",
    "ASCII": "ascii",
    "ISO IR6": "ascii",
    **{f"8859/{part}": f"iso8859-{part}" for part in (*range(1, 10), 15)},
    "UNICODE": None,
    "UNICODE UTF-8": "utf-8",
    "UNICODE UTF-16": None,
    "UNICODE UTF-32": None,
    "ISO IR14": None,
    "ISO IR87": None,
    "ISO IR159": None,
    "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr",
    "CNS 11643-1992": None,
    "BIG-5": "big5",
}
_ORDER: Final = r"( ORC)? OBR( NTE)*( TQ1( TQ2)*)*( CTD)?( OBX( NTE)*)*( FT1)*( CTI)*( SPM( OBX)*)*"
_PATIENT: Final = r" PID( PD1)?( NTE)*( NK1)*( PV1( PV2)?)?"
ORDERS: Final = {  # message code: its segments (2.5.1 7.3.1, 2.14.1), of versions before 2.6, which puts others between
    "ORU": re.compile(rf"MSH( SFT)*(({_PATIENT})?{_ORDER})+( DSC)?"),
    "ACK": re.compile(r"MSH( SFT)* MSA( ERR)*"),
}
