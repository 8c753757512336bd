"""What a real BEAM writes and reads, and every frame of the protocol: `protocol/vectors`."""

from __future__ import annotations

import re
import subprocess

import pytest
from bombs import fun
from vector_files import FOLDER, cases, frame, same, value

from snakepit_port import wire
from snakepit_port.wire import envelopes, etf_encode, grammar, messages
from snakepit_port.wire.framing import OVERSIZED_HEAD_BYTES, pack
from snakepit_port.wire.grammar import ProtocolError

TERMS = cases("terms.json")
MALFORMED = cases("malformed.json")
FRAMES = [case for case in cases("frames.json") if "frame" in case]
RECOMMENDED = [case for case in FRAMES if case["recommended"]]
BAD_FRAMES = [case for case in cases("frames.json") if "error" in case]


def each(vectors):
    return pytest.mark.parametrize("case", vectors, ids=[case["name"] for case in vectors])


def test_a_real_beam_writes_these_files(tmp_path):
    generator = FOLDER.parent / "generate_vectors.exs"
    ran = subprocess.run(["elixir", generator, tmp_path], capture_output=True, text=True)
    assert (ran.stderr, ran.returncode) == ("", 0)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert written.keys() == kept.keys()
    for name, text in kept.items():
        # Not as one assertion: to show a difference of a megabyte takes minutes.
        assert written[name].splitlines() == text.splitlines(), name


# -- terms -----------------------------------------------------------------------------------------


@each(TERMS)
def test_terms_are_read(case):
    assert same(wire.decode(case["bytes"]), value(case["value"]))


@each(TERMS)
def test_terms_are_written(case):
    expected = value(case["value"])
    written = etf_encode.encode(expected)
    assert same(wire.decode(written), expected)
    if case["canonical"]:
        assert written == case["bytes"]
    # By way of erlpack the bytes may be others, which have to be of the same term.
    assert same(wire.decode(wire.encode(expected)), expected)


@each([case for case in TERMS if case["canonical"] and not case["name"].startswith("255 lists")])
def test_terms_are_written_inside_others(case):
    inner = value(case["value"])
    raw = case["bytes"][1:]
    assert etf_encode.encode((inner, "a")) == b"\x83h\x02" + raw + b"m\0\0\0\x01a"
    assert etf_encode.encode({"a": [inner, None]}) == (
        b"\x83t\0\0\0\x01m\0\0\0\x01al\0\0\0\x02" + raw + b"w\x03nilj"
    )


@each(TERMS)
def test_terms_are_refused_when_cut_or_followed_by_more(case):
    data = case["bytes"]
    for cut in range(len(data)) if len(data) < 400 else range(0, len(data), 97):
        with pytest.raises(wire.DecodeError) as caught:
            wire.decode(data[:cut])
        assert caught.value.kind == "truncated", cut
    with pytest.raises(wire.DecodeError) as caught:
        wire.decode(data + b"\0")
    assert caught.value.kind == "trailing"


@each(TERMS)
def test_a_function_may_hold_any_term(case):
    # It is not looked into, so each kind of term has to be known by its length.
    variables = case["bytes"][1:] + b"a\1"
    for data in (
        fun(variables, 2),
        b"\x83u\0\0\0\2Xw\1a" + bytes(12) + b"w\1aa\1a\1" + variables,
        fun(b"u\0\0\0\2gw\1a" + bytes(9) + b"w\1aa\1b\0\0\1\0" + variables),
    ):
        assert same(wire.decode(data), wire.Fun(data[1:]))
        with pytest.raises(wire.DecodeError) as caught:
            wire.decode(data[:-1])
        assert caught.value.kind == "truncated"


@each(MALFORMED)
def test_malformed_terms_are_refused(case):
    for data in (case["bytes"], bytearray(case["bytes"]), memoryview(case["bytes"])):
        with pytest.raises(wire.DecodeError) as caught:
            wire.decode(data)
        assert caught.value.kind == case["error"]
        assert caught.value.message


def test_every_kind_of_error_has_a_vector():
    # It takes a reader to miss a library.
    assert {case["error"] for case in MALFORMED} | {"array"} == wire.DecodeError.KINDS


# -- frames ----------------------------------------------------------------------------------------


@each(FRAMES)
def test_frames_are_parsed(case):
    parsed = messages.parse(pack(case["bytes"]))
    assert same(parsed, frame(case["frame"]))


def build(parsed):
    tag, *elements = parsed
    if tag == "hello":
        elements.reverse()
    return getattr(messages, tag)(*elements)


@each(FRAMES)
def test_frames_are_built(case):
    parsed = frame(case["frame"])
    built = build(parsed)
    if case["recommended"]:
        assert built == pack(case["bytes"])
    elif parsed[-1] != {}:  # Empty options are left out.
        assert same(messages.parse(built), parsed)


def test_every_frame_has_a_vector_in_every_encoding():
    def tags(vectors):
        return {case["frame"]["tuple"][0]["atom"] for case in vectors}

    assert tags(RECOMMENDED) == grammar.FRAMES.keys()
    for how in ("latin1", "short_latin1", "long_utf8", "large_tuple"):
        found = tags(case for case in FRAMES if case["name"].endswith(f", {how}"))
        assert found == grammar.FRAMES.keys()


