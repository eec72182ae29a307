"""Refuse HDF5 files whose linked lists would make HDF5 loop forever.

An HDF5 file has two kinds of linked list: the free places of a local heap (`HEAP`, the names in a
group), and the objects of a global heap (`GCOL`, texts of attributes). HDF5 1.14 follows them
without checks. Layout: the HDF5 File Format Specification 3.0, III.D and III.E.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from typing import IO

SIGNATURE = b"\x89HDF\r\n\x1a\n"
LOCAL_HEAP, GLOBAL_HEAP = b"HEAP\0\0\0\0", b"GCOL\1\0\0\0"
# Large groups of HDF5 2.0; a damaged one can make HDF5 1.14 access memory out of bounds.
FRACTAL_HEAP = b"FRHP\0"
HEAD = 8  # bytes of the longest signature
# Version of the superblock -> position of the base of all addresses.
BASE = {0: 24, 1: 28, 2: 12, 3: 12}
BLOCK = 2**20
LAST_FREE = 1  # marks the end of a list in place of an offset


def refuse_endless_lists(file: IO[bytes]) -> dict[bytes, list[int]]:
    """Check all linked lists of a file.

    Returns:
        The positions of the heaps, by their signature.

    Raises:
        ValueError: if the file does not begin like an HDF5 file, or one of its lists is damaged.
    """
    _refuse_other_beginnings(file)
    places: dict[bytes, list[int]] = {LOCAL_HEAP: [], GLOBAL_HEAP: [], FRACTAL_HEAP: []}
    for place, head in _places_of_heads(file):
        places[head].append(place)
    for place in places[LOCAL_HEAP]:
        _check_local_heap(file, place)
    for place in places[GLOBAL_HEAP]:
        _check_global_heap(file, place)
    return places


def refuse_long_texts(
    file: IO[bytes], heaps: Iterable[int], values: Iterable[tuple[int, int]], longest: int
) -> None:
    """Refuse texts with a huge stated length, for which HDF5 would allocate memory.

    A text is stored as its length (4 bytes), the position of its global heap (8 bytes) and its
    number in the heap.

    Args:
        file: an open HDF5 file.
        heaps: positions of its global heaps.
        values: positions and lengths of the tensors, which hold no text.
        longest: maximum length of a text in bytes.

    Raises:
        ValueError: if a text is longer.
    """
    rest = _rest_of(file, values)
    for heap in set(heaps):
        address = struct.pack("<Q", heap)
        at = rest.find(address, 4)
        while at >= 0:
            (length,) = struct.unpack_from("<I", rest, at - 4)
            # At other offsets, two neighboring numbers can have the same bytes by chance.
            if length > longest and at % 8 == 4:
                raise ValueError(f"it has a text with a stated length of {length:,} bytes")
            at = rest.find(address, at + 1)


def _rest_of(file: IO[bytes], values: Iterable[tuple[int, int]]) -> bytes:
    """Return the file without the values; multiples of 8 bytes stay multiples of 8 bytes."""
    rest, end = bytearray(), 0
    size = file.seek(0, os.SEEK_END)
    for place, length in [*sorted(values), (size, 0)]:
        file.seek(end)
        rest += bytes((end - len(rest)) % 8) + file.read(max(place - end, 0))
        end = place + length
    return bytes(rest)


def _refuse_other_beginnings(file: IO[bytes]) -> None:
    """Refuse a file that shifts all addresses, or whose addresses do not have 8 bytes."""
    file.seek(0)
    start = file.read(max(BASE.values()) + 8)
    if start[:8] != SIGNATURE:
        raise ValueError("it does not begin like one")
    version = start[8]
    lengths = start[13:15] if version < 2 else start[9:11]
    base = BASE[version]
    if lengths != b"\x08\x08" or any(start[base : base + 8]):
        raise ValueError("its addresses do not have 8 bytes, or are shifted")


def _places_of_heads(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    file.seek(0)
    start, kept = 0, b""
    while block := file.read(BLOCK):
        block = kept + block
        for head in (LOCAL_HEAP, GLOBAL_HEAP, FRACTAL_HEAP):
            place = block.find(head)
            while place >= 0:
                yield start + place, head
                place = block.find(head, place + 1)
        kept = block[1 - HEAD :]
        start += len(block) - len(kept)


def _numbers(file: IO[bytes], place: int, count: int) -> tuple[int, ...]:
    file.seek(place)
    return struct.unpack(f"<{count}Q", file.read(8 * count))


def _check_local_heap(file: IO[bytes], place: int) -> None:
    size, free, data = _numbers(file, place + HEAD, 3)
    seen = set()
    while free != LAST_FREE:
        if free in seen or free + 16 > size:
            raise ValueError(f"the heap of names at byte {place:,} is damaged")
        seen.add(free)
        free, _ = _numbers(file, data + free, 2)


def _check_global_heap(file: IO[bytes], place: int) -> None:
    (size,) = _numbers(file, place + HEAD, 1)
    at = 16
    while at + 16 <= size:
        used, length = _numbers(file, place + at, 2)
        step = 16 + (length + 7) // 8 * 8 if used & 0xFFFF else length
        if not 16 <= step <= size - at:
            raise ValueError(f"the heap of texts at byte {place:,} is damaged")
        at += step
