"""Cases of the TUF specification against a client on a command line.

usage: cases.py CLIENT [PATTERN]

CLIENT has the interface of the public conformance suite (see main.rs). Each case
makes a repository with python-tuf, serves it from this process, changes it, and
looks at three things: the client's exit code, the metadata that it trusts
afterwards, and what it asked for. Prints one line a case and ends with 1 if one
fails. faketime(1) shifts the clock.
"""

import copy
import datetime
import hashlib
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from urllib.parse import quote, unquote

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

TOP = ("root", "timestamp", "snapshot", "targets")
NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def days(n):
    return NOW + datetime.timedelta(days=n)


def unpublished(expires=None):
    """Targets of which publishing makes version 1."""
    targets = Targets(expires=expires or days(30))
    targets.version = 0
    return targets


class Repository:
    """A repository in memory: what was published, under the names of its files."""

    def __init__(self, consistent=True):
        self.signed = {
            "root": Root(expires=days(30), consistent_snapshot=consistent),
            "timestamp": Timestamp(expires=days(30)),
            "snapshot": Snapshot(expires=days(30)),
            "targets": Targets(expires=days(30)),
        }
        self.signers = {role: [] for role in TOP}
        self.hashes = False
        self.files = {}
        self.content = {}
        self.asked = []
        self.fetched = []
        for role in TOP:
            self.key(role)
        self.publish("targets", "snapshot", "timestamp", "root", bump=False)

    def key(self, role, signer=None):
        signer = signer or CryptoSigner.generate_ed25519()
        self.signed["root"].add_key(signer.public_key, role)
        self.signers[role].append(signer)
        return signer

    def rotate(self, role):
        self.signed["root"].roles[role].keyids.clear()
        self.signers[role] = []
        self.key(role)

    def sign(self, role):
        document = Metadata(copy.deepcopy(self.signed[role]))
        for signer in self.signers[role]:
            document.sign(signer, append=True)
        return document.to_bytes()

    def put(self, role, data):
        version = self.signed[role].version
        consistent = self.signed["root"].consistent_snapshot
        name = quote(role, "")
        if role == "root" or (consistent and role != "timestamp"):
            name = f"{version}.{name}"
        self.files[f"{name}.json"] = data

    def publish(self, *roles, bump=True):
        for role in roles:
            signed = self.signed[role]
            signed.version += bump
            data = self.sign(role)
            self.put(role, data)
            digests = {"sha256": hashlib.sha256(data).hexdigest()} if self.hashes else None
            pin = MetaFile(signed.version, len(data) if self.hashes else None, digests)
            if role == "snapshot":
                self.signed["timestamp"].snapshot_meta = pin
            elif role not in TOP or role == "targets":
                self.signed["snapshot"].meta[f"{role}.json"] = pin

    def all(self):
        self.publish("targets", "snapshot", "timestamp")

    def target(self, path, data, role="targets", algorithms=("sha256",)):
        file = TargetFile.from_data(path, data, list(algorithms))
        self.signed[role].targets[path] = file
        self.content[path] = data

    def delegate(self, by, role, paths=("*",), terminating=False, expires=None):
        if self.signed[by].delegations is None:
            self.signed[by].delegations = Delegations({}, roles={})
        self.signed[by].delegations.roles[role] = DelegatedRole(
            role, [], 1, terminating, list(paths)
        )
        signer = CryptoSigner.generate_ed25519()
        self.signed[by].add_key(signer.public_key, role)
        self.signers.setdefault(role, []).append(signer)
        self.signed.setdefault(role, unpublished(expires))

    def get(self, path):
        kind, _, name = path.lstrip("/").partition("/")
        if kind == "metadata":
            self.asked.append(name)
            return self.files.get(name)
        path = unquote(name)
        self.fetched.append(path)
        if self.signed["root"].consistent_snapshot:
            folder, slash, file = path.rpartition("/")
            digest, _, file = file.partition(".")
            path = f"{folder}{slash}{file}"
            known = [t.targets[path] for t in self.signed.values()
                     if isinstance(t, Targets) and path in t.targets]
            if not any(digest in target.hashes.values() for target in known):
                return None
        return self.content.get(path)


