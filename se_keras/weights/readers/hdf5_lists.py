"""Refuse HDF5 files whose lists would hold HDF5 in a loop without end.

Two lists of an HDF5 file say in each part where the next begins: the free places of a local heap
(`HEAP`, the names in a group), and the objects of a global heap (`GCOL`, texts of attributes). HDF5
1.14 follows them wherever they lead. Layout: the HDF5 File Format Specification 3.0, III.D and
III.E.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from typing import IO

SIGNATURE = b"\x89HDF\r\n\x1a\n"
LOCAL_HEAP, GLOBAL_HEAP = b"HEAP\0\0\0\0", b"GCOL\1\0\0\0"
# Large groups of HDF5 2.0; HDF5 1.14 can be led out of its memory by a damaged one.
FRACTAL_HEAP = b"FRHP\0"
HEAD = 8  # bytes of the longest
# Where the base of all addresses stands, by the version of the superblock.
BASE = {0: 24, 1: 28, 2: 12, 3: 12}
BLOCK = 2**20
LAST_FREE = 1  # in place of an offset


def refuse_endless_lists(file: IO[bytes]) -> dict[bytes, list[int]]:
    """Read a file from its beginning to its end.

    Returns:
        Where each kind of heap stands, by the first bytes of the kind.

    Raises:
        ValueError: if it does not begin as an HDF5 file, or a list in it is damaged.
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
    """Refuse texts that say that they are longer than any is: HDF5 takes the memory first.

    A text is kept as its length (4 bytes), the place of its global heap (8) and its number there.

    Args:
        file: an open HDF5 file.
        heaps: places of its global heaps.
        values: places and lengths of the tensors, which are no text.
        longest: bytes that a text may have.

    Raises:
        ValueError: if there is a longer one.
    """
    rest = _rest_of(file, values)
    for heap in set(heaps):
        address = struct.pack("<Q", heap)
        at = rest.find(address, 4)
        while at >= 0:
            (length,) = struct.unpack_from("<I", rest, at - 4)
            # Other numbers than addresses can have these bytes, half in one and half in the next.
            if length > longest and at % 8 == 4:
                raise ValueError(f"it has a text that would have {length:,} bytes")
            at = rest.find(address, at + 1)


def _rest_of(file: IO[bytes], values: Iterable[tuple[int, int]]) -> bytes:
    """Return all but the values; what stood at a multiple of 8 bytes does so still."""
    rest, end = bytearray(), 0
    size = file.seek(0, os.SEEK_END)
    for place, length in [*sorted(values), (size, 0)]:
        file.seek(end)
        rest += bytes((end - len(rest)) % 8) + file.read(max(place - end, 0))
        end = place + length
    return bytes(rest)


def _refuse_other_beginnings(file: IO[bytes]) -> None:
    """Refuse what moves all addresses, or gives them another length than 8."""
    file.seek(0)
    start = file.read(max(BASE.values()) + 8)
    if start[:8] != SIGNATURE:
        raise ValueError("it does not begin as one")
    version = start[8]
    lengths = start[13:15] if version < 2 else start[9:11]
    base = BASE[version]
    if lengths != b"\x08\x08" or any(start[base : base + 8]):
        raise ValueError("its addresses are of another kind")


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
