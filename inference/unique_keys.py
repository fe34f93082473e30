"""YAML in which nothing is overwritten without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any

import yaml


class UniqueKeys(yaml.SafeLoader):
    """Safe YAML in which a key written twice is a fault, not a silent overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        written: Counter[str] = Counter()
        for key, _ in node.value:
            written[str(key.value)] += 1
            if written[str(key.value)] > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is written twice", key.start_mark)
        return super().construct_mapping(node, deep)
