"""Downloads what building each source needs: build_sets.py SPEC OUT TREE [OPTION...]

SPEC is JSON: for each source its tree or archive, what its pyproject.toml requires
(PEP 518), its backend and where the backend lies (PEP 517). Each source has a set of its
own, as pip gives it an environment of its own: two may need two versions of one package.
OUT gets the wheels. TREE is a directory for unpacked sources.
"""
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

from try_sources import check, write_failure

HOOK = """
import importlib, json, os, sys
backend, answer = sys.argv[1], sys.argv[2]
sys.path[:0] = [os.path.abspath(path) for path in sys.argv[3:]]
module, _, attribute = backend.partition(":")
found = importlib.import_module(module)
for name in attribute.split(".") if attribute else []:
    found = getattr(found, name)
ask = getattr(found, "get_requires_for_build_wheel", None)
with open(answer, "w") as file:
    json.dump([str(one) for one in (ask({}) or [])] if ask else [], file)
"""


def pip(command, words):
    line = [sys.executable, "-m", "pip", "--disable-pip-version-check", command]
    return subprocess.call(line + ["--only-binary=:all:"] + words)


def fail(source, what, lines):
    sys.stderr.write("%s: %s\n" % (os.path.basename(source), what))
    write_failure(source, lines=lines)
    sys.exit(1)


def unpack(source, tree):
    if os.path.isdir(source):
        return source
    shutil.rmtree(tree, ignore_errors=True)
    os.mkdir(tree)
    if source.endswith(".zip"):
        with zipfile.ZipFile(source) as archive:
            archive.extractall(tree)
    else:
        with tarfile.open(source) as archive:
            if hasattr(tarfile, "data_filter"):
                archive.extractall(tree, filter="data")
            else:
                archive.extractall(tree)
    inside = os.listdir(tree)
    return os.path.join(tree, inside[0]) if len(inside) == 1 else tree


def dynamic(one, site, tree):
    """What the backend itself asks for (PEP 517, get_requires_for_build_wheel)."""
    hook, answer = tree + ".hook.py", tree + ".json"
    with open(hook, "w") as file:
        file.write(HOOK)
    environment = dict(os.environ)
    paths = [site, environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    environment["PATH"] = os.path.join(site, "bin") + os.pathsep + environment["PATH"]
    line = [sys.executable, hook, one["backend"], answer] + one["backend-path"]
    output = check(one["source"], line, environment, cwd=unpack(one["source"], tree))
    if output is None:
        sys.exit(1)
    sys.stdout.write(output)
    with open(answer) as file:
        return json.load(file)


def main():
    spec, out, tree, options = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    with open(spec) as file:
        sources = json.load(file)
    sites, downloaded = {}, set()
    for one in sources:
        static = tuple(one["requires"])
        if static not in sites:
            site = sites[static] = "%s.site%d" % (tree, len(sites))
            os.mkdir(site)
            words = ["--no-compile", "--target", site] + options + list(static)
            if static and pip("install", words):
                fail(one["source"], "what building it needs cannot be installed", static)
        wanted = static + tuple(dynamic(one, sites[static], tree))
        if wanted and wanted not in downloaded:
            downloaded.add(wanted)
            if pip("download", ["-d", out] + options + list(wanted)):
                fail(one["source"], "what building it needs cannot be had as wheels", wanted)


main()
