"""What the indexes have for a requirement, seen from this Python (PEP 425, 440, 503, 592)."""
import email
import re
import sys

from pip._vendor.packaging.requirements import InvalidRequirement, Requirement
from pip._vendor.packaging.specifiers import InvalidSpecifier, SpecifierSet
from pip._vendor.packaging.version import InvalidVersion, Version

from indexes import last_part, normalise

try:
    from pip._internal.utils.compatibility_tags import get_supported
    TAGS = [(tag.interpreter, tag.abi, tag.platform) for tag in get_supported()]
except ImportError:
    TAGS = []  # An old pip: every wheel passes.
# What is known of lists of Pythons.
FITTING = {}
PLACES = dict((tag, place) for place, tag in reversed(list(enumerate(TAGS))))
PYTHON = "%d.%d.%d" % sys.version_info[:3]
ARCHIVES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".zip")
# Nobody reads longer lists.
MOST = 6


class Offer(object):
    """A file of a project."""

    def __init__(self, url, version, attributes, tags):
        self.url, self.file, self.version, self.tags = url, last_part(url), version, tags
        self.yanked = attributes.get("data-yanked")
        self.python = attributes.get("data-requires-python", "")

    def fits_python(self):
        return is_for_python(self.python)

    def fits(self):
        return is_for_platform(self.tags) and self.fits_python()

    def rank(self):
        """How much pip likes a file among those of one version; the largest is taken."""
        if self.tags is None:
            return self.yanked is None, -len(TAGS), ()
        parts = self.file[:-4].split("-")
        number = re.match(r"(\d*)(.*)", parts[2]) if len(parts) == 6 else None
        build = (int(number.group(1) or 0), number.group(2)) if number else ()
        return self.yanked is None, -min(PLACES[tag] for tag in self.tags if tag in PLACES), build


def is_for_platform(tags):
    return not PLACES or tags is None or any(tag in PLACES for tag in tags)


def is_for_python(wanted):
    # Many files say the same.
    if wanted not in FITTING:
        try:
            FITTING[wanted] = SpecifierSet(wanted).contains(PYTHON, prereleases=True)
        except InvalidSpecifier:
            FITTING[wanted] = True
    return FITTING[wanted]


def tags_of(file):
    """The tags of a wheel; none of an archive."""
    if not file.endswith(".whl"):
        return None
    pythons, abis, platforms = file[:-4].split("-")[-3:]
    return [(one, abi, platform) for one in pythons.split(".")
            for abi in abis.split(".") for platform in platforms.split(".")]


def read(name, url, attributes):
    """The file of a project that lies there, if it is one."""
    file = last_part(url)
    if file.endswith(".whl"):
        parts = file[:-4].split("-")
        if len(parts) not in (5, 6):
            return None
        text = parts[1].replace("_", "-")
    else:
        stems = [file[:-len(ending)] for ending in ARCHIVES if file.endswith(ending)]
        cuts = [at for stem in stems for at, sign in enumerate(stem)
                if sign == "-" and normalise(stem[:at]) == name]
        if not cuts:
            return None
        text = stems[0][cuts[-1] + 1:]
    try:
        return Offer(url, Version(text), attributes, tags_of(file))
    except InvalidVersion:
        return None


def may_fit(url, attributes):
    """Whether a file is none that this Python certainly cannot have."""
    file = last_part(url)
    tags = tags_of(file) if file.count("-") >= 4 else None
    return is_for_python(attributes.get("data-requires-python", "")) and is_for_platform(tags)


def offers(indexes, name):
    files = [file for page in indexes.known(name) for file in page.files()]
    return [offer for offer in (read(name, *file) for file in files) if offer]


def choice(indexes, name, version, only_wheels):
    """The file that pip takes of a version, if there is one for this Python."""
    version = Version(version)
    fitting = [one for one in offers(indexes, name) if one.version == version and one.fits()]
    if only_wheels:
        fitting = [one for one in fitting if one.tags is not None]
    # Of files that pip likes as much, it takes the last.
    ranked = [(one.rank(), at, one) for at, one in enumerate(fitting)] if TAGS else []
    return max(ranked)[2] if ranked else None


def parse(line):
    """A requirement, without what only pip understands; none where it is another's."""
    try:
        wanted = Requirement(line.split(" --")[0].split(" #")[0].strip())
    except InvalidRequirement:
        return None
    if wanted.url or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
        return None
    return wanted


def is_pinned(wanted):
    return any(one.operator in ("==", "===") and "*" not in one.version for one in wanted)


def spelled(name, wanted):
    return name + ",".join(sorted(str(one) for one in wanted))


