from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.wire.text import clean, is_blank, split_incomplete
from tests.strategies import split, split_places

# Format characters that are visible: Arabic and Syriac number and verse signs.
VISIBLE_FORMATS = set("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")

ZWNJ, ZWJ, EMOJI_STYLE = "\u200c", "\u200d", "\ufe0f"
ALL = [chr(number) for number in range(sys.maxunicode + 1)]
MARKS = [character for character in ALL if unicodedata.category(character)[0] == "M"]

# Text in which safe, unsafe and misplaced characters are next to each other.
mixed_text = st.text(
    st.one_of(
        st.sampled_from(
            [ZWNJ, ZWJ, EMOJI_STYLE, "\ufe00", "\u180b", "\U000e0100", "\u0301", "\u094d", "\u200b", "\u202e"]
        ),
        st.sampled_from("a \t\u00a0\u2800\u3164\U000e0041\x1b\u0633\u06cc\u0631\u0915\u09b0\u09cd👩❤🏽👍#\u20e3🇩"),
        st.characters(),
    )
)


def test_clean_text_contains_no_unicode_control_format_or_line_separator_character() -> None:
    unsafe = {character for character in ALL if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    kept = {character for character in unsafe - VISIBLE_FORMATS if clean(character).strip(" ")}
    assert kept == set()


@given(mixed_text)
def test_of_the_invisible_characters_clean_text_contains_joiners_only(text: str) -> None:
    unsafe = ("Cc", "Cf", "Cs", "Zl", "Zp")
    formats = {character for character in clean(text) if unicodedata.category(character) in unsafe}
    assert formats <= VISIBLE_FORMATS | {ZWNJ, ZWJ}


@given(mixed_text)
def test_clean_text_stays_the_same_when_it_is_cleaned_again(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(mixed_text)
def test_clean_changes_no_visible_character(text: str) -> None:
    def visible(text: str) -> str:
        return "".join(character for character in text if unicodedata.category(character)[0] in "LNPS")

    fillers = dict.fromkeys(map(ord, "\u115f\u1160\u3164\uffa0"))  # letters that show nothing
    assert visible(clean(text)) == visible(text.translate(fillers))


SENTENCES = {
    "accents": "añ Größe naïve café",
    "decomposed Vietnamese": unicodedata.normalize("NFD", "Tiếng Việt rất hay, cảm ơn bạn"),
    "Vietnamese": "Tiếng Việt rất hay, cảm ơn bạn",
    "Chinese": "今天天气很好",
    "Japanese, a variant of a character": "葛\U000e0100城市で会いましょう",
    "Korean": "오늘 날씨가 좋습니다",
    "Hebrew with points": "שָׁלוֹם עֲלֵיכֶם",
    "Arabic with vowels": "اَلسَّلَامُ عَلَيْكُمْ",
    "Persian": f"من می{ZWNJ}خواهم کتاب{ZWNJ}های تازه{ZWNJ}ای بخرم",
    "Persian, an abbreviation": f"سال ۱۴۰۰ ه{ZWJ}.ش",
    "Persian, a number": f"کودک ۵{ZWNJ}ساله",
    "Urdu": "آپ کیسے ہیں؟ میں ٹھیک ہوں۔",
    "Hindi": "नमस्ते दुनिया, हाँ ज़िंदगी",
    "Hindi, half letters": f"क्{ZWJ}ष और क्{ZWNJ}ष",
    "Marathi, the eyelash": f"दर्{ZWJ}या",
    "Bengali": f"র{ZWJ}্যাব এবং দ্{ZWNJ}বিতীয়, আমি বাংলায় গান গাই",
    "Kannada": f"ರ{ZWJ}್ಯಾಂಕ್ ನೋಟ್{ZWNJ}ಬುಕ್{ZWNJ} ಇದೆ",
    "Tamil": "நீங்கள் எப்படி இருக்கிறீர்கள்?",
    "Telugu": f"సాఫ్ట్{ZWNJ}వేర్ బాగుంది",
    "Malayalam, old chillus": f"അവന്{ZWJ} പറഞ്ഞു, അവര്{ZWJ} വന്നു",
    "Sinhala": f"ශ්{ZWJ}රී ලංකාව, වාක්{ZWJ}ය",
    "Thai": "น้ำท่วมที่กรุงเทพฯ วันนี้อากาศดีมาก",
    "Burmese": "မြို့ကြီးမှာ ကျွန်တော် နေပါတယ်",
    "Khmer": "ខ្ញុំស្រឡាញ់ភាសាខ្មែរ",
    "Tibetan, the tallest stack": "ཧྐྵྨླྺྼྻྂ བཀྲ་ཤིས་བདེ་ལེགས།",
    "emoji": f"👍 ❤{EMOJI_STYLE} ✈{EMOJI_STYLE} 😀😀😀😀😀😀😀😀😀😀😀😀",
    "keycaps": f"1{EMOJI_STYLE}\u20e3 #{EMOJI_STYLE}\u20e3",
    "flags": "🇩🇪🇫🇷🇯🇵",
    "skin tones": "👍🏽 👋🏿",
    "a family": ZWJ.join("👨👩👧👦"),
    "a profession": f"👩🏽{ZWJ}🚀 🧑{ZWJ}⚕{EMOJI_STYLE}",
    "the rainbow flag": f"🏳{EMOJI_STYLE}{ZWJ}🌈 🏴{ZWJ}☠{EMOJI_STYLE}",
    "a heart on fire": f"❤{EMOJI_STYLE}{ZWJ}🔥 👁{EMOJI_STYLE}{ZWJ}🗨{EMOJI_STYLE} 🐈{ZWJ}⬛ 🙂{ZWJ}↔{EMOJI_STYLE}",
    "a kiss": f"👩🏻{ZWJ}❤{EMOJI_STYLE}{ZWJ}💋{ZWJ}👨🏿",
    "punctuation": "---------- ………………………… ¡¡¡¡¡¡¡¡¡¡ \u00a0 ▁▂▃▄▅▆▇█▇▆▅▄▃▂▁",
}


@pytest.mark.parametrize("sentence", SENTENCES.values(), ids=SENTENCES)
def test_clean_keeps_sentences_of_every_language_whole(sentence: str) -> None:
    assert clean(sentence) == sentence


@pytest.mark.parametrize("sentence", SENTENCES.values(), ids=SENTENCES)
def test_a_sentence_is_cleaned_without_an_error_wherever_it_is_cut(sentence: str) -> None:
    for place in range(len(sentence)):
        assert clean(clean(sentence[:place])) == clean(sentence[:place])
        assert clean(clean(sentence[place:])) == clean(sentence[place:])


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (f"ad{ZWJ}min ad{ZWNJ}min", "admin admin"),
        (f"{ZWJ}👩{ZWJ}", "👩"),
        (f"👩{ZWJ}{ZWJ}👧", "👩👧"),
        (f"👩{ZWJ}a a{ZWJ}👩", "👩a a👩"),
        (f"👩{ZWNJ}👧", "👩👧"),
        (f"🇩{ZWJ}🇪", "🇩🇪"),
        (f"می{ZWNJ}", "می"),
        (f"می{ZWNJ}{ZWNJ}خواهم", "میخواهم"),
        (f"می{ZWNJ} خواهم", "می خواهم"),
        (f"क{ZWJ}ष", "कष"),
        (f"王{ZWJ}明", "王明"),
    ],
)
def test_a_joiner_is_removed_where_it_has_no_meaning(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (f"❤{EMOJI_STYLE}{EMOJI_STYLE}", f"❤{EMOJI_STYLE}"),
        ("😀" + "".join(map(chr, range(0xE0100, 0xE01F0))), "😀\U000e0100"),
        (f"a {EMOJI_STYLE}b", "a b"),
        (f"{EMOJI_STYLE}a", "a"),
        (f"❤{EMOJI_STYLE}{ZWJ}{EMOJI_STYLE}", f"❤{EMOJI_STYLE}"),
    ],
)
def test_only_one_variation_selector_stays_after_a_character(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_the_flag_of_a_region_loses_its_tag_characters() -> None:
    assert clean("🏴" + "".join(chr(0xE0000 + ord(letter)) for letter in "gbeng") + "\U000e007f") == "🏴"


@pytest.mark.parametrize("base", ["Z", "é", "क", "😀", " ", ""])
def test_at_most_eight_combining_marks_stay_on_one_character(base: str) -> None:
    marks = "\u0301\u0316\u0489" * 20
    assert clean(f"{base}{marks}a{marks}") == f"{base}{marks[:8]}a{marks[:8]}"


def test_every_combining_mark_of_unicode_is_limited() -> None:
    assert all(len(clean("a" + 20 * mark)) <= 1 + 8 for mark in MARKS)


def test_joiners_do_not_extend_the_limit_on_marks() -> None:
    assert len(clean("क" + f"\u094d{ZWJ}" * 20)) <= 1 + 8


def test_joiners_stay_after_every_virama_and_between_letters_that_are_joined() -> None:
    joined = ("ARABIC LETTER", "SYRIAC LETTER", "NKO LETTER", "MONGOLIAN LETTER", "ADLAM SMALL LETTER")
    for character in ALL:
        if unicodedata.combining(character) == 9:
            assert clean(f"\u0915{character}{ZWJ} \u0915{character}{ZWNJ}").count(ZWJ) == 1, character
        if character.isalpha() and unicodedata.name(character, "").startswith(joined):
            assert clean(f"{character}{ZWNJ}{character}") == f"{character}{ZWNJ}{character}"


def test_letters_do_not_count_as_emoji() -> None:
    letters = [character for character in ALL if unicodedata.category(character)[0] == "L"]
    assert [letter for letter in letters if ZWJ in clean(f"👩{ZWJ}{letter}")] == ["ℹ"]  # which is an emoji


@pytest.mark.parametrize("end", "\t\n\x0b\x0c\r\x85\u2028\u2029")
def test_a_tab_or_a_line_end_becomes_a_space(end: str) -> None:
    assert clean(f"a{end}b") == "a b"


@pytest.mark.parametrize("escape", ["\x1b[31m", "\x9b31m", "\r", "\b\b", "\u202egnp.exe", "\u200b", "\x07", "\x00"])
def test_clean_removes_the_control_characters_of_terminal_escapes(escape: str) -> None:
    assert not any(unicodedata.category(character).startswith("C") for character in clean(f"a{escape}b"))


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "\t", "\u00a0\u2003\u3000", "\u2800", "\u3164", "\u115f\uffa0", "\u200b\u2060\ufeff", "\U0001d159"),
        *(f"{ZWJ}{ZWNJ}", "\u0301", " \u0489\u0301", EMOJI_STYLE, "\U000e0041", "\u202e", "\x1b", "\u034f", "\u180b"),
    ],
)
def test_a_text_with_nothing_visible_is_blank(text: str) -> None:
    assert is_blank(clean(text))


@pytest.mark.parametrize("text", [".", "a", " a ", "é", "e\u0301", "王", "न", "😀", "\u2801", "\U0001fae9", "\ue000"])
def test_a_text_with_something_visible_is_not_blank(text: str) -> None:
    assert not is_blank(clean(text))


@given(st.text(), split_places)
def test_text_is_decoded_correctly_at_every_split(text: str, places: list[int]) -> None:
    whole, rest = [], b""
    for piece in split(text.encode(), places):
        complete, rest = split_incomplete(rest + piece)
        whole.append(complete.decode())  # raises if a character is incomplete
    assert "".join(whole) == text
    assert rest == b""


@given(st.binary())
def test_any_bytes_are_split_without_loss_and_at_most_three_are_incomplete(data: bytes) -> None:
    whole, rest = split_incomplete(data)
    assert whole + rest == data
    assert len(rest) <= 3


@pytest.mark.parametrize("data", [b"\xff", b"\x80\x80\x80\x80", b"abc\xfe", b"\xc0"])
def test_invalid_bytes_are_not_kept_as_an_incomplete_character(data: bytes) -> None:
    assert split_incomplete(data) == (data, b"")
