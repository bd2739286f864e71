"""Runs pip where it can reach nothing but the gateway: ask_pip.py DIRECT COMMAND...

What a requirement takes from an address (PEP 508), pip asks the gateway for, by that address. DIRECT
is JSON: `trees` has the directories of repositories that are here already, by address; of the
projects that are `supplied` and the repositories that are `named` by the recipe an address in a
requirement says nothing new; `known` is the metadata of retained archives, by file. HOME/described.json
gets what sources say of themselves: project, version, extras; HOME/metadata.json what is known of archives
now. Python 2.7 and 3.
"""
import hashlib
import io
import json
import os
import re
import runpy
import sys

import pip._internal.cli.main  # First: its parts import each other.
import pip._internal.operations.prepare
from pip._internal.models.link import Link
from pip._internal.req.req_install import InstallRequirement
from pip._vendor.packaging.requirements import Requirement

try:
    from pip._internal.distributions.sdist import SourceDistribution
except ImportError:
    SourceDistribution = None  # It has another name.
try:
    from urllib.parse import quote, unquote, urlsplit
except ImportError:
    from urllib import quote, unquote
    from urlparse import urlsplit

ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
RETAINED = "/run/imgbuild/pip/retained"
# Of metadata, what says which project and version it is, and what it needs.
TELLING = ("METADATA", "PKG-INFO", "requires.txt", "depends.txt")
PLAIN = {"link": Link.__init__, "requirement": Requirement.__init__,
         "prepare": InstallRequirement.prepare_metadata}


def bare(url):
    """The address of a repository, without who asks and for what."""
    scheme, _, rest = url.partition("#")[0].partition("git+")[2].partition("://")
    host, _, path = rest.partition("/")
    path = path.partition("@")[0].rstrip("/")
    return "%s://%s/%s" % (scheme, host.rpartition("@")[2], path[:-4] if path.endswith(".git") else path)


def without_description(text):
    """The fields of metadata, but for the longest, which decides nothing."""
    kept, is_kept = [], True
    for line in text.split("\n"):
        if not line.strip("\r"):
            break
        if line[0] not in " \t":
            is_kept = not line.startswith("Description:")
        if is_kept:
            kept.append(line)
    return "\n".join(kept) + "\n"


def are_retained(place):
    return all(os.path.exists(os.path.join(RETAINED, name)) for name in os.listdir(place))


class Metadata(object):
    """What archives say of themselves. It takes as long as their setup.py likes: each is asked once."""

    def __init__(self, known):
        self.known, self.now = known, {}
        self.home = os.path.join(os.environ["HOME"], "metadata")

    def lay_out(self, requirement):
        """The directory with what is known of a retained archive, if it is."""
        link = requirement.link
        directory, _, name = unquote(link.url.partition("#")[0] if link else "").rpartition("/")
        one = self.known.get(name)
        # The retained file, or an index's that pip compares with the same digest.
        if not one or directory != "file://" + RETAINED and one["sha256"] != link.hash:
            return None
        self.now[name] = one
        place = os.path.join(self.home, name, os.path.basename(one["directory"]))
        if not os.path.isdir(place):
            os.makedirs(place)
        for file, text in one["files"].items():
            with io.open(os.path.join(place, os.path.basename(file)), "w", encoding="utf-8") as out:
                out.write(text)
        return place

    def note(self, name, place):
        """Takes down what an archive said."""
        if name in self.now or not name.endswith(ENDINGS):
            return
        files = {}
        for file in TELLING:
            path = os.path.join(place, file)
            if os.path.isfile(path):
                with io.open(path, encoding="utf-8", errors="replace") as told:
                    text = told.read()
                files[file] = text if file.endswith(".txt") else without_description(text)
        self.now[name] = {"directory": os.path.basename(place.rstrip("/")), "files": files}

    def write(self):
        with open(os.path.join(os.environ["HOME"], "metadata.json"), "w") as file:
            json.dump(self.now, file)


