"""Chooses the files that another tool's lock has for this Python: read_lock.py SPEC OUT

SPEC is JSON: each lock's name, directory and content (pylock.toml as PEP 751 has it, uv.lock),
the extras and dependency groups that are wanted, the directories of local packages, the Git
commits that the recipe names, and what those projects say that they require. OUT gets JSON: the chosen `files`, which local packages and
Git commits are `covered` by the locks, and the `extras` and `groups` that they know; or an
`error` with a `hint`. Python 2.7 and 3.
"""
import json
import posixpath
import re
import sys

try:
    from pip._vendor.packaging.markers import Marker, default_environment
    from pip._vendor.packaging.requirements import InvalidRequirement, Requirement
    from pip._vendor.packaging.specifiers import SpecifierSet
    from pip._vendor.packaging.tags import sys_tags
except ImportError:
    from packaging.markers import Marker, default_environment
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.tags import sys_tags

try:
    from urllib.parse import unquote, urlsplit
except ImportError:
    from urllib import unquote
    from urlparse import urlsplit

ARCHIVES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".zip")
WORD = r"""'[^']*'|"[^"]*"|[A-Za-z_][A-Za-z0-9_.]*"""
TOKEN = re.compile(
    r"\s*(?:(?P<mark>[()]|(?:and|or)\b)|(?P<left>%s)\s*"
    r"(?P<by>===|==|~=|!=|<=|>=|<|>|not\s+in\b|in\b)\s*(?P<right>%s))\s*" % (WORD, WORD))


class Refused(Exception):
    def __init__(self, error, hint):
        Exception.__init__(self, error)
        self.hint = hint


def normalise(name):
    return re.sub("[-_.]+", "-", name).lower()


class Markers(object):
    """Conditions of PEP 508 and 751; packaging of an older pip knows no extras of a lock."""

    def __init__(self, extras, groups):
        self.sets = {"extras": extras, "extra": extras, "dependency_groups": groups}
        self.known = {}

    def holds(self, text):
        if not text:
            return True
        if text not in self.known:
            tokens, at = [], 0
            while at < len(text):
                match = TOKEN.match(text, at)
                if not match:
                    raise Refused("the condition `%s` cannot be read" % text, "let its tool write the lock again")
                tokens.append(match)
                at = match.end()
            tokens.append(None)
            self.known[text] = self.any_of(tokens)
        return self.known[text]

    def any_of(self, tokens):
        value = self.all_of(tokens)
        while tokens[0] and tokens[0].group("mark") == "or":
            tokens.pop(0)
            value = self.all_of(tokens) or value
        return value

    def all_of(self, tokens):
        value = self.one(tokens)
        while tokens[0] and tokens[0].group("mark") == "and":
            tokens.pop(0)
            value = self.one(tokens) and value
        return value

    def one(self, tokens):
        token = tokens.pop(0)
        if token and token.group("mark") == "(":
            value = self.any_of(tokens)
            tokens.pop(0)
            return value
        if not token or token.group("mark"):
            raise Refused("a condition cannot be read", "let its tool write the lock again")
        left, by, right = token.group("left", "by", "right")
        for name, other in ((left, right), (right, left)):
            if name in self.sets:
                there = normalise(other[1:-1]) in self.sets[name]
                return there if by in ("in", "==") else not there
        return Marker("%s %s %s" % (left, by, right)).evaluate()


class Files(object):
    """Which file of a package suits this Python."""

    def __init__(self):
        self.ranks = {}
        for rank, tag in enumerate(sys_tags()):
            self.ranks.setdefault(str(tag), rank)
        self.python = default_environment()["python_full_version"]

    def fits(self, wanted):
        return not wanted or SpecifierSet(wanted).contains(self.python, prereleases=True)

    def rank(self, file):
        parts = file[:-len(".whl")].split("-")
        if len(parts) not in (5, 6):
            return None
        build = re.match("[0-9]+", parts[2]) if len(parts) == 6 else None
        build = -int(build.group()) if build else 0
        tags = ["%s-%s-%s" % (python, abi, platform) for python in parts[-3].split(".")
                for abi in parts[-2].split(".") for platform in parts[-1].split(".")]
        ranks = [self.ranks[tag] for tag in tags if tag in self.ranks]
        return (min(ranks), build) if ranks else None

    def choose(self, lock, package, wheels, sdist):
        """A file as the lock has it, with its name."""
        named = [(file_name(wheel), wheel) for wheel in wheels]
        fitting = [(self.rank(name), name, wheel) for name, wheel in named]
        fitting = sorted((one for one in fitting if one[0]), key=lambda one: one[:2])
        if fitting:
            return fitting[0][1:]
        if sdist:
            return file_name(sdist), sdist
        if not named:
            raise Refused("%s has no file of %s %s" % (lock, package["name"], package.get("version", "")),
                          "let its tool write the lock again")
        raise Refused(
            "%s has %s %s only for other platforms or Pythons: %s" % (
                lock, package["name"], package.get("version", ""),
                ", ".join(sorted(name for name, _ in named)[:4])),
            "this Python is %s and takes %s first; lock a version that has such a wheel or a source"
            % (self.python, min(self.ranks, key=self.ranks.get)))


