"""Asks uv, and takes the files that pip would: ask_uv.py SPEC OUT TREE [offline]

SPEC is JSON: the `program`; the versions that are `kept`, by project, with their files, and those
`fixed` projects whose files are here already; the `builds` of trees (see build_sets.py) and what is
`kept_builds` for them. uv decides the versions, the gateway says which file of each is pip's choice
for this Python. OUT gets the files, HOME/decided.json which of them are `installed` and, if that could
be said, which are the `sets` that trees are built with. TREE is a directory for unpacked sources.

Without an answer the exit code is 1, and pip is asked: it explains what is wrong. Python 3.6 and newer.
"""
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

LENT = "/run/imgbuild/pip"
BUILD_LIMITS = LENT + "/build-constraints.txt"
PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==(\S+)$")
# How many files arrive at once.
AT_ONCE = 6


class Undecided(Exception):
    """uv has no answer, or one that cannot be followed."""


def normalise(name):
    return re.sub("[-_.]+", "-", name).lower()


class Gateway(object):
    def __init__(self):
        self.indexes = [os.environ["PIP_INDEX_URL"]]
        self.indexes += os.environ.get("PIP_EXTRA_INDEX_URL", "").split()
        self.place = urlsplit(self.indexes[0]).netloc

    def ask(self, method, path, body=None):
        connection = HTTPConnection(self.place)
        connection.request(method, path, body)
        answer = connection.getresponse()
        if answer.status != 200:
            raise Undecided(path)
        return answer

    def choose(self, pins, only_wheels):
        """A file for each project and version: its name, path and, if it is known, its digest."""
        body = json.dumps({"pins": pins, "only_wheels": only_wheels})
        return json.loads(self.ask("POST", "/choose", body).read().decode("utf-8"))

    def fetch(self, one, place):
        digest = hashlib.sha256()
        answer = self.ask("GET", one["path"])
        with open(place + ".part", "wb") as file:
            block = answer.read(1 << 16)
            while block:
                digest.update(block)
                file.write(block)
                block = answer.read(1 << 16)
        length = answer.getheader("Content-Length")
        if length and int(length) != os.path.getsize(place + ".part"):
            raise Undecided(one["file"])
        if one["sha256"] not in (None, digest.hexdigest()):
            raise Undecided(one["file"])
        os.rename(place + ".part", place)


