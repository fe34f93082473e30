"""Alembic's entry: runs the revisions on the connection that ``storage.migrate`` hands over."""

from alembic import context

from dicom_node.storage.tables import metadata

# A connection, never a URL: passwords stay out of alembic's configuration.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