def file_name(file):
    place = file.get("url") or file.get("path") or ""
    return file.get("name") or file.get("filename") or unquote(urlsplit(place).path.rsplit("/", 1)[-1])


def sha256(lock, package, file):
    digest = file.get("hashes", {}).get("sha256") or ""
    if file.get("hash", "").startswith("sha256:"):
        digest = file["hash"][len("sha256:"):]
    if not re.match("[0-9a-f]{64}$", digest):
        raise Refused("%s has no sha256 of %s" % (lock, file_name(file) or package["name"]),
                      "only what has a sha256 is installed: let its tool write the lock with hashes")
    return digest


class Chosen(object):
    def __init__(self, spec):
        self.spec = spec
        self.files, self.covered = [], []
        # What lies in directories that the recipe does not name: lock, project, directory.
        self.missing = []
        # Projects that are no file, and those whose version uv was told to override.
        self.projects, self.overridden = set(), set()
        self.warnings = []
        self.known = {"extra": set(), "group": set()}

    def wants(self, kind, known):
        """Of what the recipe wants, what a lock knows."""
        self.known[kind] |= set(known)
        return set(self.spec[kind + "s"]) & set(known)

    def file(self, lock, package, name, file):
        """Takes a file; an archive without a name of its own gets one."""
        version = package.get("version")
        project = normalise(package["name"])
        if not name.endswith(".whl"):
            ending = next((end for end in ARCHIVES if name.endswith(end)), None)
            if ending is None:
                raise Refused("%s has %s as `%s`, which is neither wheel nor source archive"
                              % (lock["name"], project, name), "let it come from an index")
            if version and normalise(name[:-len(ending)]) != normalise("%s-%s" % (project, version)):
                name = "%s-%s%s" % (project.replace("-", "_"), version, ending)
        one = {"name": project, "version": version, "file": name, "sha256": sha256(lock["name"], package, file)}
        for other in self.files:
            if other["name"] == project and other["sha256"] != one["sha256"]:
                raise Refused("%s wants two files of %s: %s and %s" % (
                    lock["name"], project, other["file"], one["file"]),
                    "a virtualenv has one version of a package")
        if urlsplit(file.get("url") or "").scheme in ("http", "https"):
            one["url"] = file["url"]
        elif file.get("path") or file.get("url"):
            one["path"] = posixpath.normpath(posixpath.join(lock["dir"], file.get("path") or file["url"]))
        self.files.append(one)

    def directory(self, lock, package, path):
        place = posixpath.normpath(posixpath.join(lock["dir"], path))
        self.projects.add(normalise(package["name"]))
        if place in self.spec["local"]:
            self.covered.append(place)
        elif (lock, package["name"], place) not in self.missing:
            self.missing.append((lock, package["name"], place))

    def repository(self, lock, package, url, commit, subdirectory):
        self.projects.add(normalise(package["name"]))
        if commit in self.spec["git"]:
            self.covered.append(commit)
            return
        below = ", subdirectory = \"%s\"" % subdirectory if subdirectory else ""
        other = ", at another commit than the recipe" if url in self.spec.get("urls", []) else ""
        raise Refused("%s takes %s from Git%s" % (lock["name"], package["name"], other),
                      "add it in the recipe: git = [..., { url = \"%s\", commit = \"%s\"%s }]" % (url, commit, below))

    def check_directories(self):
        """Names all directories at once that the recipe does not name."""
        if not self.missing:
            return
        alone = ""
        if any(place == posixpath.normpath(lock["dir"] or ".") for lock, _, place in self.missing):
            alone = ("; for what it depends on alone, export that: uv export --no-emit-project "
                     "--format pylock.toml --output-file pylock.toml")
        said = []
        for lock, name, place in self.missing:
            if not said or lock is not self.missing[len(said) - 1][0]:
                said.append("%s installs %s from the directory %s" % (lock["name"], name, place))
            else:
                said.append("%s from %s" % (name, place))
        places = sorted(set(place for _, _, place in self.missing))
        raise Refused(", ".join(said), "add %s in the recipe: local = [..., %s]%s" % (
            "it" if len(places) == 1 else "them", ", ".join("\"%s\"" % place for place in places), alone))

    def check(self):
        """What projects require now and their locks do not have: a uv.lock says all of it, while a
        pylock.toml may have been exported without some packages, or with overridden versions."""
        versions = dict((one["name"], one["version"]) for one in self.files)
        locks = " and ".join(lock["name"] for lock in self.spec["locks"])
        is_uv = all(lock["kind"] == "uv" for lock in self.spec["locks"])
        elsewhere = self.projects | self.overridden | set(self.spec.get("own", []))
        for project in self.spec.get("projects", []):
            if project["origin"] not in self.covered:
                continue
            who = "the project" if project["origin"] == "." else project["origin"]
            for line in project["dependencies"]:
                try:
                    wanted = Requirement(line)
                except InvalidRequirement:
                    continue
                name = normalise(wanted.name)
                if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
                    continue
                if name in elsewhere:
                    continue
                if name not in versions:
                    said = "%s requires %s, which %s does not have" % (who, line, locks)
                elif versions[name] and not wanted.specifier.contains(versions[name], prereleases=True):
                    said = "%s requires %s, and %s has %s %s" % (who, line, locks, name, versions[name])
                else:
                    continue
                if is_uv:
                    raise Refused(said, "let uv write the lock again (uv lock), then lock here")
                self.warnings.append(said)


