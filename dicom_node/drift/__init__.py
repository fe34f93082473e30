"""Drift watch: does a scanner still send, and do the models still say, what they did when the baseline was taken?

The worker leaves one observation for each reading, in the transaction that saves it. They are folded, later and by one
process, into streams: one for each reading, set of models and scanner. A stream's first studies are its baseline; a window
of its newest is compared with it.
"""

from dicom_node.drift.observation import observe

__all__ = ["observe"]
