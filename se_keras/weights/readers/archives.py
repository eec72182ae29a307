"""Refuse zip archives that name files outside of them, or that unpack to far too much."""

import zipfile
from collections import Counter
from pathlib import PurePosixPath

MAX_MEMBERS = 100_000
# A member may unpack to FREE_BYTES, or to a limited multiple of its stored size.
FREE_BYTES = 2**20
MAX_EXPANSION = 100


def refuse_unusual_members(archive: zipfile.ZipFile, size: int) -> None:
    """Check the list of members of an archive of `size` bytes, without unpacking it.

    Raises:
        ValueError: if a member occurs twice, is encrypted, has a path out of the archive, or would
            unpack to far more than it stores.
    """
    members = archive.infolist()
    if len(members) > MAX_MEMBERS or sum(member.compress_size for member in members) > size:
        raise ValueError(
            f"it has more than {MAX_MEMBERS:,} members, or members that share their bytes"
        )
    names = Counter(member.filename for member in members)
    for member in members:
        name = member.filename
        place = PurePosixPath(name.replace("\\", "/"))
        if names[name] > 1 or place.is_absolute() or ".." in place.parts or not name.isprintable():
            raise ValueError(f"its member {name} occurs twice, or has a path out of it")
        if member.flag_bits & 1:
            raise ValueError(f"its member {name} is encrypted")
        if member.file_size > max(FREE_BYTES, MAX_EXPANSION * member.compress_size):
            raise ValueError(
                f"its member {name} stores {member.compress_size:,} bytes, and would unpack "
                f"to {member.file_size:,}"
            )
