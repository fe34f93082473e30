"""Texts as the reference's evaluation scores them: for comparing with its published metrics, never for a report.

Its caption metrics drop all punctuation ("3.5 cm" becomes "35 cm"), its summary metrics lower the case, write 1 as # and put
the text into the tokenisation of the Gigaword corpus.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_NO_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)
_BRACKETS: Final = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_NAMES: Final = {**_BRACKETS, "[UNK]": "UNK", "&": "&amp;", "<": "&lt;", ">": "&gt;"}


def caption_for_metrics(text: str) -> str:
    return text.translate(_NO_PUNCTUATION).strip()


def summary_for_metrics(text: str) -> str:
    return fix_tokenization(text.lower().strip()).replace("1", "#")


def fix_tokenization(text: str) -> str:
    """Words and marks separated by spaces, rewritten in the Penn Treebank's way."""
    return _Rewriter(text.split()).run()


@dataclass(slots=True)
class _Rewriter:
    """Goes through the tokens once; each rule says how many tokens it took, 0 where it does not apply."""

    tokens: list[str]
    out: list[str] = field(default_factory=list)
    open_marks: set[str] = field(default_factory=set)
    dashed: bool = False  # the token before was a dash that joins: "x - ray" becomes "x-ray"
    dashes: bool = False  # this one is

    def run(self) -> str:
        rules: tuple[Callable[[int], int], ...] = (
            self._named,
            self._double_quote,
            self._negation,
            self._clitic,
            self._single_quote,
            self._ellipsis,
            self._thousands,
            self._decimal,
            self._initials,
            self._dash,
            self._joined,
            self._plain,
        )
        i = 0
        while i < len(self.tokens):
            self.dashed, self.dashes = self.dashes, False
            i += next(taken for rule in rules if (taken := rule(i)))
        return " ".join(self.out)

    def _at(self, i: int) -> str:
        return self.tokens[i] if i < len(self.tokens) else ""

    def _named(self, i: int) -> int:
        if self.tokens[i] not in _NAMES:
            return 0
        self.out.append(_NAMES[self.tokens[i]])
        return 1

    def _double_quote(self, i: int) -> int:
        return self._quote(i, '"', "``", "''")

    def _single_quote(self, i: int) -> int:
        return self._quote(i, "'", "`", "'")

    def _quote(self, i: int, mark: str, opening: str, closing: str) -> int:
        if self.tokens[i] != mark:
            return 0
        self.out.append(closing if mark in self.open_marks else opening)
        self.open_marks ^= {mark}
        return 1

    def _negation(self, i: int) -> int:
        if self.tokens[i] != "'" or not self.out or not self.out[-1].endswith("n") or self._at(i + 1) != "t":
            return 0
        self.out[-1] = self.out[-1][:-1]
        self.out.append("n't")
        return 2

    def _clitic(self, i: int) -> int:
        if self.tokens[i] != "'" or self._at(i + 1) not in ("s", "d", "ll"):
            return 0
        self.out.append("'" + self.tokens[i + 1])
        return 2

    def _ellipsis(self, i: int) -> int:
        if self.tokens[i : i + 3] != [".", ".", "."]:
            return 0
        self.out.append("...")
        return 3

    def _thousands(self, i: int) -> int:
        return self._number(i, ",", lambda word: bool(word) and not word.strip(string.digits + ","))

    def _decimal(self, i: int) -> int:
        return self._number(i, ".", str.isdigit)

    def _number(self, i: int, mark: str, is_number: Callable[[str], bool]) -> int:
        if self.tokens[i] != mark or not self.out or not is_number(self.out[-1]) or not is_number(self._at(i + 1)):
            return 0
        self.out[-1] += mark + self.tokens[i + 1]
        return 2

    def _initials(self, i: int) -> int:
        """The reference joins all initials to the first and yet goes on after the second; so does this."""
        if self.tokens[i] != "." or not self.out or not _is_initial(self.out[-1]) or not self._is_marked_initial(i + 1):
            return 0
        end = i + 3
        while self._is_marked_initial(end + 1):
            end += 2
        self.out[-1] += "".join(self.tokens[i:end])
        return 2

    def _is_marked_initial(self, i: int) -> bool:
        return _is_initial(self._at(i)) and self._at(i + 1) == "."

    def _dash(self, i: int) -> int:
        if self.tokens[i] != "-":
            return 0
        after = self._at(i + 1)
        if after == "-":
            self.out.append("--")
            return 2
        if not after or not self.out or self.out[-1] in string.punctuation or after[0] in string.punctuation:
            self.out.append("-")
            return 1
        self.out[-1] += "-"
        self.dashes = True
        return 1

    def _joined(self, i: int) -> int:
        if not self.dashed or self.tokens[i][0] in string.punctuation:
            return 0
        self.out[-1] += self.tokens[i]
        return 1

    def _plain(self, i: int) -> int:
        self.out.append(self.tokens[i])
        return 1


def _is_initial(token: str) -> bool:
    return len(token) == 1 and token.isupper()