class Uv(object):
    def __init__(self, spec, out):
        self.program, self.out = spec["program"], out
        self.gateway = Gateway() if "PIP_INDEX_URL" in os.environ else None
        self.home = os.environ["HOME"]
        # What uv is told belongs to the machine or to a project is told here.
        self.environment = dict((name, value) for name, value in os.environ.items()
                                if not name.startswith("UV_") or "VERSIONING" in name)
        self.environment.update(UV_PYTHON_DOWNLOADS="never", UV_HTTP_TIMEOUT="900", UV_HTTP_RETRIES="0",
                                UV_CONCURRENT_DOWNLOADS="12", UV_LINK_MODE="hardlink")
        self.number = 0

    def pins(self, requirements, limits, kept, retained, only_wheels):
        """The versions that fit together; those that are kept stay unless they are in the way."""
        self.number += 1
        answer = os.path.join(self.home, "uv%d.txt" % self.number)
        with open(answer, "w") as file:
            file.writelines("%s==%s\n" % (name, one["version"]) for name, one in sorted(kept.items()))
        line = [self.program, "pip", "compile", "--quiet", "--no-config", "--no-sources",
                "--cache-dir", os.path.join(self.home, "uv"), "--python", sys.executable,
                "--no-header", "--no-annotate", "--no-progress", "--color", "never",
                "--find-links", retained, "--output-file", answer]
        if self.gateway:
            line += ["--index-strategy", "unsafe-best-match",
                     "--default-index", self.gateway.indexes[0]]
            for index in self.gateway.indexes[1:]:
                line += ["--index", index]
        else:
            # Trees may say only to their backend what they require.
            line += ["--no-index", "--offline", "--find-links", LENT + "/building"]
        if only_wheels:
            line += ["--only-binary", ":all:"]
        elif os.path.exists(BUILD_LIMITS):
            line += ["--build-constraints", BUILD_LIMITS]
        for limit in limits:
            line += ["--constraints", limit]
        # Why it has no answer, pip says.
        with open(answer + ".log", "wb") as log:
            code = subprocess.call(line + [requirements], env=self.environment, cwd=self.home,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if code:
            raise Undecided(requirements)
        with open(answer) as file:
            return list(self.read(file))

    @staticmethod
    def read(lines):
        for line in lines:
            line = line.strip()
            pin = PIN.match(line)
            if pin:
                yield normalise(pin.group(1)), pin.group(2)
            elif line and "/run/imgbuild/sources/" not in line and not line.startswith(("#", "-")):
                raise Undecided(line)

    def take(self, pins, kept, retained, only_wheels):
        """Lays the files of these versions into OUT; their names."""
        names, rest = [], []
        for name, version in pins:
            one = kept.get(name, {})
            place = os.path.join(retained, one.get("file") or "")
            if one.get("version") == version and os.path.isfile(place):
                names.append(one["file"])
                if not os.path.exists(os.path.join(self.out, one["file"])):
                    shutil.copyfile(place, os.path.join(self.out, one["file"]))
            else:
                rest.append([name, version])
        if rest and not self.gateway:
            raise Undecided(rest)
        chosen = self.gateway.choose(rest, only_wheels) if rest else []
        names += [one["file"] for one in chosen]
        places = [(one, os.path.join(self.out, one["file"])) for one in chosen]
        places = [(one, place) for one, place in places if not os.path.exists(place)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda words: self.gateway.fetch(*words), places))
        for one, _ in places:
            print("fetched " + one["file"])
        sys.stdout.flush()
        return names

    def installed(self, spec):
        limits = [LENT + "/limits.txt"]
        kept, retained = spec["kept"], LENT + "/retained"
        pins = self.pins(LENT + "/requirements.txt", limits, kept, retained, False)
        pins = [(name, version) for name, version in pins if name not in spec["fixed"]]
        return self.take(pins, kept, retained, False)

    def for_building(self, lines, kept):
        """Wheels of what building something needs; their names."""
        requirements = os.path.join(self.home, "requires.txt")
        if any("://" in line for line in lines):
            raise Undecided(lines)
        with open(requirements, "w") as file:
            file.writelines(line + "\n" for line in lines)
        limits = [BUILD_LIMITS] if os.path.exists(BUILD_LIMITS) else []
        pins = self.pins(requirements, limits, kept, LENT + "/building", True)
        return self.take(pins, kept, LENT + "/building", True)


def decide(spec, out, tree):
    uv = Uv(spec, out)
    decided = {"installed": uv.installed(spec), "sets": None}
    print("uv decided %d versions" % len(decided["installed"]))
    sys.stdout.flush()
    if spec["builds"]:
        import build_sets

        def fetch(_, wanted):
            return [os.path.join(out, name) for name in uv.for_building(wanted, spec["kept_builds"])]

        try:
            decided["sets"] = build_sets.ask(spec["builds"], tree, fetch)
        except (SystemExit, Undecided, EnvironmentError, HTTPException):
            pass  # They are asked for again, by themselves.
    else:
        decided["sets"] = {}
    with open(os.path.join(uv.home, "decided.json"), "w") as file:
        json.dump(decided, file)


def main():
    spec, out, tree = sys.argv[1:4]
    with open(spec) as file:
        spec = json.load(file)
    try:
        decide(spec, out, tree)
    except (Undecided, EnvironmentError, HTTPException):
        for name in os.listdir(out):
            os.unlink(os.path.join(out, name))
        sys.exit(1)


if __name__ == "__main__":
    main()
