"""`wetread pull`: studies of an archive into the node, or into a folder."""
