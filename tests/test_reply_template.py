from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.echo.reply_template import ReplyTemplate, TemplateError


def test_the_fields_are_replaced_by_their_values() -> None:
    template = ReplyTemplate("got {message} from {peer} at {time}")
    expected = f"got hi from 192.0.2.1:4000 at {time.ctime(0)}".encode()
    assert template.render(b"hi", "192.0.2.1:4000", 0.0) == expected


def test_a_text_in_any_language_is_sent_as_utf8() -> None:
    assert ReplyTemplate("服務端收到了資訊").render(b"", "", 0) == "服務端收到了資訊".encode()


def test_double_braces_are_literal_braces() -> None:
    assert ReplyTemplate("{{{message}}}").render(b"x", "", 0) == b"{x}"


@given(st.binary())
def test_the_message_is_neither_parsed_nor_changed(message: bytes) -> None:
    assert ReplyTemplate("<{message}>").render(message, "", 0) == b"<" + message + b">"


@pytest.mark.parametrize("template", ["{", "}", "{0}", "{}", "{message!r}", "{message:>9}", "{message.x}", "{name}"])
def test_an_invalid_template_is_refused(template: str) -> None:
    with pytest.raises(TemplateError):
        ReplyTemplate(template)
