# Loaded by every Python that makes or fills a virtualenv; versions 2.7 and 3.
#
# What only chance decides is the same each time. Temporary directories get the
# same names: compilers write the path of a source into what they make, and pip
# has a random UUID in it. Directories are read in the order of their names: a setup.py that
# globs its sources links them in that order, virtualenv writes RECORD in it.
import os
import sys
import tempfile


class _Numbered(object):
    def __init__(self):
        self.last = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.last += 1
        return "%08d" % self.last

    next = __next__


tempfile._RandomNameSequence = _Numbered
tempfile._name_sequence = None

# Python 2's pip has none, and its uuid runs a compiler to load itself.
if sys.version_info[0] > 2:
    import uuid

    _numbers = iter(range(1, 1 << 122))
    uuid.uuid4 = lambda: uuid.UUID(int=next(_numbers), version=4)


# Objects, not functions: pathlib makes class attributes of them, and a function
# would become a method there. repr() orders bytes and text alike.
class _Listdir(object):
    def __init__(self, read):
        self.read = read

    def __call__(self, *args, **kwargs):
        return sorted(self.read(*args, **kwargs), key=repr)


class _Scandir(object):
    def __init__(self, read):
        self.read = read

    def __call__(self, *args, **kwargs):
        return _Entries(self.read(*args, **kwargs))


class _Entries(object):
    def __init__(self, entries):
        with entries:
            self.entries = iter(sorted(entries, key=lambda entry: repr(entry.name)))

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.entries)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.entries = iter(())


os.listdir = _Listdir(os.listdir)
if hasattr(os, "scandir"):
    os.scandir = _Scandir(os.scandir)
# Who asks whether they take a descriptor gets the old answer.
if hasattr(os, "supports_fd"):
    os.supports_fd.update(f for f in (os.listdir, os.scandir) if f.read in os.supports_fd)
