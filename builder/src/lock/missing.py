"""Prints what the distributions of this virtualenv require and it does not have.

A line for each: lacks NAME REQUIRED
"""
import re
import sys

from pip._vendor.packaging.requirements import InvalidRequirement, Requirement

try:
    from importlib.metadata import distributions
    FOUND = [(one.metadata["Name"], str(one.locate_file("")), one.requires or [])
             for one in distributions()]
except ImportError:  # Before Python 3.8.
    from pip._vendor.pkg_resources import working_set
    FOUND = [(one.project_name, one.location, [str(line) for line in one.requires()])
             for one in working_set]


def normalise(name):
    return re.sub("[-_.]+", "-", name).lower()


def main():
    names = set(normalise(name) for name, _, _ in FOUND if name)
    missing = set()
    for name, place, lines in FOUND:
        # Debian's own, where they are visible, are Debian's matter.
        for line in lines if name and place.startswith(sys.prefix) else []:
            try:
                wanted = Requirement(line)
            except InvalidRequirement:
                continue
            holds = not wanted.marker or wanted.marker.evaluate({"extra": ""})
            if holds and normalise(wanted.name) not in names:
                missing.add((name, wanted.name))
    for name, wanted in sorted(missing):
        print("lacks %s %s" % (name, wanted))


main()