class Client:
    def __init__(self, program, repository):
        self.program, self.repository = program, repository
        self.home = tempfile.TemporaryDirectory()
        self.metadata = os.path.join(self.home.name, "metadata")
        self.targets = os.path.join(self.home.name, "targets")
        os.mkdir(self.metadata)
        os.mkdir(self.targets)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                data = repository.get(self.path)
                self.send_response(404 if data is None else 200)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.trust(repository.files["1.root.json"])

    def trust(self, root):
        path = os.path.join(self.home.name, "initial.json")
        with open(path, "wb") as file:
            file.write(root)
        for name in os.listdir(self.metadata):
            os.unlink(os.path.join(self.metadata, name))
        return self.run(["init", path])

    def run(self, arguments, at=None):
        command = [self.program, "--metadata-dir", self.metadata, *arguments]
        if at:
            command = ["faketime", "-f", at.strftime("@%Y-%m-%d %H:%M:%S"), *command]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "TZ": "UTC"}
        )
        self.said = done.stderr
        assert done.returncode in (0, 1), f"exit code {done.returncode}: {done.stderr}"
        return done.returncode == 0

    def refresh(self, at=None):
        self.repository.asked.clear()
        return self.run(["--metadata-url", f"{self.url}/metadata/", "refresh"], at)

    def download(self, *names, at=None):
        self.repository.asked.clear()
        self.repository.fetched.clear()
        wanted = [word for name in names for word in ("--target-name", name)]
        return self.run(
            ["--metadata-url", f"{self.url}/metadata/", *wanted,
             "--target-base-url", f"{self.url}/targets/",
             "--target-dir", self.targets, "download"], at)

    def version(self, role):
        try:
            with open(os.path.join(self.metadata, f"{role}.json"), "rb") as file:
                return json.load(file)["signed"]["version"]
        except FileNotFoundError:
            return None

    def versions(self):
        return [self.version(role) for role in TOP]

    def kept(self):
        found = []
        for folder, _, names in os.walk(self.targets):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    found.append(file.read())
        return sorted(found)


CASES = []


def case(function):
    CASES.append((function.__name__, function))
    return function


@case
def first_refresh(r, c):
    assert c.refresh() and c.versions() == [1, 1, 1, 1]
    assert r.asked == ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
    assert c.refresh() and r.asked == ["2.root.json", "timestamp.json"]


@case
def without_consistent_snapshots(_, make):
    r = Repository(consistent=False)
    c = make(r)
    r.target("a/b.txt", b"content")
    r.all()
    assert c.download("a/b.txt") and c.kept() == [b"content"] and r.fetched == ["a/b.txt"]
    assert r.asked == ["2.root.json", "timestamp.json", "snapshot.json", "targets.json"]


@case
def bad_first_roots(r, c):
    good = json.loads(r.files["1.root.json"])
    for bend in (
        lambda root: root["signed"].pop("version"),
        lambda root: root["signatures"][0].update(sig="ab" * 64),
        lambda root: root["signed"].update(_type="targets"),
    ):
        root = copy.deepcopy(good)
        bend(root)
        c.trust(json.dumps(root).encode())
        assert not c.refresh() and r.asked == []


@case
def unknown_fields_are_signed_too(r, c):
    r.signed["root"].unrecognized_fields["x"] = {"y": [1, "é"]}
    keyid = r.signed["root"].roles["root"].keyids[0]
    r.signed["root"].keys[keyid].unrecognized_fields["z"] = "w"
    r.publish("root")
    assert c.refresh() and c.version("root") == 2


