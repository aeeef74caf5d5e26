"""Search by words: which words a text has, and whether it has all that are looked for.

A word is a run of letters and digits. A word that is looked for is found at the beginning of a word of the text, in any
case of letters: ``deploy`` finds ``Deployed``, and ``ploy`` does not. Languages that put no spaces between words are
found from the beginning of such a run only.

What is looked for has at most eight parts between spaces, of at most 64 characters. ``2026-11-29`` is one part with
three words. At most sixteen words are looked for; more are ignored.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

#: How many parts between spaces a search may have, the characters of each, and how many words are looked for.
PARTS_MAX = 8
PART_MAX = 64
WANTED_MAX = 16

_WORD = re.compile(r"[^\W_]+")


def folded(text: str) -> str:
    """Return a text in one case of letters. Compatible characters become the same, which makes some texts longer."""
    return unicodedata.normalize("NFKC", text).casefold()


def words_of(text: str) -> list[str]:
    """Return the words of a text, in one case of letters. The ASCII characters among them are letters and digits."""
    return _WORD.findall(folded(text))


def search_refusal(text: str) -> str:
    """Return why a text cannot be searched for; empty if it can be."""
    parts = text.split()
    if len(parts) > PARTS_MAX or any(len(part) > PART_MAX for part in parts):
        return f"search for at most {PARTS_MAX} words of at most {PART_MAX} characters"
    return ""


def wanted_words(text: str) -> list[str]:
    """Return the words that a search for ``text`` looks for. Words beyond the bounds are ignored."""
    parts = [part[:PART_MAX] for part in text.split(maxsplit=PARTS_MAX)[:PARTS_MAX]]
    return list(dict.fromkeys(words_of(" ".join(parts))))[:WANTED_MAX]


def spaced_words(folded_text: str) -> str:
    """Return each word of a folded text once, with a space before it. A word begins with ``x`` if this has ``" x"``."""
    # A search with a regular expression takes 30 times as long as ``in``.
    return "".join([f" {word}" for word in dict.fromkeys(_WORD.findall(folded_text))])


def word_finder(wanted: list[str]) -> Callable[[str], bool]:
    """Return a function that says whether the result of :func:`spaced_words` has all words of :func:`wanted_words`.

    If there are none, no text has.
    """
    beginnings = [f" {word}" for word in wanted]

    def has_all(words: str) -> bool:
        # A loop takes half as long as all() with a generator.
        for beginning in beginnings:
            if beginning not in words:
                return False
        return bool(beginnings)

    return has_all
