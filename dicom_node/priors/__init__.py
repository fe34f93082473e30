"""Earlier studies of a patient: found at the archive, and fetched before a study is read."""
