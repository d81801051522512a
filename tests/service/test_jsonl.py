"""Cutting a file into lines, wherever its pieces end."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gradkeel_service.jsonl import MAX_LINE_BYTES, LineCount, lines_of

TEXTS = st.lists(st.sampled_from([b"", b" ", b"\r", b"a", b"\xc3\xa4", b'{"b": 1}\r']), max_size=12).map(
    b"\n".join
)


@given(TEXTS, st.lists(st.integers(0, 40)))
def test_lines_do_not_depend_on_the_pieces(data: bytes, cuts: list[int]) -> None:
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[a:b] for a, b in pairwise(edges)]
    expected = [(n, text) for n, text in enumerate(data.split(b"\n"), 1) if text.strip()]
    found = list(lines_of(pieces))
    assert [(line.number, line.text) for line in found] == expected
    count = LineCount()
    for piece in pieces:
        count.add(piece)
    assert count.lines == len(expected)
    for index, line in enumerate(found):  # reading may go on behind any line
        rest = list(lines_of([data[line.end :]], line.number, line.end))
        assert rest == found[index + 1 :]


def test_a_long_line_is_passed_over_and_not_held() -> None:
    pieces = [b"a\n", *[b"x" * 1000] * (MAX_LINE_BYTES // 1000 + 1), b"\nb"]
    found = list(lines_of(pieces))
    assert [(line.number, line.text) for line in found] == [(1, b"a"), (2, None), (3, b"b")]
    assert found[-1].end == sum(map(len, pieces))


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert [line.text for line in lines_of([b"\xef\xbb\xbf{}\n{}"])] == [b"{}", b"{}"]
