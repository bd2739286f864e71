"""This machine's package indexes, as its pip settings name them. Python 2.7 and 3.

Whoever uses this may read the credentials in those settings; no code of packages runs here.
"""
import hashlib
import json
import os
import re
import ssl

from pip._vendor import requests

try:
    from configparser import RawConfigParser
    from html import unescape
    from urllib.parse import unquote, urljoin, urlsplit, urlunsplit
except ImportError:
    from ConfigParser import RawConfigParser
    from HTMLParser import HTMLParser
    from urllib import unquote
    from urlparse import urljoin, urlsplit, urlunsplit
    unescape = HTMLParser().unescape

ANCHOR = re.compile(r"""<a\b((?:[^>"']|"[^"]*"|'[^']*')*)>""", re.I)
ATTRIBUTE = re.compile(r"""([\w-]+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+))?""")
# A page with links, as every index has it (PEP 503, PEP 691).
PAGE = "application/vnd.pypi.simple.v1+html, text/html; q=0.2"
BASE = re.compile(r"""<base\b((?:[^>"']|"[^"]*"|'[^']*')*)>""", re.I)
# The largest page.
LONGEST = 1 << 26


def normalise(name):
    return re.sub("[-_.]+", "-", name).lower()


def last_part(url):
    # Pages have thousands of addresses, and an old Python takes its time to split one.
    name = url.partition("#")[0].partition("?")[0].rpartition("/")[2]
    return unquote(name) if "%" in name else name


def joined(base, url):
    return url if url.startswith(("http://", "https://")) else urljoin(base, url)


def bare(url):
    """An address without credentials, and those."""
    parts = urlsplit(url)
    login, _, place = parts.netloc.rpartition("@")
    name, _, password = login.partition(":")
    auth = (unquote(name), unquote(password)) if login else None
    return urlunsplit((parts.scheme, place) + tuple(parts[2:])), auth


