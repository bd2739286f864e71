"""Runs a stranger's command: inside.py SPEC

SPEC is JSON: the `command`, the directories that it may `write`, the trees of `sources` that it
may build, perhaps a command for `before` it, which needs no gateway and after whose success the command is
not run, and, with an index, the `socket` of the gateway, the file that says that it is `gone`, and
whether to ask `why` it failed.
The command and all below it is an unprivileged process; there is no network but a port on
loopback, which leads to the gateway. The file `failed` gets which source does not build, as the
command or try_sources.py say, `described` and `metadata` what ask_pip.py wrote, and `decided` what
ask_uv.py did. What `before` left in `out` is removed where it failed.
"""
import json
import os
import socket
import subprocess
import sys
import threading
import time

try:
    from http.client import HTTPConnection
    from urllib.parse import quote
except ImportError:
    from httplib import HTTPConnection
    from urllib import quote

NOBODY = 65534
HOME = "/tmp/imgbuild-home"
# What a stranger writes is cut there.
LONGEST = 1 << 20


def step_down():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    os.umask(0o022)


def give(place):
    for top, dirs, files in os.walk(place):
        for name in [""] + dirs + files:
            os.lchown(os.path.join(top, name) if name else top, NOBODY, NOBODY)


def pump(source, sink):
    try:
        block = source.recv(1 << 16)
        while block:
            sink.sendall(block)
            block = source.recv(1 << 16)
        sink.shutdown(socket.SHUT_WR)
    except EnvironmentError:
        pass  # The other end went away; it knows.


def spawn(work, *words):
    thread = threading.Thread(target=work, args=words)
    thread.daemon = True
    thread.start()


def relay(listener, place):
    while True:
        inner, _ = listener.accept()
        outer = socket.socket(socket.AF_UNIX)
        try:
            outer.connect(place)
        except EnvironmentError:
            inner.close()
            continue
        spawn(pump, inner, outer)
        spawn(pump, outer, inner)


def wait_for(place, gone):
    """Until somebody listens there; whoever says that nobody will says why as well."""
    while not os.path.exists(place):
        if os.path.exists(gone):
            os._exit(1)
        time.sleep(0.02)


class Gate(object):
    """The port on loopback."""

    def __init__(self, place):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        spawn(relay, listener, place)

    def url(self, path):
        return "http://127.0.0.1:%d%s" % (self.port, path)

    def ask(self, path):
        connection = HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", path)
        return json.loads(connection.getresponse().read().decode("utf-8"))

    def environment(self):
        urls = [self.url("/index/%d/" % number) for number in range(self.ask("/count"))]
        found = {
            "PIP_INDEX_URL": urls[0] if urls else self.url("/none"),
            # The gateway waits for the index, and asks again.
            "PIP_DEFAULT_TIMEOUT": "900", "PIP_RETRIES": "0",
        }
        if urls[1:]:
            found["PIP_EXTRA_INDEX_URL"] = " ".join(urls[1:])
        return found


def said(name):
    """What the stranger says in a file."""
    path = os.path.join(HOME, name)
    if not os.path.isfile(path) or os.path.islink(path):
        return None
    with open(path, "rb") as file:
        text = file.read(LONGEST)
    try:
        found = json.loads(text.decode("utf-8"))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def main():
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    os.mkdir(HOME)
    for place in spec["write"] + [HOME]:
        give(place)
    environment = dict(os.environ, HOME=HOME, PIP_CONFIG_FILE=os.devnull, PIP_NO_CACHE_DIR="1",
                       PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    gate = Gate(spec["socket"]) if spec.get("socket") else None

    def run(command):
        return subprocess.call(command, env=environment, preexec_fn=step_down)

    code = run(spec["before"]) if spec.get("before") else 1
    if gate:
        wait_for(spec["socket"], spec["gone"])
    if code:
        for name in os.listdir(spec["out"]):
            path = os.path.join(spec["out"], name)
            if os.path.islink(path) or not os.path.isdir(path):
                os.unlink(path)
        environment.update(gate.environment() if gate else {})
        code = run(spec["command"])
    if code and spec["why"]:
        found = said("failed")
        lines = (found or {}).get("lines") or []
        named = "/" + quote(json.dumps(lines), "") if lines else ""
        if gate and not gate.ask("/why" + named) and not found:
            archives = [gate.url(path) for path in reversed(gate.ask("/archives"))]
            run([sys.executable, spec["try"], "metadata"] + spec["sources"] + archives)
            found = said("failed")
        with open(spec["failed"], "w") as file:
            json.dump(found, file)
    for name in ("described", "metadata", "decided"):
        with open(spec[name], "w") as file:
            json.dump(said(name + ".json"), file)
    sys.stdout.flush()
    os._exit(code if code >= 0 else 128 - code)


main()
