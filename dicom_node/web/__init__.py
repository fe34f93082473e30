"""Pages for a PACS administrator, health, metrics, and DICOMweb: over HTTP, from the database; no model is loaded here."""