@case
def root_rotations(r, c):
    ids = [CryptoSigner.generate_ed25519() for _ in range(8)]

    def version(keys, threshold, signers):
        role = r.signed["root"].roles["root"]
        role.keyids, role.threshold = [], threshold
        for key in keys:
            r.signed["root"].add_key(ids[key].public_key, "root")
        r.signers["root"] = [ids[key] for key in signers]
        r.publish("root")

    first = r.signers["root"][0]
    role = r.signed["root"].roles["root"]
    role.keyids, role.threshold = [], 2
    for key in (0, 1, 2):
        r.signed["root"].add_key(ids[key].public_key, "root")
    r.signers["root"] = [first, ids[0], ids[2]]
    r.publish("root")
    assert c.refresh() and c.version("root") == 2
    version((1, 2, 3), 2, (1, 2))  # both thresholds by the same two
    assert c.refresh() and c.version("root") == 3
    version((4, 5), 2, (1, 3, 4, 5))
    assert c.refresh() and c.version("root") == 4
    version((6, 7), 1, (4, 6))  # one of two old keys
    assert not c.refresh() and c.version("root") == 4
    r.signed["root"].version = 4
    version((6, 7), 1, (4, 5))  # no new key
    assert not c.refresh() and c.version("root") == 4
    r.signed["root"].version = 4
    version((6, 7), 1, (4, 5, 7))
    assert c.refresh() and c.version("root") == 5


@case
def root_versions_follow(r, c):
    assert c.refresh()
    r.signed["root"].version = 2
    r.files["2.root.json"] = None
    r.publish("root")  # 3
    r.files["2.root.json"] = r.files["3.root.json"]
    assert not c.refresh() and c.version("root") == 1


@case
def thresholds_of_other_roles(r, c):
    for role in ("timestamp", "snapshot", "targets"):
        r.signed["root"].roles[role].threshold = 2
        r.key(role)
    r.publish("root")
    r.all()
    assert c.refresh() and c.versions() == [2, 2, 2, 2]
    for at, role in enumerate(("timestamp", "snapshot", "targets")):
        left_out = r.signers[role].pop()
        r.all()
        assert not c.refresh() and c.version(role) == 2 + at, role
        r.signers[role].append(left_out)
        r.all()
        assert c.refresh(), c.said
        assert c.version(role) == r.signed[role].version
        # Bring all three to the same number again.
        for name in ("timestamp", "snapshot", "targets"):
            assert c.version(name) == r.signed[name].version
        break


@case
def one_key_under_many_ids(r, c):
    signer = CryptoSigner.generate_ecdsa()
    for number in range(6):
        key = copy.deepcopy(signer.public_key)
        key.keyid = f"{number:064x}"
        r.signed["root"].keys[key.keyid] = key
        r.signed["root"].roles["snapshot"].keyids.append(key.keyid)
    r.signed["root"].roles["snapshot"].threshold = 3
    r.publish("root", "snapshot", "timestamp")
    document = json.loads(r.files["2.snapshot.json"])
    sig = Metadata(r.signed["snapshot"]).sign(signer).signature
    document["signatures"] += [{"keyid": f"{n:064x}", "sig": sig} for n in range(6)]
    r.files["2.snapshot.json"] = json.dumps(document).encode()
    assert not c.refresh() and c.version("snapshot") is None


@case
def one_signature_many_times(r, c):
    document = json.loads(r.files["1.snapshot.json"])
    document["signatures"] *= 2
    r.files["1.snapshot.json"] = json.dumps(document).encode()
    assert not c.refresh() and c.version("snapshot") is None


@case
def kinds_of_keys(r, c):
    kinds = (
        CryptoSigner.generate_ed25519,
        CryptoSigner.generate_ecdsa,
        lambda: CryptoSigner.generate_rsa(scheme="rsassa-pss-sha256"),
    )
    for number, generate in enumerate(kinds):
        signer = r.key("root", generate())
        r.signed["root"].roles["root"].threshold += 1
        r.publish("root")
        assert c.refresh() and c.version("root") == number + 2, f"{number}: {c.said}"
        r.publish("root")
        version = r.signed["root"].version
        document = json.loads(r.files[f"{version}.root.json"])
        for signature in document["signatures"]:
            if signature["keyid"] == signer.public_key.keyid:
                sig = bytearray.fromhex(signature["sig"])
                sig[-1] ^= 1
                signature["sig"] = sig.hex()
        r.files[f"{version}.root.json"] = json.dumps(document).encode()
        assert not c.refresh() and c.version("root") == version - 1
        del r.files[f"{version}.root.json"]
        r.signed["root"].version -= 1


