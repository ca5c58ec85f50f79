"""Members of a zip archive, within bounds: deflate, stored, and Zstandard (method 93).

An archive can promise little and expand to much. What is read of it is counted while it is expanded.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Self

from assay.core.errors import UnreadableInput
from assay.readers.results.harness import clip

MAX_MEMBERS = 500_000
MAX_MEMBER_BYTES = 64 * 2**20
MAX_TOTAL_BYTES = 8 * 2**30
FREE_BYTES = 64 * 2**20
MAX_RATIO = 200
"""Beyond the first 64 MiB an archive may not expand more than this; logs of evaluations reach about 30."""

ZSTANDARD = 93
INSTALL = 'pip install "assay[inspect]"  # or: pip install zstandard'
_LOCAL_HEADER = struct.Struct("<4s22x2H")


class Archive:
    """A zip file that is open for reading.

    Args:
        path: the file.

    Raises:
        UnreadableInput: if it is no zip file or has too many members.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
            self._file = path.open("rb")
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
            raise UnreadableInput(f"no zip archive: {clip(error)}", where=str(path)) from error
        members = self._zip.infolist()
        if len(members) > MAX_MEMBERS:
            raise UnreadableInput(f"more than {MAX_MEMBERS:,} members", where=str(path))
        self.names = [m.filename for m in members]
        self._compressed = sum(max(0, m.compress_size) for m in members)
        self._read = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._zip.close()

    def read(self, name: str) -> bytes:
        """The bytes of a member.

        Raises:
            UnreadableInput: if it is damaged, absent, expands beyond the bounds, or is compressed with
                Zstandard and no decoder is installed.
        """
        try:
            member = self._zip.getinfo(name)
            if member.compress_type == ZSTANDARD:
                data = self._zstandard(member)
            else:
                with self._zip.open(member) as file:
                    data = file.read(MAX_MEMBER_BYTES + 1)
        except KeyError as error:
            raise UnreadableInput(f"it has no member {clip(name)}", where=str(self.path)) from error
        except (
            zipfile.BadZipFile,
            OSError,
            EOFError,
            ValueError,
            RuntimeError,
            struct.error,
            zlib.error,
        ) as error:
            # RuntimeError: encrypted members; NotImplementedError, which is one: unknown methods
            raise UnreadableInput(f"member {clip(name)}: {clip(error)}", where=str(self.path)) from error
        self._count(len(data), name)
        return data

    def _count(self, size: int, name: str) -> None:
        self._read += size
        if size > MAX_MEMBER_BYTES:
            raise UnreadableInput(
                f"member {clip(name)} expands to more than {MAX_MEMBER_BYTES >> 20} MiB", where=str(self.path)
            )
        allowed = min(MAX_TOTAL_BYTES, max(FREE_BYTES, MAX_RATIO * self._compressed))
        if self._read > allowed:
            raise UnreadableInput(
                f"it expands to more than {allowed >> 20} MiB: no log of an evaluation does",
                where=str(self.path),
            )

    def _zstandard(self, member: zipfile.ZipInfo) -> bytes:
        self._file.seek(member.header_offset)
        header = self._file.read(30)
        signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header[:30])
        if signature != b"PK\x03\x04" or not 0 <= member.compress_size <= MAX_MEMBER_BYTES:
            raise UnreadableInput(f"member {clip(member.filename)} is damaged", where=str(self.path))
        self._file.seek(name_bytes + extra_bytes, 1)
        data = zstandard_decoder(str(self.path))(self._file.read(member.compress_size))
        if len(data) <= MAX_MEMBER_BYTES and zlib.crc32(data) != member.CRC:
            raise UnreadableInput(f"member {clip(member.filename)} is damaged", where=str(self.path))
        return data


def zstandard_decoder(where: str) -> Callable[[bytes], bytes]:
    """A bounded expander from whichever decoder is there: Python 3.14's own, its backport, or zstandard."""
    for module in ("compression.zstd", "backports.zstd"):
        try:
            found: Any = import_module(module)
        except ImportError:
            continue

        def expand(data: bytes, zstd: Any = found) -> bytes:
            try:
                return bytes(zstd.ZstdDecompressor().decompress(data, max_length=MAX_MEMBER_BYTES + 1))
            except zstd.ZstdError as error:
                raise ValueError(f"Zstandard: {error}") from error

        return expand
    try:
        zstandard: Any = import_module("zstandard")
    except ImportError as error:
        raise UnreadableInput(
            "this log is compressed with Zstandard and no decoder is installed", where=where, next=INSTALL
        ) from error
    return lambda data: _expand_zstandard(zstandard, data)


def _expand_zstandard(zstandard: Any, data: bytes) -> bytes:
    try:
        stream: IO[bytes] = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(io.BytesIO(data))
        return bytes(stream.read(MAX_MEMBER_BYTES + 1))
    except zstandard.ZstdError as error:
        raise ValueError(f"Zstandard: {error}") from error
