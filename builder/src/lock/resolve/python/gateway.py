"""Runs pip for a stranger: gateway.py SETTINGS REQUIREMENTS FACTS WRITABLE... -- COMMAND...

Sources of packages run code while pip asks them for their metadata. So pip, and all below it,
is an unprivileged process that sees one address on loopback and none of the machine's
settings; this process, which has those, asks the indexes in its place. SETTINGS is the script
that exported them, FACTS gets what was wrong with the indexes.
"""
import os
import re
import subprocess
import sys
import threading

from indexes import Indexes, last_part, links, normalise, rewritten, unquote, urlsplit, write_facts

try:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from socketserver import ThreadingMixIn
except ImportError:
    from BaseHTTPServer import BaseHTTPRequestHandler, HTTPServer
    from SocketServer import ThreadingMixIn

NOBODY = 65534
HOME = "/tmp/imgbuild-home"
# Whoever else is on this machine cannot guess the address.
TOKEN = "".join("%02x" % byte for byte in bytearray(os.urandom(16)))


class Gateway(ThreadingMixIn, HTTPServer):
    daemon_threads = True

    def __init__(self, indexes):
        HTTPServer.__init__(self, ("127.0.0.1", 0), Request)
        self.indexes = indexes
        self.files = []
        self.numbers = {}
        self.lock = threading.Lock()
        self.url = "http://127.0.0.1:%d/%s" % (self.server_port, TOKEN)

    def handle_error(self, request, client_address):
        pass  # pip went away; it says why.

    def own(self, url):
        """What pip sees in place of a file's address."""
        url, _, fragment = url.partition("#")
        if urlsplit(url).scheme not in ("http", "https"):
            return url
        with self.lock:
            number = self.numbers.setdefault(url, len(self.files))
            if number == len(self.files):
                self.files.append(url)
        name = urlsplit(url).path.rsplit("/", 1)[-1]
        return "%s/file/%d/%s#%s" % (self.url, number, name, fragment)


class Request(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        parts = self.path.strip("/").split("/")
        if len(parts) == 4 and parts[:2] == [TOKEN, "file"]:
            return self.file(int(parts[2]), parts[3].endswith(".metadata"))
        if len(parts) == 4 and parts[:2] == [TOKEN, "index"]:
            return self.page(int(parts[2]), normalise(unquote(parts[3])))
        self.send_error(404)

    do_HEAD = do_GET

    def page(self, index, name):
        server = self.server
        status, url, text = server.indexes.page(server.indexes.indexes[index], name)
        if status != 200:
            return self.send_error(status)
        self.begin("text/html; charset=utf-8")
        self.wfile.write(rewritten(url, text, server.own).encode("utf-8"))

    def file(self, number, is_metadata):
        url = self.server.files[number]
        if is_metadata and not urlsplit(url).path.endswith(".metadata"):
            place, mark, query = url.partition("?")
            url = place + ".metadata" + mark + query
        answer = self.server.indexes.get(url)
        if answer is None or answer.status_code != 200:
            return self.send_error(504 if answer is None else answer.status_code)
        self.begin("application/octet-stream", answer.headers.get("Content-Length"))
        while self.command == "GET":
            block = answer.raw.read(1 << 16)
            if not block:
                break
            self.wfile.write(block)

    def begin(self, kind, length=None):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if length:
            self.send_header("Content-Length", length)
        self.end_headers()


def inside(gateway):
    """The environment of pip: nothing of the machine's settings."""
    with open(sys.argv[1]) as file:
        settings = set(re.findall(r"^export (\w+)=", file.read(), re.M))
    environment = dict(
        (name, value) for name, value in os.environ.items() if name not in settings)
    count = len(gateway.indexes.indexes)
    urls = ["%s/index/%d/" % (gateway.url, index) for index in range(count)]
    environment.update({
        "HOME": HOME, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1",
        "PIP_INDEX_URL": urls[0] if urls else gateway.url, "PIP_NO_INPUT": "1",
        # This process waits for the index, and asks again.
        "PIP_DEFAULT_TIMEOUT": "900", "PIP_RETRIES": "0",
    })
    if urls[1:]:
        environment["PIP_EXTRA_INDEX_URL"] = " ".join(urls[1:])
    return environment


def step_down():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    os.umask(0o022)


def give(place):
    for top, dirs, files in os.walk(place):
        for name in [""] + dirs + files:
            os.lchown(os.path.join(top, name) if name else top, NOBODY, NOBODY)


def absent(indexes, requirements):
    """The first requirement that no index has."""
    with open(requirements) as file:
        lines = file.read().splitlines()
    for line in lines:
        match = re.match(
            r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?\s*\(?\s*"
            r"(?:==\s*([^\s,;#*)]+)\s*\)?\s*(?:[;#\s]|$))?", line)
        if not match or "@" in line:
            continue
        name, version = normalise(match.group(1)), match.group(2)
        pages = [indexes.page(index, name) for index in indexes.indexes]
        kinds = set(status for status, _, _ in pages)
        if kinds == set([404]):
            return ["absent " + name]
        if version and kinds <= set([404, 200]):
            files = [last_part(url) for status, page, text in pages if status == 200
                     for url in links(page, text)]
            if not any(re.search("-" + re.escape(version) + r"[-.]", file) for file in files):
                return ["absent %s==%s" % (name, version)]
    return []


def main():
    at = sys.argv.index("--")
    requirements, facts, writable = sys.argv[2], sys.argv[3], sys.argv[4:at]
    os.mkdir(HOME)
    for place in writable + [HOME]:
        give(place)
    indexes = Indexes()
    gateway = Gateway(indexes)
    thread = threading.Thread(target=gateway.serve_forever)
    thread.daemon = True
    thread.start()
    code = subprocess.call(sys.argv[at + 1:], env=inside(gateway), preexec_fn=step_down)
    if code:
        # Asked again: what an index did not have for a while is not its fault.
        asked = absent(indexes, requirements) if not indexes.facts else []
        write_facts(facts, sorted(indexes.facts) + asked)
    sys.stdout.flush()
    os._exit(code if code >= 0 else 128 - code)


main()
