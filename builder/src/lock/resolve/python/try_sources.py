"""Builds sources one by one: try_sources.py install|metadata SOURCE...

A source is a tree, an archive or the address of one. The first that cannot be built, or
describe itself, is written down with what it lacks; the exit code says whether there is one.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig

# Programs that builds call and no index has. The second list has those that some backends
# take from an index when the tree has none: they are asked for later. pip itself calls rustc.
PROGRAMS = [
    "cc gcc c99 x86_64-linux-gnu-gcc aarch64-linux-gnu-gcc g++ c++ x86_64-linux-gnu-g++ "
    "aarch64-linux-gnu-g++ clang clang++ gfortran f77 f95 make cargo go swig nasm yasm "
    "pkg-config pg_config mysql_config mariadb_config xml2-config xslt-config curl-config "
    "krb5-config llvm-config gdal-config geos-config protoc flex bison autoconf automake m4 "
    "node npm",
    "cmake ninja meson patchelf",
]
STAND_IN = '#!/bin/sh\necho "${0##*/}" >> "$IMGBUILD_LACKING"\nexit 127\n'
# How C compilers name a header that is not there: FILE:LINE:COLUMN: fatal error: HEADER: ...
HEADER = re.compile(r"^[^:\s]+:\d+:\d+: fatal error: ([\w./+-]+): ", re.M)
# How much of a build's output is told.
TAIL = 20


def which(name, path):
    places = [os.path.join(place, name) for place in path.split(os.pathsep)]
    return any(os.access(place, os.X_OK) for place in places)


def run(line, environment, **words):
    """Exit code and output."""
    process = subprocess.Popen(
        line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **words)
    output = process.communicate()[0].decode("utf-8", "replace")
    return process.returncode, output


def lacking(line, environment, **words):
    """The programs that a failing command calls and the tree does not have."""
    place = os.path.join(os.environ["HOME"], "stand-ins")
    log = place + ".log"
    for names in PROGRAMS:
        shutil.rmtree(place, ignore_errors=True)
        os.mkdir(place)
        for name in names.split():
            if not which(name, environment["PATH"]):
                path = os.path.join(place, name)
                with open(path, "w") as file:
                    file.write(STAND_IN)
                os.chmod(path, 0o755)
        open(log, "w").close()
        path = environment["PATH"] + os.pathsep + place
        run(line, dict(environment, PATH=path, IMGBUILD_LACKING=log), **words)
        with open(log) as file:
            called = file.read().split()
        if called:
            return sorted(set(called), key=called.index)
    return []


def tail(output):
    lines = [line for line in output.splitlines() if line.strip()]
    # pip names the gateway where it looks, which is nobody's address.
    return [line for line in lines if not line.strip().startswith("Looking in ")][-TAIL:]


def write_failure(source, **more):
    """What inside.py reads."""
    more["source"] = source
    more["python"] = sysconfig.get_python_version()
    with open(os.path.join(os.environ["HOME"], "failed"), "w") as file:
        json.dump(more, file)


def check(source, line, environment, **words):
    """Runs a command of a build; its output when it went well, else what it lacks is written."""
    code, output = run(line, environment, **words)
    if code == 0:
        return output
    headers = HEADER.findall(output)
    write_failure(
        source, code=code, tail=tail(output), headers=sorted(set(headers), key=headers.index),
        programs=lacking(line, environment, **words))
    return None


def main():
    form, sources = sys.argv[1], sys.argv[2:]
    place = os.path.join(os.environ["HOME"], "tried")
    pip = [sys.executable, "-m", "pip"]
    words = {
        "install": ["install", "--no-index", "--find-links", "/run/imgbuild/pip/retained",
                    "--no-compile", "--target", place],
        "metadata": ["download", "-d", place],
    }[form]
    for source in sources:
        shutil.rmtree(place, ignore_errors=True)
        os.mkdir(place)
        print("building " + (source if os.path.isdir(source) else os.path.basename(source.split("#")[0])))
        sys.stdout.flush()
        if check(source, pip + words + ["--no-deps", source], dict(os.environ)) is None:
            sys.exit(1)


if __name__ == "__main__":
    main()
