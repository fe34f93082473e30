"""The database's shape, revision by revision (alembic).

``HEAD`` stands here as plain text so that a node whose database is current starts without loading alembic;
a test shows that it is the newest file of ``versions``.
"""

HEAD = "0005"