class Direct(object):
    def __init__(self, spec):
        self.metadata = Metadata(spec.get("known", {}))
        self.supplied = set(spec.get("supplied", []))
        self.named = set(bare("git+" + url) for url in spec.get("named", []))
        self.trees = spec.get("trees", {})
        index = os.environ.get("PIP_INDEX_URL", "")
        self.gate = "/".join(index.split("/")[:3])
        self.described = {}

    def is_elsewhere(self, url):
        is_file = url.lower().startswith(("http://", "https://"))
        return url.startswith("git+") or is_file and not url.startswith(self.gate + "/")

    def stand_in(self, url):
        """What pip takes in place of an address."""
        if not self.is_elsewhere(url):
            return url
        if url in self.trees:
            return "file://" + self.trees[url]
        if url.startswith("git+"):
            return "%s/direct/%s/repository.tar.gz" % (self.gate, quote(url, ""))
        whole, (url, _, fragment) = url, url.partition("#")
        if "subdirectory=" in fragment:
            # The gateway says so; the lock would not name the directory.
            return "%s/direct/%s/inside.tar.gz" % (self.gate, quote(whole, ""))
        name = urlsplit(url).path.rpartition("/")[2]
        if not name.endswith(".whl"):
            # Two projects may call their archives v1.0.tar.gz.
            endings = [one for one in ENDINGS if name.lower().endswith(one)]
            name = hashlib.sha256(url.encode("utf-8")).hexdigest()[:16] + "".join(endings[:1])
        return "%s/direct/%s/%s#%s" % (self.gate, quote(url, ""), name, fragment)

    def is_known(self, requirement):
        name = re.sub("[-_.]+", "-", requirement.name).lower()
        url = requirement.url
        return name in self.supplied or url.startswith("git+") and bare(url) in self.named

    def describe(self, requirement):
        """Writes down what a source says of itself; its link has no name that could."""
        distribution = requirement.get_dist()
        if hasattr(distribution, "iter_provided_extras"):
            extras = list(distribution.iter_provided_extras())
        else:
            extras = list(distribution.extras)
        metadata = requirement.metadata
        place = requirement.link.url.partition("#")[0]
        if "/direct/" not in place:
            self.metadata.note(unquote(place.rpartition("/")[2]), requirement.metadata_directory)
        self.described[place.rpartition("/")[2] if "/direct/" in place else place] = {
            "name": metadata["Name"], "version": metadata["Version"], "extras": sorted(extras)}
        with open(os.path.join(os.environ["HOME"], "described.json"), "w") as file:
            json.dump(self.described, file)


def main():
    with open(sys.argv[1]) as file:
        direct = Direct(json.load(file))

    def link(self, url, *words, **named):
        PLAIN["link"](self, direct.stand_in(url), *words, **named)

    def requirement(self, text):
        PLAIN["requirement"](self, text)
        if self.url and direct.is_known(self):
            self.url = None

    def prepare(self, *words, **named):
        found = PLAIN["prepare"](self, *words, **named)
        if self.link is not None:
            direct.describe(self)
        return found

    def prepare_distribution(self, *words, **named):
        place = direct.metadata.lay_out(self.req)
        if not place:
            return plain_distribution(self, *words, **named)
        self.req.metadata_directory = place
        return direct.describe(self.req)

    preparer = getattr(pip._internal.operations.prepare, "RequirementPreparer", None)
    plain_save = getattr(preparer, "save_linked_requirement", None)

    def save(self, requirement):
        # Python 2's last pip stumbles over constraints of what nothing requires.
        if requirement.link is not None:
            plain_save(self, requirement)

    plain_distribution = getattr(SourceDistribution, "prepare_distribution_metadata", None)
    if plain_save:
        preparer.save_linked_requirement = save
    if plain_distribution:
        SourceDistribution.prepare_distribution_metadata = prepare_distribution
    Link.__init__ = link
    Requirement.__init__ = requirement
    InstallRequirement.prepare_metadata = prepare
    words = sys.argv[2:]
    sys.argv = ["pip"] + words
    # Whatever pip imports is pip's, not what lies here.
    sys.path = [place for place in sys.path if place != os.path.dirname(os.path.abspath(__file__))]
    code = None
    try:
        runpy.run_module("pip", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    direct.metadata.write()
    if not code and "--no-index" in words and not are_retained(words[words.index("-d") + 1]):
        code = 1  # Something only builds others as yet: an index may have a newer version.
    sys.exit(code)


if __name__ == "__main__":
    main()