class Indexes(object):
    def __init__(self, bound=None):
        # "main" or "extra" by project, or by how its name begins.
        self.bound = dict((normalise(name), role) for name, role in (bound or {}).items())
        self.config = RawConfigParser()
        self.config.read(os.environ.get("PIP_CONFIG_FILE", ""))
        found = (self.setting("index-url") or self.default())[-1:] + self.setting("extra-index-url")
        self.logins = {}
        self.indexes = []
        for url in found:
            url, auth = bare(url)
            self.indexes.append(url.rstrip("/"))
            if auth:
                self.logins[urlsplit(url).netloc] = auth
        self.trusted = self.setting("trusted-host")
        self.timeout = float((self.setting("timeout") or self.setting("default-timeout") or [60])[0])
        self.session = requests.Session()
        retries = (self.setting("retries") or [5])[0]
        adapter = requests.adapters.HTTPAdapter(
            pool_maxsize=16, max_retries=self.retry(int(retries)))
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)
        if os.environ.get("PIP_CERT"):
            self.session.verify = os.environ["PIP_CERT"]
        for proxy in self.setting("proxy")[:1]:
            self.session.proxies = {"http": proxy, "https": proxy}
        # What the indexes have of a project, by project and index.
        self.pages = {}
        # Servers that gave no file, and why.
        self.failed_files = set()

    def setting(self, name):
        value = os.environ.get("PIP_" + name.upper().replace("-", "_"))
        for section in ("download", "global"):
            if value is None and self.config.has_option(section, name):
                value = self.config.get(section, name)
        return (value or "").split()

    @staticmethod
    def default():
        try:
            from pip._internal.models.index import PyPI
            return [PyPI.simple_url]
        except ImportError:
            return []

    @staticmethod
    def retry(total):
        from pip._vendor.urllib3.util.retry import Retry
        again = [500, 502, 503, 504]
        return Retry(total=total, backoff_factor=0.25, status_forcelist=again, raise_on_status=False)

    def serves(self, number, name):
        """Whether a project may come from an index: the first one is the main one."""
        fitting = [one for one in self.bound
                   if one == name or one.endswith("*") and name.startswith(one[:-1])]
        best = max(fitting or [None], key=lambda one: one and (not one.endswith("*"), len(one)))
        role = self.bound.get(best)
        return role is None or (role == "main") == (number == 0)

    def get(self, url, accept=None):
        """The answer, if there is one, and why there is none that helps."""
        url, auth = bare(url)
        place = urlsplit(url)
        headers = {"Accept-Encoding": "identity"}
        if accept:
            headers["Accept"] = accept
        is_trusted = place.hostname in self.trusted or place.netloc in self.trusted
        try:
            answer = self.session.get(
                url, headers=headers, stream=True, timeout=self.timeout,
                auth=auth or self.logins.get(place.netloc),
                verify=False if is_trusted else self.session.verify)
        except requests.exceptions.SSLError:
            return None, "certificate"
        except (requests.exceptions.RequestException, ssl.SSLError, EnvironmentError, ValueError):
            return None, "unreachable"
        if answer.status_code in (401, 403):
            return answer, "credentials"
        return answer, "broken" if answer.status_code >= 500 else None

    def page(self, number, name):
        """What an index has of a project, asked anew."""
        page = self.ask(number, name) if self.serves(number, name) else Page(404, None, None)
        self.pages[name, number] = page
        return page

    def ask(self, number, name):
        url = "%s/%s/" % (self.indexes[number], name)
        answer, trouble = self.get(url, PAGE)
        page = Page(504, urlsplit(url).hostname, trouble)
        if answer is not None:
            page.status = answer.status_code
            page.host = urlsplit(answer.url).hostname
            try:
                text = answer.raw.read(LONGEST, decode_content=True)
            except Exception:  # urllib3 has many; each is a page that did not arrive.
                page.status, page.trouble = 504, "unreachable"
            else:
                page.url, page.text = answer.url, text.decode("utf-8", "replace")
        return page

    def known(self, name):
        """What each index has of a project, as it last said."""
        numbers = range(len(self.indexes))
        return [self.pages.get((name, number)) or self.page(number, name) for number in numbers]

    def file(self, url):
        """The answer that has a file, or the status that says it has not."""
        answer, trouble = self.get(url)
        if answer is not None and answer.status_code == 200:
            return answer, 200
        if trouble:
            self.failed_files.add((trouble, urlsplit(bare(url)[0]).hostname))
        return None, 504 if answer is None else answer.status_code

    def troubles(self):
        """Why what the indexes have is not known."""
        found = set(self.failed_files)
        names = set(name for name, _ in self.pages)
        for name in names:
            pages = [page for (of, _), page in self.pages.items() if of == name]
            # Some indexes refuse to say what they do not have.
            is_found = any(page.status == 200 for page in pages)
            found.update((page.trouble, page.host) for page in pages
                         if page.trouble and not (is_found and page.trouble == "credentials"))
        return [{"fact": trouble, "host": host} for trouble, host in sorted(found)]


def attributes_of(element):
    pairs = ((name.lower(), value.strip("\"'").strip())
             for name, value in ATTRIBUTE.findall(element.group(1)))
    return dict((name, unescape(value) if "&" in value else value) for name, value in pairs)


class Page(object):
    def __init__(self, status, host, trouble):
        self.status, self.host, self.trouble = status, host, trouble
        self.url, self.text, self.read = "", u"", None

    def files(self):
        """Address and attributes of each file (PEP 503, 592)."""
        if self.status != 200:
            return []
        if self.read is None:
            bases = [attributes_of(base) for base in BASE.finditer(self.text)]
            place = urljoin(self.url, (bases or [{}])[0].get("href", ""))
            anchors = [attributes_of(anchor) for anchor in ANCHOR.finditer(self.text)]
            self.read = [(joined(place, one["href"]), one) for one in anchors if "href" in one]
        return self.read


def written(files, change):
    """A page of these files, whose addresses are what `change` makes of them."""
    lines = []
    for url, attributes in files:
        said = dict(attributes, href=change(url))
        words = ['%s="%s"' % (name, escape(said[name])) for name in sorted(said)]
        lines.append("<a %s>%s</a><br>\n" % (" ".join(words), escape(last_part(url))))
    return "<!DOCTYPE html><html><body>\n%s</body></html>\n" % "".join(lines)


def escape(text):
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(sign, name)
    return text


def write_facts(path, facts):
    with open(path, "w") as out:
        json.dump(facts, out)


def copy(source, out, sha256=None):
    """Copies a stream; whether it was what `sha256` says."""
    digest = hashlib.sha256()
    while True:
        block = source.read(1 << 16)
        if not block:
            return sha256 is None or digest.hexdigest() == sha256
        digest.update(block)
        out.write(block)