@each(FRAMES)
def test_the_quick_readers_agree_with_parse(case):
    data = pack(case["bytes"])
    tag, *elements = frame(case["frame"])
    id = elements[0]
    if tag == "call":
        _id, pool, command, args, options = elements
        opened = (id, command, args, (options or {}).get("stream"), 1)
        assert same(envelopes.opened(id, command, args, options), opened)
        usual = envelopes.read_usual_call(data), envelopes.open_usual_call(data)
        if (case["recommended"] and 256 <= id < 2**31 and pool != "") or usual != (None, None):
            assert same(usual, ((id, pool, command, options), opened))
    else:
        assert envelopes.read_usual_call(data) is envelopes.open_usual_call(data) is None
    is_answer = tag in ("result", "error", "chunk")
    assert envelopes.read_answer(data) == (tag, id if is_answer else None)
    ends = tag in ("result", "error")
    assert envelopes.ends_a_call(data) in ((ends,) if case["recommended"] else (ends, False))
    has_id = is_answer or tag in ("call", "control")
    head = case["bytes"][:OVERSIZED_HEAD_BYTES]
    assert envelopes.read_head(head) == (id if has_id else None)
    for cut in range(len(head)):
        assert envelopes.read_head(head[:cut]) in (None, id)


@each(BAD_FRAMES)
def test_malformed_frames_are_refused(case):
    data = pack(case["bytes"])
    expected = value(case["error"])
    with pytest.raises(ProtocolError) as caught:
        messages.parse(data)
    assert caught.value.id == expected
    assert 0 < len(caught.value.message) < 300
    assert envelopes.read_usual_call(data) is None
    if case["name"] != "malformed: call whose pool is not UTF-8":  # No worker looks at it.
        assert envelopes.open_usual_call(data) is None


@each(RECOMMENDED)
def test_what_is_not_a_whole_frame_is_refused(case):
    whole = case["bytes"]
    arity = whole[2]
    heads = [
        *(bytes((104, other)) for other in (0, arity - 1, arity + 1)),
        *(bytes((tag, 0, 0, 0, arity)) for tag in b"lt"),
        bytes((105, 1, 0, 0, arity)),
    ]
    for data in (
        *(whole[:cut] for cut in range(len(whole)) if cut < 400 or cut % 97 == 0),
        *(b"\x83" + head + whole[3:] for head in heads),
        whole + b"\0",
    ):
        with pytest.raises(ProtocolError):
            messages.parse(pack(data))


def test_a_binary_of_a_frame_has_the_length_that_it_says():
    for length in (b"\0\0\0\3", b"\0\0\0\1", b"\1\0\0\2"):
        with pytest.raises(ProtocolError):
            messages.parse(pack(messages.CHUNK + b"a\1m" + length + b"ab"))


@pytest.mark.parametrize("id", [0, 255, 256, 2**31 - 1, 2**31, grammar.MAX_ID])
def test_identifiers_are_written_as_terms_are(id):
    for tag, built, *rest in (
        ("result", messages.result(id, b"ab"), "ab"),
        ("chunk", messages.chunk(id, b"ab"), "ab"),
        ("cancel", messages.cancel(id)),
    ):
        assert built == pack(etf_encode.encode((wire.Atom(tag), id, *rest)))


@each([case for case in RECOMMENDED if case["frame"]["tuple"][0]["atom"] == "call"])
def test_the_quick_readers_of_calls_read_nothing_that_parse_does_not(case):
    whole = case["bytes"][:400]
    changed = [whole[:cut] for cut in range(len(whole))] + [case["bytes"] + b"\0"]
    for place, byte in enumerate(whole[:120]):
        others = {*b"\0\1abhjmstw\x80\xff", (byte + 1) % 256, (byte - 1) % 256} - {byte}
        changed += [
            whole[:place] + bytes((other,)) + case["bytes"][place + 1 :] for other in sorted(others)
        ]
    for data in map(pack, changed):
        usual = envelopes.read_usual_call(data)
        if usual is not None:
            _tag, id, pool, command, args, options = messages.parse(data)
            assert same(usual, (id, pool, command, options))
            try:
                opened = envelopes.opened(id, command, args, options)
            except ProtocolError:
                continue
            assert envelopes.open_usual_call(data) == opened


@pytest.mark.parametrize("id", [-1, -256, 2**60, 1.0])
@pytest.mark.parametrize("tag", ["result", "error", "chunk"])
def test_answers_to_what_is_no_identifier_are_refused(tag, id):
    data = pack(etf_encode.encode((wire.Atom(tag), id, {} if tag == "error" else "")))
    with pytest.raises(ProtocolError, match="an identifier is an integer"):
        envelopes.read_answer(data)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (None, (None, 1)),
        ({}, (None, 1)),
        ({"stream": 0}, (0, 1)),
        ({"stream": grammar.MAX_CREDIT, "attempt": 2}, (grammar.MAX_CREDIT, 2)),
        (
            {"stream": grammar.MAX_CREDIT + 1},
            "option stream: credit is an integer from 0 to 2^60-1",
        ),
        ({"stream": -1}, "option stream: credit"),
        ({"stream": None}, "option stream: credit"),
        ({"stream": True}, "option stream: credit"),
        ({"attempt": 0}, "option attempt is a positive integer, not 0"),
        ({"attempt": True}, "option attempt is a positive integer, not True"),
        ({"attempt": "2"}, 'option attempt is a positive integer, not "2"'),
    ],
)
def test_what_a_worker_reads_of_options(options, expected):
    data = messages.call(300, "default", "run", b"\x83j", options)
    read = [
        lambda: envelopes.opened(300, "run", b"\x83j", options),
        lambda: envelopes.open_usual_call(data),
    ]
    for opened in read:
        if type(expected) is tuple:
            assert opened() == (300, "run", b"\x83j", *expected)
        else:
            with pytest.raises(ProtocolError, match=re.escape(expected)) as caught:
                opened()
            assert caught.value.id == 300