@case
def a_wrong_signature_beside_a_good_one(r, c):
    other = r.signers["timestamp"][0]
    r.key("timestamp")
    r.publish("root")
    for sig in ("ab" * 64, ""):
        r.publish("timestamp")
        document = json.loads(r.files["timestamp.json"])
        for signature in document["signatures"]:
            if signature["keyid"] == other.public_key.keyid:
                signature["sig"] = sig
        r.files["timestamp.json"] = json.dumps(document).encode()
        assert c.refresh(), c.said
        assert c.version("timestamp") == r.signed["timestamp"].version


@case
def rollbacks(r, c):
    for hashes in (False, True):
        r.hashes = hashes
        r.all()
        assert c.refresh()
        top = c.versions()
        for role in ("timestamp", "snapshot", "targets"):
            was = {name: r.signed[name].version for name in TOP}
            r.signed[role].version -= 2
            {"timestamp": lambda: r.publish("timestamp"),
             "snapshot": lambda: r.publish("snapshot", "timestamp"),
             "targets": r.all}[role]()
            assert not c.refresh(), role
            assert c.versions()[2:] == top[2:]
            for name in TOP:
                r.signed[name].version = max(was[name], r.signed[name].version)
            r.all()
            assert c.refresh(), (role, c.said)
            top = c.versions()


@case
def roles_cannot_vanish(r, c):
    r.delegate("targets", "A")
    r.publish("A", "targets", "snapshot", "timestamp")
    assert c.refresh()
    del r.signed["snapshot"].meta["A.json"]
    r.publish("snapshot", "timestamp")
    assert not c.refresh() and c.version("snapshot") == 2


@case
def the_same_version_of_timestamp_is_kept(r, c):
    assert c.refresh()
    r.signed["timestamp"].snapshot_meta.version = 100
    r.publish("timestamp", bump=False)
    assert c.refresh()
    with open(os.path.join(c.metadata, "timestamp.json"), "rb") as file:
        assert json.load(file)["signed"]["meta"]["snapshot.json"]["version"] == 1


@case
def fast_forward_and_recovery(r, c):
    for role in ("timestamp", "snapshot", "targets"):
        r.signed[role].version = 99
        r.all()
        assert c.refresh() and c.version(role) == r.signed[role].version
        for rotated in ("snapshot", "timestamp"):
            r.rotate(rotated)
        r.signed[role].version = 0
        r.publish("root")
        r.all()
        assert c.refresh(), (role, c.said)
        assert c.version(role) == 1


@case
def what_was_not_vouched_for(r, c):
    r.hashes = True
    r.all()
    assert c.refresh()
    r.all()
    r.put("targets", r.sign("targets") + b" ")
    assert not c.refresh() and c.version("targets") == 2 and c.version("snapshot") == 3
    r.hashes = False
    r.all()
    r.signed["snapshot"].version += 1
    r.files["4.snapshot.json"] = r.sign("snapshot")
    r.signed["snapshot"].version -= 1
    assert not c.refresh() and c.version("snapshot") == 3


@case
def what_has_run_out(r, c):
    assert c.refresh()
    for role, ask in (("timestamp", 1), ("snapshot", 1), ("targets", 1)):
        good, r.signed[role].expires = r.signed[role].expires, days(-1)
        r.all()
        before = c.version(role)
        assert not c.refresh() and c.version(role) == before, role
        r.signed[role].expires = good
        r.all()
        assert c.refresh(), (role, c.said)
    r.signed["root"].expires = days(-1)
    r.publish("root")
    r.all()
    before = c.versions()
    assert not c.refresh()
    assert c.versions() == [2, *before[1:]]