def check_format(lock, key, is_known, known):
    """Refuses a lock in a format that is not known, or of which nothing says the format."""
    data, again = lock["data"], "let its tool write the lock again; %s is read" % known
    if not data:
        raise Refused("%s is empty" % lock["name"], again)
    if key not in data:
        raise Refused("%s has no `%s`" % (lock["name"], key), again)
    if not is_known(data[key]):
        raise Refused("%s has the format %s, which is not known" % (lock["name"], data[key]), "%s is read" % known)


def pylock(lock, chosen, files):
    data = lock["data"]
    check_format(lock, "lock-version", lambda said: str(said).startswith("1."), "lock-version 1.x")
    extras = chosen.wants("extra", [normalise(name) for name in data.get("extras", [])])
    known = [normalise(name) for name in data.get("dependency-groups", []) + data.get("default-groups", [])]
    groups = chosen.wants("group", known)
    groups |= set(normalise(name) for name in data.get("default-groups", []))
    markers = Markers(extras, groups)
    environments = data.get("environments", [])
    if environments and not any(markers.holds(one) for one in environments):
        raise Refused("%s is for other environments: %s" % (lock["name"], "; ".join(environments)),
                      "this Python is %s" % files.python)
    check_python(lock, data, files)
    for package in data.get("packages", []):
        if not markers.holds(package.get("marker")):
            continue
        if not files.fits(package.get("requires-python")):
            raise Refused("%s has %s, which wants Python %s" % (
                lock["name"], package["name"], package["requires-python"]),
                "this Python is %s" % files.python)
        archive, vcs, directory = (package.get(key) for key in ("archive", "vcs", "directory"))
        if directory:
            chosen.directory(lock, package, directory["path"])
        elif vcs:
            chosen.repository(lock, package, vcs.get("url", ""), vcs["commit-id"], vcs.get("subdirectory"))
        else:
            if archive and archive.get("subdirectory"):
                raise Refused("%s takes %s from a directory inside an archive" % (lock["name"], package["name"]),
                              "let it come from an index, `local` or `git`")
            name, file = (file_name(archive), archive) if archive else files.choose(
                lock["name"], package, package.get("wheels", []), package.get("sdist"))
            chosen.file(lock, package, name, file)


def check_python(lock, data, files):
    if not files.fits(data.get("requires-python")):
        raise Refused("%s is for Python %s" % (lock["name"], data["requires-python"]),
                      "this Python is %s: another one goes into `python`, or lock for this one" % files.python)


