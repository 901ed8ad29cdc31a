"""Where the records of a zip file lie, for zip files that are not compressed, as torch.save writes them.

By https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3.7 to 4.3.16 and 4.5.3.
Nothing is unpacked, so a record is never larger than the file that it is in.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

END = struct.Struct("<4x4H2LH")
END_64_PLACE = struct.Struct("<4xLQL")
END_64 = struct.Struct("<4xQ2H2L4Q")
ENTRY = struct.Struct("<4x6H3L5H2L")
LOCAL = struct.Struct("<4x5H3L2H")
LONGEST_COMMENT = 2**16 - 1
LARGEST_TABLE = 2**24  # bytes of the table of contents, 50 to 100 for each record
IN_EXTRA = 2**32 - 1  # what stands in place of a number that has not enough room
ENCRYPTED = 1


@dataclass(frozen=True)
class Record:
    """A record: the bytes of the file that it has."""

    offset: int
    size: int


def read_records(path: Path) -> dict[str, Record | None]:
    """The records of the zip file ``path`` by name, read as Latin-1; ``None`` for what is compressed or encrypted.

    Raises:
        ValueError: with what is damaged or there twice.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        offset, length = _table(file, size)
        file.seek(offset)
        table = file.read(length)
        records: dict[str, Record | None] = {}
        place = 0
        while place < len(table):
            fields = _unpack(ENTRY, table, place, b"PK\1\2")
            flags, method, packed, unpacked = fields[2], fields[3], fields[7], fields[8]
            name_end = place + ENTRY.size + fields[9]
            name = table[place + ENTRY.size : name_end].decode("latin-1")
            extra = table[name_end : name_end + fields[10]]
            place = name_end + fields[10] + fields[11]
            if place > len(table):
                raise ValueError("its table of contents is cut off")
            unpacked, packed, start = _wide(extra, [unpacked, packed, fields[15]])
            if name in records:
                raise ValueError(f"its record {name!r:.80} is there twice")
            plain = not flags & ENCRYPTED and method == 0 and packed == unpacked
            records[name] = _record(file, name, start, unpacked, offset) if plain else None
    return records


def _table(file: BinaryIO, size: int) -> tuple[int, int]:
    """Where the table of contents begins, and its length."""
    begin = max(0, size - END.size - LONGEST_COMMENT)
    file.seek(begin)
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or place + END.size > len(tail):
        raise ValueError(f"it is cut off: it has {size} bytes and no table of contents at its end")
    _, _, _, count, length, offset, comment = _unpack(END, tail, place, b"PK\5\6")
    if place + END.size + comment != len(tail):
        raise ValueError("there are bytes behind its end")
    end = begin + place
    if IN_EXTRA in (length, offset) or count == 2**16 - 1:
        _, place_64, _ = _unpack(END_64_PLACE, _read(file, end - END_64_PLACE.size, END_64_PLACE.size), 0, b"PK\6\7")
        fields = _unpack(END_64, _read(file, place_64, END_64.size), 0, b"PK\6\6")
        length, offset, end = fields[7], fields[8], place_64
    if offset + length > end:
        raise ValueError(f"its table of contents ends at byte {offset + length}, behind where it should ({end})")
    if length > LARGEST_TABLE:
        raise ValueError(f"its table of contents has {length} bytes, expected at most {LARGEST_TABLE}")
    return offset, length


def _record(file: BinaryIO, name: str, start: int, size: int, table: int) -> Record:
    """The record whose own header is at ``start``; it must end before the table of contents."""
    header = _unpack(LOCAL, _read(file, start, LOCAL.size), 0, b"PK\3\4")
    record = Record(start + LOCAL.size + header[8] + header[9], size)
    if record.offset + size > table:
        raise ValueError(f"its record {name!r:.80} of {size} bytes reaches beyond the {table} bytes of all records")
    return record


def _wide(extra: bytes, numbers: list[int]) -> list[int]:
    """``numbers``, with those that had no room taken from the extra field for 64 bits."""
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{min(length, len(extra) - place - 4) // 8}Q", extra, place + 4))
            numbers = [next(wide, number) if number == IN_EXTRA else number for number in numbers]
        place += 4 + length
    return numbers


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    if not 0 <= offset < 2**63:
        raise ValueError("its table of contents leads out of the file")
    file.seek(offset)
    return file.read(size)


def _unpack(layout: struct.Struct, data: bytes, place: int, signature: bytes) -> tuple[int, ...]:
    """The fields of ``layout`` at ``place``, the first of which must be ``signature``."""
    if place + layout.size > len(data) or data[place : place + 4] != signature:
        raise ValueError("its table of contents is damaged")
    return layout.unpack_from(data, place)
