"""Results and documents: saved, replaced, found."""

from __future__ import annotations

from dataclasses import replace

from dicom_node.storage.database import Database
from dicom_node.storage.results import (
    NewDocument,
    NewResult,
    documents_of,
    load_document,
    load_result,
    results_of,
    save_document,
    save_result,
)

RESULT = NewResult("1.2", 1, "chest", '{"a": 1}')
DOCUMENT = NewDocument("2.25.7", "sr-findings", "documents/x.dcm", "1.2", 1, "chest", "application/dicom", 9, "a" * 64)


def test_a_result_saved_again_is_replaced(db: Database) -> None:
    with db.write() as conn:
        save_result(conn, RESULT, 1.0)
        save_result(conn, replace(RESULT, reading_json="{}"), 2.0)
        save_result(conn, replace(RESULT, revision=2), 3.0)
        found = load_result(conn, "1.2", 1, "chest")
        assert found is not None
        assert (found.reading_json, found.created_at) == ("{}", 2.0)
        assert load_result(conn, "1.2", 1, "other") is None
        assert [row.revision for row in results_of(conn, "1.2")] == [2, 1]


def test_a_document_saved_again_is_replaced(db: Database) -> None:
    with db.write() as conn:
        save_document(conn, DOCUMENT, 1.0)
        save_document(conn, replace(DOCUMENT, size=10), 2.0)
        save_document(conn, replace(DOCUMENT, uid="2.25.8", revision=2), 3.0)
        found = load_document(conn, "2.25.7")
        assert found is not None
        assert found.size == 10
        assert load_document(conn, "2.25.9") is None
        assert [row.uid for row in documents_of(conn, "1.2")] == ["2.25.8", "2.25.7"]
        assert [row.uid for row in documents_of(conn, "1.2", 1)] == ["2.25.7"]
