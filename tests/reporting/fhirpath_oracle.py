"""fhirpathpy (PyPI), an independent FHIRPath engine with HL7's model of R4, in a process of its own.

It stands apart from the project's packages (``tests/acceptance/install_peers.sh`` puts it under .venv/fhirpath), because its
parser's runtime is another version than the one fairseq's settings need. One question a line: expression, type and node, the
resource, the root resource; one answer a line: true where the expression is false of the node.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / ".venv" / "fhirpath"

# hasValue() is FHIR's own addition to FHIRPath (R4 2.9.1), which fhirpathpy leaves to its users
_HAS_VALUE = {"hasValue": {"fn": lambda values: [len(values) == 1], "arity": {0: []}}}


class Oracle:
    """The process; ``breaks`` asks it. Close it at the end."""

    def __init__(self) -> None:
        env = {**os.environ, "PYTHONPATH": str(FOLDER)}
        command = [sys.executable, "-W", "ignore", __file__]
        self._process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def breaks(self, expression: str, kind: str, node: Any, resource: Any, root: Any) -> bool:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([expression, kind, node, resource, root]) + "\n")
        self._process.stdin.flush()
        answer: bool = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate()


def _answer() -> None:
    from functools import cache

    from fhirpathpy import apply_parsed_path, parse
    from fhirpathpy.engine.nodes import ResourceNode
    from fhirpathpy.models import models

    parsed, answers = cache(parse), sys.stdout
    sys.stdout = sys.stderr  # trace() prints
    for line in sys.stdin:
        expression, kind, node, resource, root = json.loads(line)
        given = {"resource": resource, "rootResource": root}
        start = ResourceNode.create_node(node, kind)
        found = apply_parsed_path(start, parsed(expression), given, models["r4"], {"userInvocationTable": _HAS_VALUE})
        print(json.dumps(bool(found == [False])), file=answers, flush=True)


if __name__ == "__main__":
    _answer()
