import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagglekit.data.words import split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It is. It was! No?", ["It is.", " It was!", " No?"]),
        ('He said "no." Then 3.5 more', ['He said "no."', " Then 3.5 more"]),
        ("你好。今天很好！是吗？”他说……好", ["你好。", "今天很好！", "是吗？”", "他说……", "好"]),
        ("one\n\ntwo.\nthree", ["one\n", "\ntwo.", "\nthree"]),
        ("no end", ["no end"]),
        ("  .  ", ["  .  "]),
    ],
)
def test_sentences_end_in_english_and_chinese_and_nothing_is_lost(text, sentences):
    assert split_sentences(text) == sentences
    assert "".join(sentences) == text


@given(st.text(alphabet="a. \n。!”", max_size=40))
@settings(max_examples=60, deadline=None)
def test_joined_sentences_are_the_text(text):
    parts = split_sentences(text)
    assert "".join(parts) == text and (len(parts) < 2 or all(part.strip() for part in parts))
