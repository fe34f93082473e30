"""What a site fits on its own labelled films: calibrations of a model's probabilities, and linear probes on its embeddings.

Applying one needs numpy only (``transform``, ``manifest``, ``applied``); fitting needs scipy, scikit-learn and matplotlib.
"""
