"""Refuse zip archives that would lead out of themselves, or take far more room than they have."""

import zipfile
from collections import Counter
from pathlib import PurePosixPath

MAX_MEMBERS = 100_000
# A member may unpack to this much, or to so many times what is stored of it.
FREE_BYTES = 2**20
MAX_EXPANSION = 100


def refuse_unusual_members(archive: zipfile.ZipFile, size: int) -> None:
    """Look at what an archive of so many bytes says of its members; nothing is unpacked.

    Raises:
        ValueError: if one is there twice, encrypted, outside, or unpacks to far more than it has.
    """
    members = archive.infolist()
    if len(members) > MAX_MEMBERS or sum(member.compress_size for member in members) > size:
        raise ValueError(f"it has more than {MAX_MEMBERS:,} members, or they share their bytes")
    names = Counter(member.filename for member in members)
    for member in members:
        name = member.filename
        place = PurePosixPath(name.replace("\\", "/"))
        if names[name] > 1 or place.is_absolute() or ".." in place.parts or not name.isprintable():
            raise ValueError(f"its member {name} is there twice, or leads out of it")
        if member.flag_bits & 1:
            raise ValueError(f"its member {name} is encrypted")
        if member.file_size > max(FREE_BYTES, MAX_EXPANSION * member.compress_size):
            raise ValueError(
                f"its member {name} stores {member.compress_size:,} bytes, and would take "
                f"{member.file_size:,}"
            )
