# SPDX-License-Identifier: MIT OR Apache-2.0
"""What was worked out before, kept by what it was made of, so that a second run does not do it again."""

import hashlib
import os

from gi.repository import Gimp

# Files kept, and their bytes together: a style has some ten kilobytes, a label map as many per megapixel or more.
KEPT, BYTES = 200, 200 << 20


def folder():
    return os.path.join(Gimp.cache_directory(), "ca2sis")


def path(name):
    return os.path.join(folder(), name)


def make():
    """Makes the folder, which what writes to it needs; an OSError where that cannot be."""
    os.makedirs(folder(), exist_ok=True)


def digest(*parts):
    """One name for all of the parts, which are texts or memory."""
    whole = hashlib.blake2b(digest_size=20)
    for part in parts:
        part = part.encode() if isinstance(part, str) else part
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return whole.hexdigest()


def rows(picture, count=32):
    """Some of a picture's rows, evenly spread, in one piece: enough to tell pictures apart where a mistake does no harm."""
    step = len(picture.data) // picture.height
    every = max(1, picture.height // count)
    return b"".join(picture.data[y * step:(y + 1) * step] for y in range(every // 2, picture.height, every))


def used(path):
    """Makes a file the newest."""
    try:
        os.utime(path)
    except OSError:
        pass


def trim():
    """Takes away what was not used for longest."""
    size = 0
    files = sorted((e for e in os.scandir(folder()) if e.is_file()), key=lambda e: -e.stat().st_mtime)
    for count, entry in enumerate(files):
        size += entry.stat().st_size
        if count >= KEPT or size > BYTES:
            os.remove(entry.path)


def read(name):
    """The bytes of a file that write() made; None."""
    import zlib
    try:
        with open(path(name), "rb") as file:
            data = zlib.decompress(file.read())
        used(path(name))
        return data
    except (OSError, zlib.error):
        return None


def write(name, data):
    import tempfile
    import zlib
    try:
        make()
        file = tempfile.NamedTemporaryFile(dir=folder(), delete=False)
        try:
            with file:
                file.write(zlib.compress(data, 1))
            os.replace(file.name, path(name))
        except OSError:
            os.unlink(file.name)
            raise
        trim()
    except OSError:
        pass  # a cache that cannot be written only costs time
