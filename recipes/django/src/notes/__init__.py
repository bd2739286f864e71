"""Notes with attachments: the smallest project that has what a real one has."""

__version__ = "1.0"