def problem(indexes, name, wanted):
    """Why no file of a project can be taken, if that is so."""
    pages = indexes.known(name)
    if any(page.status not in (200, 404) for page in pages):
        return None
    found = {"requirement": spelled(name, wanted)}
    if not any(page.status == 200 for page in pages):
        return dict(found, fact="absent")
    every = offers(indexes, name)
    newest = max([one.version for one in every if one.fits() and one.yanked is None] or [None],
                 key=lambda version: (version is not None and not version.is_prerelease, version))
    found["newest"] = newest and str(newest)
    named = [one for one in every if wanted.contains(one.version, prereleases=True)]
    fitting = [one for one in named if one.fits()]
    if fitting:
        if is_pinned(wanted) or any(one.yanked is None for one in fitting):
            return None
        last = max(fitting, key=lambda one: one.version)
        return dict(found, fact="all-yanked", version=str(last.version), reason=last.yanked)
    if not named:
        return dict(found, fact="no-version")
    last = max(one.version for one in named)
    named = [one for one in named if one.version == last]
    found.update(version=str(last), own_python=PYTHON, own_platform=TAGS[0][2] if TAGS else "")
    other = sorted(set(one.python for one in named if not one.fits_python()))
    if other:
        return dict(found, fact="other-python", offers=other[:MOST])
    tags = [tag for one in named for tag in one.tags or ()]
    here = set(platform for _, _, platform in TAGS)
    if any(platform in here for _, _, platform in tags):
        pythons = sorted(set("%s-%s" % tag[:2] for tag in tags if tag[2] in here))
        return dict(found, fact="other-python", offers=pythons[-MOST:])
    platforms = sorted(set(platform for _, _, platform in tags))
    return dict(found, fact="other-platform", offers=platforms[:MOST])


def problems(indexes, lines, constraints):
    """What is wrong with these requirements, one fact each."""
    limits, found = {}, []
    for limit in filter(None, map(parse, constraints)):
        name = normalise(limit.name)
        limits[name] = limits.get(name, SpecifierSet()) & limit.specifier
    for wanted in filter(None, map(parse, lines)):
        name = normalise(wanted.name)
        found.append(problem(indexes, name, wanted.specifier & limits.get(name, SpecifierSet())))
    return [fact for fact in found if fact]


def problems_below(indexes, descriptions):
    """The same of what packages require, by their descriptions (METADATA)."""
    found = []
    for text in descriptions:
        package = email.message_from_string(text)
        by = "%s %s" % (package["Name"], package["Version"])
        lines = package.get_all("Requires-Dist") or []
        found += [dict(fact, by=by) for fact in problems(indexes, lines, [])]
    return found


def lacking_extras(lines, descriptions):
    """Extras in requirements that the packages do not have; an older pip passes over them."""
    # A package may have been looked at in several versions.
    known = {}
    for text in descriptions:
        package = email.message_from_string(text)
        own = known.setdefault(normalise(package["Name"] or ""), {})
        own.update((normalise(extra), extra) for extra in package.get_all("Provides-Extra") or [])
    found = []
    for wanted in filter(None, map(parse, lines)):
        own = known.get(normalise(wanted.name))
        for extra in sorted(wanted.extras if own is not None else ()):
            if normalise(extra) not in own:
                has = sorted(own.values())
                found.append({"fact": "no-extra", "name": wanted.name, "extra": extra, "has": has})
    return found


def taken(indexes, files):
    """What there is to know of files that were taken: their project, and what was yanked."""
    found = []
    for name in sorted(set(name for name, _ in indexes.pages)):
        taken = [file for page in indexes.known(name) for file in page.files()
                 if last_part(file[0]) in files]
        for offer in [read(name, *file) for file in taken]:
            if offer:
                found.append({"fact": "of", "file": offer.file, "name": name})
                if offer.yanked is not None:
                    found.append({"fact": "yanked", "name": name, "version": str(offer.version),
                                  "file": offer.file, "reason": offer.yanked})
    return [fact for at, fact in enumerate(found) if fact not in found[:at]]


def shared(indexes, files):
    """Projects that several indexes have, where a file was taken that not all of them have.

    A public index may have a name that was meant to be a private one's.
    """
    found = {}
    for name in sorted(set(name for name, _ in indexes.pages)):
        pages = [page for page in indexes.known(name) if page.status == 200]
        if len(pages) < 2:
            continue
        own = [set((last_part(url), url.partition("#")[2]) for url, _ in page.files()
                   if last_part(url) in files) for page in pages]
        for page, one in zip(pages, own):
            others = [other.host for other, its in zip(pages, own) if one - its]
            if others:
                known, names = found.setdefault(page.host, (set(), []))
                known.update(others)
                names.append(name)
    return [{"fact": "shared-name", "host": host, "others": sorted(others), "names": names}
            for host, (others, names) in sorted(found.items())]


def misplaced(indexes, files):
    """Projects with a file of another index than the one that they may come from."""
    found = []
    for name in sorted(set(name for name, _ in indexes.pages)):
        numbers = [one for one in range(len(indexes.indexes)) if not indexes.serves(one, name)]
        if not numbers:
            continue
        own = set(last_part(url) for page in indexes.known(name) for url, _ in page.files())
        other = set(last_part(url) for one in numbers for url, _ in indexes.ask(one, name).files())
        if files & other - own:
            found.append({"fact": "misplaced", "name": name})
    return found
