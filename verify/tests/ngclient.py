"""Follows an environment with python-tuf's client, which shares no line with ours.

usage: ngclient.py STORE ENV ROOT.json WORK TARGET

Prints, as one line of JSON, the versions it ended with and the sha256 of the
target that it downloaded.
"""

import hashlib
import json
import os
import sys

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface


class Files(FetcherInterface):
    """file:// as a web server would serve it: what is missing is a 404."""

    def _fetch(self, url):
        try:
            with open(url.removeprefix("file://"), "rb") as file:
                return iter([file.read()])
        except FileNotFoundError:
            raise DownloadHTTPError("not found", 404) from None


store, env, root, work, target = sys.argv[1:]
base = f"file://{os.path.abspath(store)}/env/{env}"
os.makedirs(f"{work}/metadata")
os.makedirs(f"{work}/targets")
with open(root, "rb") as file:
    bootstrap = file.read()

updater = Updater(
    metadata_dir=f"{work}/metadata",
    metadata_base_url=f"{base}/metadata/",
    target_dir=f"{work}/targets",
    target_base_url=f"{base}/targets/",
    fetcher=Files(),
    bootstrap=bootstrap,
)
updater.refresh()
info = updater.get_targetinfo(target)
assert info is not None, f"{target} is not listed"
path = updater.download_target(info)

versions = {}
for role in ("root", "timestamp", "snapshot", "targets"):
    with open(f"{work}/metadata/{role}.json", "rb") as file:
        versions[role] = json.load(file)["signed"]["version"]
with open(path, "rb") as file:
    digest = hashlib.sha256(file.read()).hexdigest()
print(json.dumps({"versions": versions, "sha256": digest, "custom": info.custom}, sort_keys=True))
