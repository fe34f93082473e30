"""What peers may ask of us: C-FIND, C-MOVE, C-GET and storage commitment as SCP, over an index of what is here."""
