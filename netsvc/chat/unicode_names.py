"""Names in any script, such as Chinese. Names that look alike count as the same name.

A name must fit PRECIS's username profile (RFC 8265), which maps full-width letters and refuses spaces, symbols and text
of mixed direction. Combining marks are refused, except those without which a script cannot be written: they hide or
overlay letters, and a name with a mark hardly differs from the name without it. Names that look alike have the same
skeleton (UTS #39).
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from confusable_homoglyphs.confusables import confusables_data
from precis_i18n import get_profile

from netsvc.chat.names import NAME_MAX, InvalidNameError, Names, look_alike_key

#: Scripts that write vowels as marks, as Unicode's names of their characters begin. They are those of UAX #31, table 5.
SCRIPTS_WITH_MARKS = frozenset(
    {
        *("BENGALI", "DEVANAGARI", "GUJARATI", "GURMUKHI", "KANNADA", "KHMER", "LAO", "MALAYALAM", "MYANMAR", "ORIYA"),
        *("SINHALA", "TAMIL", "TELUGU", "THAANA", "THAI", "TIBETAN"),
    }
)

#: Marks on one letter of these scripts. Common Burmese names have four.
MARKS_MAX = 4


class UnicodeNames(Names):
    """Names of 1 to 24 bytes of UTF-8: letters, digits and vowel signs of any script, ``_`` and ``-``."""

    def __init__(self) -> None:
        self._profile = get_profile("UsernameCasePreserved")
        super().__init__()

    def room(self, text: str) -> str:
        # Some small letters are longer than the capital, or have a mark. So the name is parsed in lower case.
        return super().room(text.lower())

    def keys(self, name: str) -> set[str]:
        # A capital letter resembles other letters than its small letter does. So both forms are compared.
        name = name.translate(_WITHOUT_JOINERS)
        skeletons = (_skeleton(form).casefold() for form in (name, name.casefold()))
        return {look_alike_key(_skeleton(skeleton).casefold()) for skeleton in skeletons}

    def parse(self, text: str, what: str) -> str:
        try:
            name: str = self._profile.enforce(text) if text else ""
        except UnicodeEncodeError:
            name = ""
        ascii_part = "".join(filter(str.isascii, name)).translate({ord("_"): None, ord("-"): None})
        if not 0 < len(name.encode("utf-8")) <= NAME_MAX or (ascii_part and not ascii_part.isalnum()):
            raise InvalidNameError(f"{what} is 1 to {NAME_MAX} bytes of letters, digits, _ and -")
        if not _marks_are_needed(name):
            raise InvalidNameError(f"{what} has no combining marks except vowel signs of its script")
        return name


_WITHOUT_JOINERS = {0x200C: None, 0x200D: None}
_MARKS_OF_ALL_SCRIPTS = "\u0951\u0952\u0953\u0954"  # their names begin with DEVANAGARI


def _marks_are_needed(name: str) -> bool:
    """Return whether each combining mark belongs to a letter of its own script that is written with marks.

    No letter has a mark twice. The name is composed, so that é has none.
    """
    script = marks = ""
    for character in name:
        script_of_character = unicodedata.name(character, "").partition(" ")[0]
        if unicodedata.category(character)[0] != "M":
            script = script_of_character if character.isalpha() else ""
            marks = ""
        elif (
            script_of_character != script
            or script not in SCRIPTS_WITH_MARKS
            or len(marks) == MARKS_MAX
            or character in marks
            or character in _MARKS_OF_ALL_SCRIPTS
        ):
            return False
        else:
            marks += character
    return True


def _skeleton(text: str) -> str:
    """Return the skeleton of UTS #39, section 4. It is the same for texts that look alike.

    The data contains composed characters as well, which the procedure of UTS #39 decomposes first. Here they are looked
    up before they are decomposed.
    """
    for _ in range(2):
        text = unicodedata.normalize("NFD", "".join(map(_prototype, text)))
    return text


@lru_cache(maxsize=4_096)
def _prototype(character: str) -> str:
    """Return the prototype of the characters that look like this one.

    The data lists for a prototype all characters that look like it, and for any other character its prototype.
    """
    alike = confusables_data.get(character, ())
    if len(alike) != 1:
        return character
    other: str = alike[0]["c"]
    if len(confusables_data[other]) > 1:
        return other
    return min(character, other, key=lambda one: (-len(one), one))  # for a pair without a prototype, either one will do
