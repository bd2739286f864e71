"""Asks this machine's indexes for a stranger: gateway.py SOCKET END FACTS OUT LENT

Sources of packages run code while pip asks them for their metadata. So pip, and all below it,
is an unprivileged process without network, on the other side of SOCKET; this process has the
network and the machine's settings, and runs nobody's code. It serves until somebody writes into
the named pipe END. FACTS then gets what the indexes say about the files in OUT, or why there
are none. LENT has the requirements and the constraints, which index which projects come from
(`bound.json`), which retained file is the one of which address (`files` of `direct.json`), and which
versions and wheels are kept (`uv.json`).

Of versions that were decided elsewhere it says which file pip would take of each (`/choose`).
A file by its address is fetched as well (`/direct/ADDRESS/NAME`); of a repository it is only said
that it is wanted: somebody with a git fetches it, and asks again.
"""
import json
import os
import shutil
import sys
import tempfile
import threading
import zipfile

import offers
from indexes import Indexes, bare, normalise, unquote, urlsplit, write_facts, written

try:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from socketserver import TCPServer, ThreadingMixIn
except ImportError:
    from BaseHTTPServer import BaseHTTPRequestHandler, HTTPServer
    from SocketServer import TCPServer, ThreadingMixIn

# The longest list of versions, in bytes.
LONGEST = 1 << 22
# How many pages are asked for at once.
AT_ONCE = 8


def spawn(work, *words):
    thread = threading.Thread(target=work, args=words)
    thread.daemon = True
    thread.start()


class Gateway(ThreadingMixIn, HTTPServer):
    address_family = 1  # AF_UNIX
    daemon_threads = True

    def __init__(self, place, lent):
        self.indexes = Indexes(json_of(os.path.join(lent, "bound.json")))
        self.lines = lines_of(os.path.join(lent, "requirements.txt"))
        self.limits = lines_of(os.path.join(lent, "constraints.txt"))
        direct = json_of(os.path.join(lent, "direct.json"))
        retained = direct.get("files", {})
        # What is kept of addresses, and what was wanted from one.
        self.retained = dict((url, os.path.join(lent, "direct", name)) for url, name in retained.items())
        self.direct, self.wanted = [], []
        # Only there do addresses lead: whoever asks may be a stranger.
        self.hosts = set(direct.get("hosts", []))
        self.hosts.update(urlsplit(url).netloc.lower() for url in self.indexes.indexes)
        # Projects of which a version is kept, or a wheel that sources are built with.
        spec = json_of(os.path.join(lent, "uv.json"))
        self.reused = spec.get("reused", {})
        self.known = set(spec.get("kept", {})) | set(self.reused)
        self.files = []
        self.numbers = {}
        # Source archives that were fetched: what pip may have tried to build.
        self.archives = []
        # What describes the packages that pip looked at: wheels, and METADATA alone.
        self.described = tempfile.mkdtemp()
        self.why = None
        # Pages that will be asked for, and who asks for them meanwhile.
        self.ahead, self.asked = {}, []
        self.lock = threading.Lock()
        HTTPServer.__init__(self, place, Request)

    def server_bind(self):
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", 0

    def look_ahead(self):
        """Asks for the pages of what is required, some at a time, while pip has other work."""
        names = set(normalise(one.name) for one in map(offers.parse, self.lines) if one)
        names.update(self.known)
        pages = [(number, name) for name in sorted(names) for number in range(len(self.indexes.indexes))]
        asked = [(page, threading.Event()) for page in pages]
        self.ahead, self.asked = dict(asked), [done for _, done in asked]

        def ask(own):
            for page, done in own:
                try:
                    self.indexes.page(*page)
                finally:
                    done.set()

        for at in range(AT_ONCE):
            spawn(ask, asked[at::AT_ONCE])

    def page(self, number, name):
        """What an index has of a project: asked anew, but for the first time."""
        asked = self.ahead.pop((number, name), None)
        if asked:
            asked.wait()
            if (name, number) in self.indexes.pages:
                return self.indexes.pages[name, number]
        return self.indexes.page(number, name)

    def want(self, fact):
        if fact not in self.wanted:
            self.wanted.append(fact)

    def handle_error(self, request, client_address):
        pass  # pip went away; it says why.

    def own(self, url):
        """What pip sees in place of a file's address."""
        url, _, fragment = url.partition("#")
        if not url.startswith(("http://", "https://")):
            return url
        with self.lock:
            number = self.numbers.setdefault(url, len(self.files))
            if number == len(self.files):
                self.files.append(url)
        name = url.partition("?")[0].rpartition("/")[2]
        return "/file/%d/%s#%s" % (number, name, fragment)

    def explain(self, lines):
        """Why pip has not got what these lines want."""
        if self.wanted:
            self.why = self.wanted
            return self.why
        wanted = set(normalise(one.name) for one in map(offers.parse, lines) if one)
        lacking = set(name for (name, _), page in self.indexes.pages.items() if page.status != 200)
        # Asked again: what an index did not have for a while is not the requirement's fault.
        for name in wanted | lacking:
            for number in range(len(self.indexes.indexes)):
                self.indexes.page(number, name)
        self.why = self.indexes.troubles() or offers.problems(self.indexes, lines, self.limits)
        return self.why

    def descriptions(self):
        for name in sorted(os.listdir(self.described)):
            path = os.path.join(self.described, name)
            try:
                if name.endswith(".whl"):
                    with zipfile.ZipFile(path) as wheel:
                        inside = [one for one in wheel.namelist()
                                  if one.endswith(".dist-info/METADATA")]
                        text = wheel.read(inside[0]) if inside else b""
                else:
                    with open(path, "rb") as file:
                        text = file.read()
            except (EnvironmentError, zipfile.BadZipfile):
                continue  # It did not arrive whole.
            text = text.decode("utf-8", "replace")
            yield text if str is not bytes else text.encode("utf-8")


