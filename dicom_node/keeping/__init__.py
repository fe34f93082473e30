"""Keeping house: what is removed when, and what else one process of the node does now and then for all."""
