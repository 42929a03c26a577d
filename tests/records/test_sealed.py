from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconf.errors import ReadError
from deconf.records.sealed import frozen, plain, sealed, unsealed

BODY = {"name": "n°1", "p": 0.1 + 0.2, "n": 7, "none": None, "deep": {"list": [1, [2.5, "x"]]}}
TEXT = sealed("note", 3, BODY)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_comes_back_bit_for_bit(x):
    back = unsealed(sealed("note", 1, {"x": x}), "note", 1)["x"]
    assert back.hex() == x.hex()


def test_the_body_comes_back_and_the_order_of_writing_does_not_matter():
    assert unsealed(TEXT, "note", 3) == BODY
    assert sealed("note", 3, dict(reversed(BODY.items()))) == TEXT


@given(st.integers(0, len(TEXT.encode()) - 1), st.integers(0, 255))
def test_any_byte_changed_is_noticed(place, byte):
    data = bytearray(TEXT.encode())
    if data[place] == byte:
        return
    data[place] = byte
    with pytest.raises(ReadError):
        unsealed(data.decode("latin-1"), "note", 3)


@given(st.integers(0, len(TEXT) - 1))
def test_any_byte_missing_or_doubled_is_noticed(place):
    for text in (TEXT[:place] + TEXT[place + 1 :], TEXT[:place] + TEXT[place] + TEXT[place:]):
        with pytest.raises(ReadError):
            unsealed(text, "note", 3)


def test_a_value_said_twice_is_noticed_although_python_reads_the_last():
    doubled = TEXT.replace('"n": 7', '"n": 8,\n "n": 7')
    with pytest.raises(ReadError, match="altered after it was sealed"):
        unsealed(doubled, "note", 3)


def test_what_is_said_to_be_nan_is_altered():
    with pytest.raises(ReadError, match="altered"):
        unsealed(TEXT.replace('"n": 7', '"n": NaN'), "note", 3)


def test_each_refusal_names_the_file_and_the_remedy():
    for text, said in {
        TEXT[:40]: r"film\.json is no JSON, or was cut short.*Copy it again",
        "[1, 2]\n": r"film\.json holds no note. Pass the file",
        TEXT.replace('"note"', '"bill"'): r"holds no note",
        sealed("note", 4, BODY): r"version 4, and this deconf knows 3. pip install --upgrade",
        sealed("note", 2, BODY): r"version 2, and this deconf knows 3. Copy it again, or make",
        TEXT.replace("n\\u00b01", "n\\u00b02"): r"film\.json was altered.*sha256 differs",
        TEXT.replace("\n", "\r\n"): r"line ends of film\.json.*\*\.json -text.*gitattributes",
    }.items():
        with pytest.raises(ReadError, match=said):
            unsealed(text, "note", 3, where="film.json")


def test_what_is_no_number_becomes_null_and_frozen_values_cannot_be_changed():
    assert plain({"x": math.nan, "y": (1.0, math.nan)}) == {"x": None, "y": [1.0, None]}
    held = frozen({"a": [1, {"b": 2}]})
    assert held == {"a": (1, {"b": 2})}
    with pytest.raises(TypeError):
        held["a"][1]["b"] = 3
