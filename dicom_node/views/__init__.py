"""What a person may see of the node, as plain data: pages, commands and JSON show the same. No patient data."""
