"""Earlier studies of a patient: found at the archive, fetched before a study is read, and compared finding by finding."""
