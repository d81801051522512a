"""Encodings, compressions and kinds of file."""

import gzip
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from gradkeel_worker.ingest import Ingested, Limits, Rejected

from .conftest import cells

Read = Callable[..., Ingested]
Refuse = Callable[..., Rejected]

TEXT = "name,größe\nÄnne,1\nZoë,2\n"


@pytest.mark.parametrize(
    ("codec", "named"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
        ("latin-1", "latin-1"),
    ],
)
def test_the_encoding_is_found(read: Read, codec: str, named: str) -> None:
    text = TEXT if codec not in {"utf-16-le", "utf-16-be"} else "name,size\n" + "plain,1\n" * 20
    found = read(text.encode(codec))
    assert found.profile["format"]["encoding"] == named
    assert list(cells(found)) == [*text.split("\n")[0].split(","), "__row__", "__line__"]


def test_windows_punctuation_is_told_from_latin_1(read: Read) -> None:
    found = read("word,n\n“quoted”,1\nplain,2\n".encode("cp1252"))
    assert found.profile["format"]["encoding"] == "cp1252"
    assert cells(found)["word"] == ["“quoted”", "plain"]


def test_a_given_encoding_wins(read: Read) -> None:
    found = read("word,n\nПривет,1\n".encode("cp1251"), encoding="windows-1251")
    assert cells(found)["word"] == ["Привет"]


def test_text_that_does_not_decode_names_its_line(refuse: Refuse) -> None:
    refusal = refuse(b"a,b\n1,2\n\xff,3\n", encoding="utf-8")
    assert refusal.places[0].code == "bad_encoding"
    assert refusal.places[0].line == 3


@pytest.mark.parametrize("name", ["rot13", "base64", "no-such-codec"])
def test_what_is_no_text_encoding_is_refused(refuse: Refuse, name: str) -> None:
    assert refuse("a\n1\n", encoding=name).places[0].code == "bad_option"


def test_a_zero_byte_is_no_text(refuse: Refuse) -> None:
    refusal = refuse(b"a,b\n1,2\n3,\x004\n")
    assert (refusal.places[0].code, refusal.places[0].line) == ("not_text", 3)


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("pack", "named"), [(gzip.compress, "gzip"), (zstd, "zstd")])
def test_compressed_text_is_read(read: Read, pack: Callable[[bytes], bytes], named: str) -> None:
    found = read(pack(TEXT.encode()))
    assert found.profile["format"]["compression"] == named
    assert cells(found)["größe"] == [1, 2]


def test_gzip_members_follow_one_another(read: Read) -> None:
    found = read(gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n") + b"\0" * 40)
    assert cells(found)["a"] == [1, 3]


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_bomb_is_counted_while_it_unpacks(refuse: Refuse, pack: Callable[[bytes], bytes]) -> None:
    bomb = pack(b"a\n" + b"0\n" * 4_000_000)
    refusal = refuse(bomb, Limits(unpacked_bytes=1 << 20))
    assert refusal.places[0].code == "unpacked_too_large"
    assert refusal.problem == "too_large"


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_cut_stream_is_refused(refuse: Refuse, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(9999)))
    assert refuse(packed[: len(packed) // 2]).places[0].code == "bad_compression"


def test_gzip_in_gzip_is_refused(refuse: Refuse) -> None:
    assert refuse(gzip.compress(gzip.compress(b"a\n1\n"))).places[0].code == "nested_archive"


def test_a_damaged_stream_is_refused(refuse: Refuse) -> None:
    packed = bytearray(gzip.compress(bytes(range(48, 58)) * 500))
    packed[len(packed) // 2] ^= 255
    refusal = refuse(bytes(packed))
    assert refusal.places[0].code == "bad_compression"


FOREIGN: dict[str, bytes] = {
    "zip": b"PK\x03\x04rest",
    "arrow": b"ARROW1\0\0rest",
    "pickle": b"\x80\x04\x95rest",
    "npy": b"\x93NUMPY\x01\0rest",
    "json array": b'[{"a": 1}]',
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_files_are_refused_by_name(refuse: Refuse, content: bytes) -> None:
    assert refuse(content).places[0].code == "unsupported_format"


@pytest.mark.parametrize("content", [b"", b"\n\n\n", b"  \n \n"])
def test_nothing_is_no_table(refuse: Refuse, content: bytes) -> None:
    assert refuse(content).places[0].code == "empty"


def test_every_refusal_is_a_problem_document(refuse: Refuse) -> None:
    document: dict[str, Any] = refuse("a,a\n1,2\n").to_problem().to_json()
    assert document["status"] == 422
    assert document["errors"][0]["code"] == "duplicate_column"
