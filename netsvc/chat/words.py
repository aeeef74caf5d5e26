"""Search by words: which words a text has, and whether it has all that are looked for.

A word is a run of letters and digits. A word that is looked for is found at the beginning of a word of the text, in any
case of letters: ``deploy`` finds ``Deployed``, and ``ploy`` does not. Languages that put no spaces between words are
found from the beginning of such a run only.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """Return the words of a text, in one case of letters. The ASCII characters among them are letters and digits."""
    return _WORD.findall(_fold(text))


def word_finder(words: str) -> Callable[[str], bool]:
    """Return a function that says whether a text has all of ``words``. If there are none, no text has."""
    patterns = [re.compile(r"(?<![^\W_])" + re.escape(word)) for word in words_of(words)]

    def has_all(text: str) -> bool:
        folded = _fold(text)
        return bool(patterns) and all(pattern.search(folded) for pattern in patterns)

    return has_all


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