class Request(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def address_string(self):
        return "pip"

    def do_GET(self):
        parts = self.path.strip("/").split("/")
        if len(parts) == 3 and parts[0] == "file":
            return self.file(int(parts[1]), parts[2].endswith(".metadata"))
        if len(parts) == 3 and parts[0] == "index":
            return self.page(int(parts[1]), normalise(unquote(parts[2])))
        if len(parts) == 3 and parts[0] == "direct":
            return self.by_address(unquote(parts[1]), unquote(parts[2]))
        if parts[0] == "count":
            return self.answer(len(self.server.indexes.indexes))
        if parts[0] == "archives":
            return self.answer(self.server.archives)
        if parts[0] == "why":
            lines = json.loads(unquote(parts[1])) if parts[1:] else self.server.lines
            return self.answer(self.server.explain(lines))
        self.send_error(404)

    do_HEAD = do_GET

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        if self.path != "/choose" or length > LONGEST:
            return self.send_error(404)
        asked = json.loads(self.rfile.read(length).decode("utf-8"))
        chosen = []
        for name, version in asked["pins"]:
            offer = offers.choice(self.server.indexes, normalise(name), version, asked["only_wheels"])
            if offer is None:
                return self.send_error(404)
            path, _, fragment = self.server.own(offer.url).partition("#")
            digest = fragment.partition("sha256=")[2].partition("&")[0] or None
            chosen.append({"file": offer.file, "path": path, "sha256": digest})
        return self.answer(chosen)

    def answer(self, value):
        self.begin("application/json")
        self.wfile.write(json.dumps(value).encode("utf-8"))

    def page(self, number, name):
        server = self.server
        page = server.page(number, name)
        if page.status != 200:
            return self.send_error(page.status)
        self.begin("text/html; charset=utf-8")
        # An old pip takes seconds for a long page. What does not fit this Python it passes over.
        files = [file for file in page.files() if offers.may_fit(*file)]
        self.wfile.write(written(files, server.own).encode("utf-8"))

    def file(self, number, is_metadata):
        url = self.server.files[number]
        own = self.server.own(url)
        if is_metadata and not urlsplit(url).path.endswith(".metadata"):
            place, mark, query = url.partition("?")
            url = place + ".metadata" + mark + query
        answer, status = self.server.indexes.file(url)
        if answer is None:
            return self.send_error(status)
        if own.rstrip("#").endswith(offers.ARCHIVES) and own not in self.server.archives:
            self.server.archives.append(own)
        self.begin("application/octet-stream", answer.headers.get("Content-Length"))
        name = "%d%s" % (number, ".metadata" if is_metadata else ".whl")
        path = os.path.join(self.server.described, name)
        keep = is_metadata or urlsplit(url).path.endswith(".whl")
        with open(path if keep else os.devnull, "wb") as copy:
            while self.command == "GET":
                block = self.read(answer, url)
                if not block:
                    break
                copy.write(block)
                self.wfile.write(block)

    def by_address(self, url, name):
        """A file that is no index's."""
        server = self.server
        if url.startswith("git+"):
            server.want({"fact": "repository", "url": url})
            return self.send_error(404)
        if urlsplit(url).netloc.rpartition("@")[1]:
            server.want({"fact": "login-in-address", "url": bare(url)[0]})
            return self.send_error(404)
        if "#" in url:
            server.want({"fact": "inside-archive", "url": url})
            return self.send_error(404)
        if urlsplit(url).netloc.lower() not in server.hosts:
            server.want({"fact": "unnamed-host", "url": url})
            return self.send_error(404)
        if not name.endswith(".whl") and self.path not in server.archives:
            server.archives.append(self.path)
        fact = {"fact": "direct", "file": name, "url": url}
        if url in server.retained:
            server.direct.append(fact)
            with open(server.retained[url], "rb") as file:
                self.begin("application/octet-stream", os.fstat(file.fileno()).st_size)
                shutil.copyfileobj(file, self.wfile)
            return None
        answer, trouble = server.indexes.get(url)
        if answer is None or answer.status_code != 200:
            why = trouble or "%d" % answer.status_code
            server.want({"fact": "nothing-there", "url": url, "why": why})
            return self.send_error(404)
        server.direct.append(fact)
        # An address without an ending does not say what it leads to.
        kind = answer.headers.get("Content-Type", "application/octet-stream")
        self.begin(kind, answer.headers.get("Content-Length"))
        block = self.read(answer, url)
        while block:
            self.wfile.write(block)
            block = self.read(answer, url)
        return None

    def read(self, answer, url):
        try:
            return answer.raw.read(1 << 16)
        except Exception:  # urllib3 has many; each is a file that did not arrive.
            self.server.indexes.failed_files.add(("unreachable", urlsplit(url).hostname))
            raise

    def begin(self, kind, length=None):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if length:
            self.send_header("Content-Length", length)
        self.end_headers()


def json_of(path):
    with open(path) as file:
        return json.load(file)


def lines_of(path):
    with open(path) as file:
        return file.read().splitlines()


def main():
    place, end, facts, out, lent = sys.argv[1:]
    os.umask(0o077)
    # It appears under its name once it is served.
    gateway = Gateway(place + ".new", lent)
    spawn(gateway.serve_forever)
    gateway.look_ahead()
    # Open for both ends, so that nobody comes too early.
    pipe = os.open(end, os.O_RDWR)
    os.rename(place + ".new", place)
    if os.read(pipe, 1) == b"0":
        files = set(os.listdir(out)) | set(gateway.reused.values())
        for asked in gateway.asked:
            asked.wait()
        found = [fact for say in (offers.taken, offers.shared, offers.misplaced)
                 for fact in say(gateway.indexes, files)]
        found += offers.lacking_extras(gateway.lines, gateway.descriptions())
        found += gateway.direct
    elif gateway.why is None:
        found = gateway.wanted
    else:
        found = gateway.why or offers.problems_below(gateway.indexes, gateway.descriptions())
    write_facts(facts, found)
    os._exit(0)


main()
