"""Runs pip where it can reach nothing but the gateway: ask_pip.py DIRECT COMMAND...

What a requirement takes from an address (PEP 508), pip asks the gateway for, by that address. DIRECT
is JSON: `trees` has the directories of repositories that are here already, by address; of the
projects that are `supplied` and the repositories that are `named` by the recipe an address in a
requirement says nothing new. HOME/described.json gets what sources say of themselves: project,
version, extras. Python 2.7 and 3.
"""
import hashlib
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
    from urllib.parse import quote, urlsplit
except ImportError:
    from urllib import quote
    from urlparse import urlsplit

ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
PLAIN = {"link": Link.__init__, "requirement": Requirement.__init__,
         "prepare": InstallRequirement.prepare_metadata}


def bare(url):
    """The address of a repository, without who asks and for what."""
    scheme, _, rest = url.partition("#")[0].partition("git+")[2].partition("://")
    host, _, path = rest.partition("/")
    path = path.partition("@")[0].rstrip("/")
    return "%s://%s/%s" % (scheme, host.rpartition("@")[2], path[:-4] if path.endswith(".git") else path)


class Direct(object):
    def __init__(self, spec):
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

    preparer = getattr(pip._internal.operations.prepare, "RequirementPreparer", None)
    plain_save = getattr(preparer, "save_linked_requirement", None)

    def save(self, requirement):
        # Python 2's last pip stumbles over constraints of what nothing requires.
        if requirement.link is not None:
            plain_save(self, requirement)

    if plain_save:
        preparer.save_linked_requirement = save
    Link.__init__ = link
    Requirement.__init__ = requirement
    InstallRequirement.prepare_metadata = prepare
    sys.argv = ["pip"] + sys.argv[2:]
    # Whatever pip imports is pip's, not what lies here.
    sys.path = [place for place in sys.path if place != os.path.dirname(os.path.abspath(__file__))]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
