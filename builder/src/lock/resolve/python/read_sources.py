"""Writes the pyproject.toml of each source archive beside it: read_sources.py ARCHIVES OUT"""
import os, sys, tarfile, zipfile
out, meta = sys.argv[1], sys.argv[2]
for name in sorted(os.listdir(out)):
    path, text = os.path.join(out, name), None
    if name.endswith(".whl"):
        continue
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as z:
            for member in z.namelist():
                if member.count("/") == 1 and member.endswith("/pyproject.toml"):
                    text = z.read(member)
    else:
        with tarfile.open(path) as t:
            for member in t.getmembers():
                if member.isfile() and member.name.count("/") == 1 and member.name.endswith("/pyproject.toml"):
                    text = t.extractfile(member).read()
    with open(os.path.join(meta, name + ".toml"), "wb") as f:
        f.write(text or b"")
