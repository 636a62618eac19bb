"""How irisctl prints messages."""

import json

import pytest

from iris.ctl.output import default_format, plain, render


@pytest.mark.parametrize(
    ("name", "message", "printed"),
    [
        ("raw", b"\x00\xff", b"\x00\xff"),
        ("text", b"hello", b"hello\n"),
        ("text", b"two\nlines\n", b"two\nlines\n"),
        ("text", b"", b"\n"),
        ("text", "grüß".encode(), "grüß\n".encode()),
        ("text", b"\xff", b"\\xff\n"),
        ("text", b"\x1b[2J\r\x07", b"\\x1b[2J\\r\\x07\n"),
        ("hex", b"\x00\xff", b"00ff\n"),
        ("hex", b"", b"\n"),
    ],
)
def test_a_message_is_printed_in_each_format(name: str, message: bytes, printed: bytes) -> None:
    assert render(name, message) == printed


def test_json_has_text_or_base64_after_the_facts() -> None:
    assert render("json", b'say "hi"\n', number=1) == b'{"number": 1, "text": "say \\"hi\\"\\n"}\n'
    assert json.loads(render("json", b"\xff")) == {"base64": "/w=="}


def test_text_is_for_people_and_for_several() -> None:
    assert default_format(terminal=False, several=False) == "raw"
    assert default_format(terminal=True, several=False) == "text"
    assert default_format(terminal=False, several=True) == "text"


def test_plain_text_keeps_what_is_harmless() -> None:
    assert plain("a\tb\nc é 漢") == "a\tb\nc é 漢"
    assert plain("\x9b\u202e") == "\\x9b\\u202e"
