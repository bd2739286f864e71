"""Downloads what building each source needs: build_sets.py SPEC OUT TREE UV [OPTION...]

SPEC is JSON: for each source its tree or archive, what its pyproject.toml requires
(PEP 518), its backend and where the backend lies (PEP 517). Each source has a set of its
own, as pip gives it an environment of its own: two may need two versions of one package.
OUT gets the wheels, HOME/decided.json the names of each source's. TREE is a directory for unpacked sources. UV is the specification for
ask_uv.py: uv decides where it can, else pip with the options.
"""
import configparser
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
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


def get(words, options, out):
    """Downloads a set of its own, and lays it with the others; the paths of its files."""
    own = tempfile.mkdtemp(dir=os.environ["HOME"])
    if pip("download", ["-d", own] + options + list(words)):
        return None
    for name in os.listdir(own):
        if not os.path.exists(os.path.join(out, name)):
            shutil.copyfile(os.path.join(own, name), os.path.join(out, name))
    return [os.path.join(own, name) for name in os.listdir(own)]


def lay(wheel, site):
    """Unpacks a wheel to be imported and its programs to be called, which is what a hook needs."""
    programs = os.path.join(site, "bin")
    if not os.path.isdir(programs):
        os.mkdir(programs)
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            top, _, rest = info.filename.partition("/")
            kind, _, inner = rest.partition("/")
            if info.filename.endswith("/") or ".." in info.filename.split("/"):
                continue
            if not top.endswith(".data"):
                path = os.path.join(site, info.filename)
            elif kind in ("purelib", "platlib"):
                path = os.path.join(site, inner)
            elif kind == "scripts":
                path = os.path.join(programs, os.path.basename(inner))
            else:
                continue
            if not os.path.isdir(os.path.dirname(path)):
                os.makedirs(os.path.dirname(path))
            text = archive.read(info)
            if path.startswith(programs + os.sep) and text.startswith(b"#!python"):
                text = b"#!" + sys.executable.encode() + b"\n" + text.partition(b"\n")[2]
            with open(path, "wb") as file:
                file.write(text)
            if kind == "scripts" or info.external_attr >> 16 & 0o111:
                os.chmod(path, 0o755)
            if rest == "entry_points.txt" and top.endswith(".dist-info"):
                for name, line in calls(text.decode("utf-8")):
                    path = os.path.join(programs, os.path.basename(name))
                    with open(path, "w") as file:
                        file.write("#!%s\n%s\n" % (sys.executable, line))
                    os.chmod(path, 0o755)


def calls(text):
    """Names of programs and what they run, of an entry_points.txt."""
    found = configparser.RawConfigParser(delimiters=("=",))
    found.optionxform = str
    found.read_string(text)
    for name, value in found.items("console_scripts") if "console_scripts" in found else []:
        module, _, attribute = value.partition("[")[0].strip().partition(":")
        yield name, "import sys, %s as it\nsys.exit(it.%s())" % (module, attribute)


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


def ask(sources, tree, fetch):
    """The wheels that each of these is built with. `fetch` gets those of requirements."""
    sites, sets, answer = {}, {}, {}
    for one in sources:
        static = tuple(one["requires"])
        if static not in sites:
            site = sites[static] = "%s.site%d" % (tree, len(sites))
            os.mkdir(site)
            sets[static] = fetch(one["source"], static) if static else []
            for wheel in sets[static]:
                lay(wheel, site)
        wanted = static + tuple(dynamic(one, sites[static], tree))
        if wanted not in sets:
            sets[wanted] = fetch(one["source"], wanted)
        wheels = set(os.path.basename(wheel) for wheel in sets[static] + sets[wanted])
        answer[one["source"]] = sorted(wheels)
    return answer


def main():
    spec, out, tree, uv, options = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:]
    with open(spec) as file:
        sources = json.load(file)
    fast = None
    if os.path.exists(uv):
        import ask_uv
        with open(uv) as file:
            words = json.load(file)
        fast = ask_uv.Uv(words, out)

    def fetch(source, wanted):
        if fast:
            try:
                names = fast.for_building(wanted, words["kept_builds"])
                return [os.path.join(out, name) for name in names]
            except (ask_uv.Undecided, EnvironmentError, ask_uv.HTTPException):
                pass  # pip says why, if it cannot either.
        wheels = get(wanted, options, out)
        if wheels is None:
            fail(source, "what building it needs cannot be had as wheels", wanted)
        return wheels

    sets = ask(sources, tree, fetch)
    with open(os.path.join(os.environ["HOME"], "decided.json"), "w") as file:
        json.dump({"installed": [], "sets": sets}, file)


if __name__ == "__main__":
    main()
