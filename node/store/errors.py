"""What can go wrong with a store: one line each, saying what is wrong, where, and what to do about it."""


class StorageError(Exception):
    """The store cannot do what was asked of it. A running node stops: what is on disk is no longer certain."""


class DiskFull(StorageError):
    """No room for a batch: the disk, a quota, or the store's own limit."""


class DamagedStore(StorageError):
    """The file is not what was written to it: cut off, overwritten, or with pages that make no sense."""


class DirectoryInUse(StorageError):
    """Another process works in the directory."""


class ForeignDirectory(StorageError):
    """The directory holds something else: other files, another cluster, another region, another format."""


class DirectoryUnreadable(StorageError):
    """The operating system does not let this process make or use the directory."""