@case
def the_clock_is_the_library_s(r, c):
    assert c.refresh()
    r.signed["timestamp"].expires = days(7)
    r.all()
    assert c.refresh()
    assert not c.refresh(at=days(18))
    r.signed["timestamp"].expires = days(21)
    r.all()
    assert c.refresh(at=days(18)), c.said
    assert c.version("timestamp") == 3


@case
def wrong_kinds_of_files(r, c):
    assert c.refresh()
    for role, other in (("timestamp", "snapshot"), ("snapshot", "targets"), ("targets", "snapshot")):
        r.all()
        document = json.loads(r.sign(role))
        document["signed"]["_type"] = other
        r.put(role, json.dumps(document).encode())
        before = c.version(role)
        assert not c.refresh() and c.version(role) == before
        r.put(role, b"{")
        assert not c.refresh() and c.version(role) == before
        r.all()
        assert c.refresh(), c.said


@case
def downloads(r, c):
    r.target("file.txt", b"one")
    r.target("deep/in/a/folder.txt", b"two")
    r.all()
    assert c.refresh() and c.kept() == []
    assert c.download("file.txt", "deep/in/a/folder.txt") and c.kept() == [b"one", b"two"]
    assert c.download("file.txt") and r.fetched == []
    assert not c.download("none") and c.kept() == [b"one", b"two"]
    r.content["file.txt"] = b"bad"
    assert c.download("file.txt") and c.kept() == [b"one", b"two"]
    r.target("file.txt", b"three")
    r.all()
    assert c.download("file.txt") and c.kept() == [b"three", b"two"]
    r.target("new.txt", b"four")
    r.all()
    r.content["new.txt"] = b"f0ur"
    assert not c.download("new.txt") and c.kept() == [b"three", b"two"]
    r.content["new.txt"] = b"four and more"
    assert not c.download("new.txt") and c.kept() == [b"three", b"two"]
    r.target("last.txt", b"five")
    r.all()
    assert not c.download("new.txt", "last.txt") and c.kept() == [b"three", b"two"]


@case
def kinds_of_hashes(r, c):
    for kinds in (["sha256"], ["sha512"], ["sha256", "sha512"]):
        name = "-".join(kinds)
        r.target(name, name.encode(), algorithms=kinds)
        r.all()
        assert c.download(name) and len(r.fetched) == 1, c.said
    r.target("odd", b"odd", algorithms=["sha512"])
    hashes = r.signed["targets"].targets["odd"].hashes
    hashes["other"] = hashes.pop("sha512")
    r.all()
    assert not c.download("odd") and b"odd" not in c.kept()


@case
def graphs_of_delegations(_, make):
    graphs = (
        ([("targets", "A"), ("targets", "B"), ("A", "C"), ("A", "D")], "ACDB"),
        ([("targets", "A"), ("targets", "B"), ("B", "C")], "ABC"),
        ([("targets", "A"), ("targets", "B"), ("A", "C", ("*",), True), ("A", "D")], "AC"),
        ([("targets", "A", ("*.py",)), ("targets", "B"), ("A", "C")], "B"),
        ([("targets", "A"), ("B", "C"), ("targets", "B"), ("C", "D"), ("D", "B")], "ABCD"),
        ([("targets", "A"), ("targets", "B"), ("B", "C"), ("A", "C", ("*.py",))], "ABC"),
        ([("targets", "A", ("*",), True), ("targets", "B")], "A"),
    )
    for graph, order in graphs:
        r = Repository()
        c = make(r)
        for role in sorted({edge[1] for edge in graph}):
            r.signed[role] = unpublished()
        for edge in graph:
            r.delegate(*edge)
        roles = sorted({edge[1] for edge in graph})
        r.publish(*roles, "targets", "snapshot", "timestamp")
        assert not c.download("missing")
        assert r.asked[4:] == [f"1.{role}.json" for role in order], (graph, r.asked)


