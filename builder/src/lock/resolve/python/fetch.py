"""Gets files whose digests are known: fetch.py RETAINED OUT FACTS FILES...

FILES are JSON, with a list `files` of objects: project `name`, `file`, its `sha256`, perhaps
the `url` that another tool's lock names, and the `marker` under which it is wanted. The machine's indexes are asked first: they
may be mirrors. Where one of FILES has `missing`, those are the files, and the rest says
where else they may be.
"""
import json
import os
import shutil
import sys

from pip._vendor.packaging.markers import Marker

import offers
from indexes import Indexes, copy, last_part, write_facts


def is_right(path, sha256):
    if not os.path.exists(path):
        return False
    with open(path, "rb") as file, open(os.devnull, "wb") as nothing:
        return copy(file, nothing, sha256)


def get(indexes, url, path, sha256):
    answer, _ = indexes.file(url)
    if answer is None:
        return False
    try:
        with open(path, "wb") as out:
            right = copy(answer.raw, out, sha256)
    except Exception:  # urllib3 has many; each is a file that did not arrive.
        right = False
    if not right:
        os.unlink(path)
    return right


def is_wanted(one):
    return not one.get("marker") or Marker(one["marker"]).evaluate({"extra": ""})


def places(indexes, one):
    """Where the file may be, the best place first."""
    for page in indexes.known(one["name"]):
        urls = [url for url, _ in page.files()]
        named = [url for url in urls if one["sha256"] in url.partition("#")[2]]
        alike = [url for url in urls if url not in named and last_part(url) == one["file"]]
        for url in named + alike:
            yield url.partition("#")[0]
    if one.get("url"):
        yield one["url"]


def main():
    retained, out, facts = sys.argv[1:4]
    files, missing = [], None
    for path in sys.argv[4:]:
        with open(path) as file:
            read = json.load(file)
        files += [one for one in read.get("files", []) if "path" not in one]
        missing = read.get("missing", missing)
    if missing is not None:
        urls = dict((one["sha256"], one.get("url")) for one in files)
        files = [dict(one, url=one.get("url") or urls.get(one["sha256"])) for one in missing]
    indexes = Indexes()
    for one in filter(is_wanted, files):
        path, kept = os.path.join(out, one["file"]), os.path.join(retained, one["file"])
        if is_right(kept, one["sha256"]):
            shutil.copyfile(kept, path)
            continue
        if not any(get(indexes, url, path, one["sha256"]) for url in places(indexes, one)):
            write_facts(facts, indexes.troubles() + [{"fact": "lost", "file": one["file"]}])
            sys.exit(1)
        print("fetched " + one["file"])
        sys.stdout.flush()
    write_facts(facts, offers.taken(indexes, set(one["file"] for one in files)))


main()
