# After pip failed: what the indexes themselves answer, one fact a line.
# Arguments: a file of requirements, where the facts go. Python 2.7 and 3.
import base64, os, re, ssl, sys
try:
    from configparser import RawConfigParser
    from urllib.parse import unquote, urlsplit
    from urllib.request import HTTPSHandler, Request, build_opener
    from urllib.error import HTTPError, URLError
except ImportError:
    from ConfigParser import RawConfigParser
    from urllib import unquote
    from urllib2 import HTTPError, HTTPSHandler, Request, URLError, build_opener
    from urlparse import urlsplit

config = RawConfigParser()
config.read(os.environ.get("PIP_CONFIG_FILE", ""))

def setting(name):
    value = os.environ.get("PIP_" + name.upper().replace("-", "_"))
    for section in ("download", "global"):
        if value is None and config.has_option(section, name):
            value = config.get(section, name)
    return (value or "").split()

def default_index():
    try:
        from pip._internal.models.index import PyPI
        return [PyPI.simple_url]
    except ImportError:
        return []

indexes = (setting("index-url") or default_index())[-1:] + setting("extra-index-url")
trusted = setting("trusted-host")

def ask(index, name):
    parts = urlsplit(index)
    host = parts.hostname or ""
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    if host in trusted or "%s:%s" % (host, parts.port) in trusted:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    netloc = parts.netloc.rpartition("@")[2]
    request = Request("%s://%s%s/%s/" % (parts.scheme, netloc, parts.path.rstrip("/"), name))
    if parts.username is not None:
        pair = "%s:%s" % (unquote(parts.username), unquote(parts.password or ""))
        pair = base64.b64encode(pair.encode("utf-8")).decode("ascii")
        request.add_header("Authorization", "Basic " + pair)
    try:
        page = build_opener(HTTPSHandler(context=context)).open(request, timeout=20)
        return "found", page.read(1 << 24).decode("utf-8", "replace")
    except HTTPError as error:
        return {401: "credentials", 403: "credentials", 404: "absent"}.get(error.code, "other"), ""
    except (URLError, ssl.SSLError) as error:
        reason = getattr(error, "reason", error)
        verify = getattr(ssl, "SSLCertVerificationError", ssl.SSLError)
        kinds = (verify, ssl.CertificateError)
        return ("certificate" if isinstance(reason, kinds) else "unreachable"), ""
    except Exception:
        return "unreachable", ""

facts = []
for line in open(sys.argv[1]):
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?\s*\(?\s*(?:==\s*([^\s,;#*)]+)\s*\)?\s*(?:[;#\s]|$))?", line)
    if not match or "@" in line:
        continue
    name = re.sub("[-_.]+", "-", match.group(1)).lower()
    answers = [ask(index, name) for index in indexes]
    kinds = [kind for kind, _ in answers]
    for kind in ("certificate", "credentials", "unreachable"):
        if kind in kinds:
            facts.append(kind)
    if set(kinds) == {"absent"}:
        facts.append("absent " + name)
    version = match.group(2)
    if version and set(kinds) <= {"absent", "found"} and "found" in kinds:
        text = unquote("".join(page for _, page in answers))
        if not re.search("-" + re.escape(version) + r"[-.]", text):
            facts.append("absent %s==%s" % (name, version))
    if facts:
        break
with open(sys.argv[2], "w") as out:
    out.write("".join(fact + "\n" for fact in facts))