@case
def targets_of_delegations(r, c):
    r.delegate("targets", "A", ("*.doc", "*.md"))
    r.delegate("targets", "B", ("releases/*/*",))
    for role, paths in (("C", ("releases/x/*",)), ("D", ("releases/y/*.zip",))):
        r.delegate("B", role, paths)
    r.target("README.md", b"a", "A")
    r.target("releases/x/v1", b"c", "C")
    r.target("releases/y/v1.zip", b"d", "D")
    r.target("releases/z/v1.zip", b"z", "D")
    r.publish("A", "B", "C", "D", "targets", "snapshot", "timestamp")
    assert c.download("README.md", "releases/x/v1", "releases/y/v1.zip"), c.said
    assert r.asked[4:] == ["1.A.json", "1.B.json", "1.C.json", "1.D.json"]
    assert c.kept() == [b"a", b"c", b"d"]
    assert not c.download("releases/z/v1.zip") and r.asked[2:] == []


@case
def hash_bins(r, c):
    r.signed["targets"].delegations = Delegations({}, roles={})
    signer = CryptoSigner.generate_ed25519()
    for number in range(16):
        name = f"bin-{number:x}"
        role = DelegatedRole(name, [], 1, False, None, [f"{number:x}"])
        r.signed["targets"].delegations.roles[name] = role
        r.signed["targets"].add_key(signer.public_key, name)
        r.signed[name] = unpublished()
        r.signers[name] = [signer]
    digit = hashlib.sha256(b"some/target").hexdigest()[0]
    r.target("some/target", b"binned", f"bin-{digit}")
    r.publish(*(f"bin-{n:x}" for n in range(16)), "targets", "snapshot", "timestamp")
    assert c.download("some/target") and r.asked[4:] == [f"1.bin-{digit}.json"], c.said


@case
def odd_names_of_roles(_, make):
    for name in ("?", "#", "/delegated", "../delegated", "ü"):
        r = Repository()
        c = make(r)
        r.delegate("targets", name)
        r.publish(name, "targets", "snapshot", "timestamp")
        assert not c.download("nothing")
        assert f"1.{quote(name, '')}.json" in r.asked, (name, r.asked)
        assert len([n for n in os.listdir(c.metadata) if n.endswith(".json")]) == 5
        assert not os.path.exists(os.path.join(c.home.name, "delegated.json"))


@case
def delegated_roles_run_out(r, c):
    r.delegate("targets", "A", expires=days(7))
    r.target("one", b"1", "A")
    r.target("two", b"2", "A")
    r.publish("A", "targets", "snapshot", "timestamp")
    assert c.download("one"), c.said
    assert not c.download("two", at=days(18)) and c.kept() == [b"1"]
    r.signed["A"].expires = days(21)
    r.publish("A", "snapshot", "timestamp")
    assert c.download("two", at=days(18)), c.said
    r.delegate("targets", "B", expires=days(-1))
    r.target("three", b"3", "B")
    del r.signed["targets"].delegations.roles["A"]
    r.publish("B", "targets", "snapshot", "timestamp")
    assert not c.download("three") and c.version("B") is None


@case
def delegated_roles_need_their_keys(r, c):
    r.delegate("targets", "A")
    r.signers["A"] = [CryptoSigner.generate_ed25519()]
    r.target("one", b"1", "A")
    r.publish("A", "targets", "snapshot", "timestamp")
    assert not c.download("one") and c.version("A") is None and c.kept() == []


def main():
    program = os.path.abspath(sys.argv[1])
    pattern = sys.argv[2] if len(sys.argv) > 2 else ""
    failed = 0
    for name, function in CASES:
        if pattern not in name:
            continue
        make = lambda repository: Client(program, repository)
        try:
            if function.__code__.co_varnames[:1] == ("_",):
                function(None, make)
            else:
                repository = Repository()
                function(repository, make(repository))
            print(f"ok      {name}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
    print(f"{len(CASES)} cases, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
