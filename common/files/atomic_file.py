"""A file that appears whole or not at all, and never in the place of another unless that is asked.

While it is written it has no name (`O_TMPFILE`), so that nothing of it is left behind however the
process ends; where the file system can't do that, a hidden one beside its own.
"""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from pathlib import Path

from pageferry.common.process.signals import LEFTOVERS

# What file systems and old kernels say that know no unnamed files.
_NO_UNNAMED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}
_BESIDE = 60  # characters of a name that another one begins with: 255 bytes are the most


class NewFile:
    """Write to `fd`, then `commit` or `discard`. A symbolic link stays one.

    force: take the place of a regular file of that name. Raises `OSError`, `FileExistsError` among
    them.
    """

    def __init__(self, name: str, *, force: bool) -> None:
        if name.endswith("/"):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        self.path = Path(os.path.realpath(name))
        self._force = force
        self._hidden: Path | None = None
        self._refuse()
        self.fd = self._open()

    def _refuse(self) -> None:
        """What could not have this name at the end is refused now: one that is too long, above all.

        A file without a name needs none before.
        """
        try:
            self.path.lstat()
        except FileNotFoundError:
            return
        if not self._force:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.path))

    def _open(self) -> int:
        folder = self.path.parent
        try:
            return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in _NO_UNNAMED:
                raise
        fd, hidden = tempfile.mkstemp(dir=folder, prefix=self._prefix)
        self._hide(Path(hidden))
        return fd

    def _hide(self, path: Path | None) -> None:
        """It has this name for now; a signal that ends the process at once removes it."""
        if self._hidden is not None:
            LEFTOVERS.discard(str(self._hidden))
        if path is not None:
            LEFTOVERS.add(str(path))
        self._hidden = path

    @property
    def _prefix(self) -> str:
        return f".{self.path.name[:32]}."

    def commit(self) -> None:
        """Give it its name. Raises `FileExistsError` where there is one of that name by now.

        It is then still there, without a name: see `beside`.
        """
        umask = os.umask(0)
        os.umask(umask)
        os.fchmod(self.fd, 0o666 & ~umask)
        if self._force:
            hidden = self._name_hidden()
            os.rename(hidden, self.path)
            self._hide(None)
        else:
            self._link(self.path)
            if self._hidden is not None:
                self._hidden.unlink()
                self._hide(None)

    def beside(self) -> Path:
        """Give it another name, for what must not be lost although it can't have its own."""
        path = self.path.with_name(f"{self.path.name[:_BESIDE]}.{secrets.token_hex(4)}")
        self._link(path)
        return path

    def _name_hidden(self) -> Path:
        if self._hidden is None:
            hidden = self.path.parent / f"{self._prefix}{secrets.token_hex(4)}"
            LEFTOVERS.add(str(hidden))
            self._link(hidden)
            self._hide(hidden)
            return hidden
        return self._hidden

    def _link(self, path: Path) -> None:
        if self._hidden is not None:
            os.link(self._hidden, path)
        else:
            # A descriptor, though of no use with an absolute path, is what has Python call linkat,
            # which can follow this link to a file without a name.
            os.link(f"/proc/self/fd/{self.fd}", path, src_dir_fd=self.fd, follow_symlinks=True)

    def discard(self) -> None:
        """Leave nothing behind, and close; idempotent, and after a commit only that."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self._hidden is not None:
            self._hidden.unlink(missing_ok=True)
            self._hide(None)
