"""Backups of a running node, and their restoration on an empty machine.

    FOLDER/
      files/                     every file that a backup names, once: images and documents never change
      backups/<time>/            one backup each, complete when it is there
        backup.json              what it is of: version, revision of the tables, counts
        files.jsonl.gz           path, size and SHA-256 of each file, in the order of the paths
        tables/<name>.jsonl.gz   the rows

The rows are copied first, all of one moment, and the files they name afterwards. A row is committed when its file is on the
disk for good, and files are never changed: so whatever the rows of that moment name is there to be copied. The other way
round, rows could name files that came after the copy. What retention deletes meanwhile is left out.
"""
