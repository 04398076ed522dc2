"""A content-addressed store of compiled kernels on disk, shared by all builds of a user.

An entry is one file named by its key, holding a checksum and the value. Writers put a complete file in place
atomically; readers take an entry whose checksum is wrong for absent, so a damaged or half-written cache costs time,
never correctness.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MAGIC = b"texpr-cache-1\n"
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What a cache holds: number of entries and their total size in bytes."""

    entries: int
    bytes: int


def default_cache_folder() -> Path:
    """``$TEXPR_CACHE_DIR``, else ``texpr`` under ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get("TEXPR_CACHE_DIR"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "texpr"


@dataclass(frozen=True, slots=True)
class Cache:
    """``folder`` need not exist. Keys are hexadecimal digests (:func:`cache_key`)."""

    folder: Path

    def get(self, key: str) -> bytes | None:
        """The value, or None when there is none or it is damaged."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        start = len(_MAGIC) + _DIGEST
        value = data[start:]
        if data[:start] != _MAGIC + hashlib.sha256(value).digest():
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return value

    def put(self, key: str, value: bytes) -> None:
        """Store ``value``. A cache that cannot be written (full or read-only disk) stays as it is."""
        path = self._path(key)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(_MAGIC + hashlib.sha256(value).digest() + value)
                os.replace(name, path)
            except OSError:
                os.unlink(name)
                raise

    def statistics(self) -> CacheStatistics:
        sizes = [path.stat().st_size for path in self._files()]
        return CacheStatistics(len(sizes), sum(sizes))

    def clear(self, unused_days: float = 0.0) -> CacheStatistics:
        """Delete the entries that were not used for ``unused_days`` days (0: all); says what was deleted."""
        limit = time.time() - unused_days * 86400
        sizes = []
        for path in list(self._files()):
            status = path.stat()
            if unused_days <= 0 or status.st_mtime < limit:
                path.unlink(missing_ok=True)
                sizes.append(status.st_size)
        return CacheStatistics(len(sizes), sum(sizes))

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def _files(self) -> Iterator[Path]:
        """Entries, and new files that a killed writer left behind."""
        return (path for path in self.folder.glob("[0-9a-f][0-9a-f]/*") if path.is_file())


def cache_key(*parts: str) -> str:
    """A digest of ``parts`` in order; no two different sequences are written alike."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