class Uv(object):
    """A walk from the projects of a uv.lock along its dependencies."""

    def __init__(self, lock, chosen, files):
        self.lock, self.chosen, self.files = lock, chosen, files
        self.data = lock["data"]
        self.markers = Markers(set(), set())
        self.packages = {}
        for package in self.data.get("package", []):
            self.packages.setdefault(normalise(package["name"]), []).append(package)
        self.seen = set()

    def refuse(self, error, hint):
        raise Refused("%s %s" % (self.lock["name"], error), hint)

    def run(self):
        check_format(self.lock, "version", lambda said: said == 1, "version 1")
        if self.data.get("conflicts"):
            self.refuse("has extras or groups that exclude each other, which is not read",
                        "export those that you want, and name that file: uv export --frozen --no-dev "
                        "--format pylock.toml --output-file pylock.toml")
        check_python(self.lock, self.data, self.files)
        manifest = self.data.get("manifest", {})
        changed = [one["name"] for one in manifest.get("overrides", [])] + manifest.get("excludes", [])
        self.chosen.overridden.update(map(normalise, changed))
        wanted = [self.data.get("manifest", {}).get("dependency-groups", {})]
        roots = self.roots()
        wanted += [root.get("optional-dependencies", {}) for root in roots]
        extras = self.chosen.wants("extra", [normalise(key) for table in wanted[1:] for key in table])
        development = [root.get("dev-dependencies", {}) for root in roots] + wanted[:1]
        groups = self.chosen.wants("group", [normalise(key) for table in development for key in table])
        for root in roots:
            self.visit(root, ())
        for names, tables in ((extras, wanted[1:]), (groups, development)):
            for table in tables:
                for key in table:
                    if normalise(key) in names:
                        self.follow(table[key])

    def roots(self):
        """The projects that are named under `local`, else the one beside the lock."""
        own, first = [], []
        for package in self.data.get("package", []):
            place = self.place(package)
            if place is None:
                continue
            if posixpath.normpath(posixpath.join(self.lock["dir"], place)) in self.chosen.spec["local"]:
                own.append(package)
            elif posixpath.normpath(place) == ".":
                first.append(package)
        members = self.data.get("manifest", {}).get("members", [])
        if not own and not first and not self.data.get("manifest", {}).get("dependency-groups"):
            self.refuse("has several projects, none of which the recipe names: %s" % ", ".join(members),
                        "name the directory of one of them under `local`")
        return own or first

    @staticmethod
    def place(package):
        source = package.get("source", {})
        for kind in ("editable", "virtual", "directory"):
            if kind in source:
                return source[kind]
        return None

    def follow(self, dependencies):
        for one in dependencies:
            if not self.markers.holds(one.get("marker")):
                continue
            package = self.find(one)
            self.visit(package, ())
            extra = one.get("extra", one.get("extras", []))
            self.visit(package, [extra] if not isinstance(extra, list) else extra)

    def find(self, one):
        name = normalise(one["name"])
        found = self.packages.get(name, [])
        for key in ("version", "source"):
            if key in one:
                found = [package for package in found if package.get(key) == one[key]]
        if len(found) > 1:
            found = [package for package in found
                     if any(self.markers.holds(text) for text in package.get("resolution-markers", [""]))]
        if len(found) != 1:
            self.refuse("has %d entries of %s for this Python" % (len(found), name), "run `uv lock` again")
        return found[0]

    def visit(self, package, extras):
        key = (package["name"], package.get("version"))
        if not extras and key not in self.seen:
            self.seen.add(key)
            self.take(package)
            self.follow(package.get("dependencies", []))
        for extra in extras:
            if key + (extra,) not in self.seen:
                self.seen.add(key + (extra,))
                tables = package.get("optional-dependencies", {})
                self.follow([one for name in tables if normalise(name) == normalise(extra) for one in tables[name]])

    def take(self, package):
        place, source = self.place(package), package.get("source", {})
        if place is not None:
            self.chosen.projects.add(normalise(package["name"]))
            if "virtual" not in source:
                self.chosen.directory(self.lock, package, place)
            elif posixpath.normpath(posixpath.join(self.lock["dir"], place)) in self.chosen.spec["local"]:
                self.chosen.directory(self.lock, package, place)
        elif "git" in source:
            url, _, commit = source["git"].partition("#")
            query = urlsplit(url).query
            below = re.search("(?:^|&)subdirectory=([^&]*)", query)
            self.chosen.repository(self.lock, package, url.partition("?")[0], commit,
                                   unquote(below.group(1)) if below else None)
        elif "path" in source or "url" in source:
            # One file, which the source names; its hash is in the list.
            every = package.get("wheels", []) + [one for one in [package.get("sdist")] if one]
            file = dict(every[0] if every else {})
            key = "path" if "path" in source else "url"
            file[key] = source[key].partition("#")[0]
            file.pop("filename", None)
            self.chosen.file(self.lock, package, file_name(file), file)
        else:
            name, file = self.files.choose(
                self.lock["name"], package, package.get("wheels", []), package.get("sdist"))
            self.chosen.file(self.lock, package, name, file)


def main():
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    for kind in ("extras", "groups"):
        spec[kind] = [normalise(name) for name in spec[kind]]
    chosen = Chosen(spec)
    try:
        files = Files()
        for lock in spec["locks"]:
            if lock["kind"] == "uv":
                Uv(lock, chosen, files).run()
            else:
                pylock(lock, chosen, files)
        chosen.check_directories()
        chosen.check()
        result = {"files": chosen.files, "covered": chosen.covered,
                  "extras": sorted(chosen.known["extra"]), "groups": sorted(chosen.known["group"]),
                  "warnings": chosen.warnings}
    except Refused as refused:
        result = {"error": str(refused), "hint": refused.hint}
    with open(sys.argv[2], "w") as file:
        json.dump(result, file)
    sys.exit("error" in result)


main()
