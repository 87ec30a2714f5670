"""A file that appears whole or not at all, and replaces another one only where that is asked for.

While it is written it has no name (`O_TMPFILE`), so nothing is left behind however the process
ends; where the file system can't do that, it is a hidden file in the same folder.
"""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from pathlib import Path

from pageferry.common.process.signals import LEFTOVERS

# Errors of file systems and old kernels that have no unnamed files.
_NO_UNNAMED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}
_BESIDE = 60  # characters of the name with which another one begins: a name has 255 bytes at most


class NewFile:
    """A new file: write to `fd`, then `commit` or `discard`. A symbolic link stays one.

    Args:
        name: Where the file is to appear; symbolic links are followed.
        force: Whether it replaces a file that has the name already.

    Attributes:
        path: Where it appears, absolute, without symbolic links.
        fd: The descriptor to write to; -1 after `discard`.

    Raises:
        FileExistsError: There is a file of that name, and `force` was not given.
        OSError: It can't be made there.
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
        """Refuse now a name that the file could not have at the end, above all a name too long.

        A file that has no name yet would not notice before.
        """
        try:
            self.path.lstat()
        except FileNotFoundError:
            return
        if not self._force:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.path))

    def _open(self) -> int:
        """Open a file without a name, or else a hidden one in the same folder."""
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
        """Note the name it has for now; a signal that ends the process at once removes it."""
        if self._hidden is not None:
            LEFTOVERS.discard(str(self._hidden))
        if path is not None:
            LEFTOVERS.add(str(path))
        self._hidden = path

    @property
    def _prefix(self) -> str:
        """How names of hidden files begin."""
        return f".{self.path.name[:32]}."

    def commit(self) -> None:
        """Give the file its name, and the mode that the umask leaves. The descriptor stays open.

        Where that fails, the file is still there, without its name: see `beside`.

        Raises:
            FileExistsError: By now there is a file of that name.
            OSError: The file system refuses.
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
        """Give the file another name in its folder, where it can't have its own but must be kept.

        Returns:
            Where it is now.

        Raises:
            OSError: It can't have that name either.
        """
        path = self.path.with_name(f"{self.path.name[:_BESIDE]}.{secrets.token_hex(4)}")
        self._link(path)
        return path

    def _name_hidden(self) -> Path:
        """Give a file without a name a hidden one, so that it can be renamed over another."""
        if self._hidden is None:
            hidden = self.path.parent / f"{self._prefix}{secrets.token_hex(4)}"
            LEFTOVERS.add(str(hidden))
            self._link(hidden)
            self._hide(hidden)
            return hidden
        return self._hidden

    def _link(self, path: Path) -> None:
        """Give the file a name beside the one that it may have."""
        if self._hidden is not None:
            os.link(self._hidden, path)
        else:
            # The descriptor is of no use with an absolute path, but it makes Python call linkat,
            # which can follow this link to a file without a name.
            os.link(f"/proc/self/fd/{self.fd}", path, src_dir_fd=self.fd, follow_symlinks=True)

    def discard(self) -> None:
        """Close the file and leave nothing behind; what has been committed stays. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self._hidden is not None:
            self._hidden.unlink(missing_ok=True)
            self._hide(None)
