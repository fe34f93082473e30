"""Questions, drafts and summaries for people at a terminal."""
