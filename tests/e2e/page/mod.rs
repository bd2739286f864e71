//! `imgbuild page` on a small store with two environments: what the pages say, that they are HTML which
//! a parser of others reads, that nothing of an image becomes markup, and that they are served.

mod nodes;
mod soak;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tests::binaries::Ran;
use tests::http;

use crate::team::{Team, at, says};

/// What nobody may find as markup on a page, and no browser may obey.
const HOSTILE: &str = "<script>alert('x\"&')</script>\u{202e}\u{1b}[31m";

/// The same as it is shown.
const SHOWN: &str = "<script>alert('x\"&')</script>\\u{202e}\\u{1b}[31m";

/// Two environments: dev with two releases of `web`, prod with the first, which Ann approved.
struct Bench {
    team: Team,
}

impl Bench {
    fn new() -> Self {
        let team = Team::new();
        let bench = Self { team };
        bench.release("1.0");
        let ann = bench.team.key("ann", "ann");
        let policy = format!("from = [\"dev\"]\napprovals = {{}}\n[keys]\nann = \"{ann}\"\n");
        fs::write(bench.team.path("policy.toml"), policy).unwrap();
        bench.ann(&["env", "init", "prod", "--plain", "--policy", "policy.toml"]);
        let comment = format!("looks good {HOSTILE}");
        let approve = ["approve", "dev/web", "--for", "prod", "--key", "ann"];
        bench.ann(&[&approve[..], &["--comment", &comment]].concat());
        bench.ann(&["promote", "dev/web", "--to", "prod"]);
        bench.release("2.0");
        bench
    }

    fn ann(&self, words: &[&str]) -> Ran {
        self.team.run("ann", words).expect(0)
    }

    /// Releases an image whose every name is hostile, and one package has this version.
    fn release(&self, version: &str) -> String {
        let tree = self.team.tree("tree", version);
        let put = |path: &str, text: &str| {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let status = fs::read_to_string(tree.join("var/lib/dpkg/status")).unwrap();
        let long = "long".repeat(5000);
        let others = format!(
            "Package: {HOSTILE}\nSource: {HOSTILE} ({HOSTILE})\nStatus: install ok installed\n\
             Architecture: {HOSTILE}\nVersion: {HOSTILE}\n\n\
             Package: {long}\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n"
        );
        put("var/lib/dpkg/status", &(status + &others));
        put(
            "var/lib/dpkg/info/libfoo:amd64.list",
            "/.\n/usr/lib/libfoo.so\n/usr/lib/gone\n",
        );
        put("usr/lib/libfoo.so", &format!("{version} ").repeat(10_000));
        put(
            "etc/passwd",
            &format!("{HOSTILE}:x:7:7::/{HOSTILE}:{HOSTILE}\n"),
        );
        put("etc/group", &format!("{HOSTILE}:x:7:{HOSTILE}\n"));
        let name = HOSTILE.replace('/', "_");
        put(&format!("srv/{name}/file"), &"x".repeat(5000));
        put(&format!("srv/{name}/setuid-{version}"), "");
        let setuid = tree.join(format!("srv/{name}/setuid-{version}"));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
        fs::set_permissions(&setuid, mode).unwrap();
        let image = self.team.import(&tree);
        fs::remove_dir_all(&tree).unwrap();
        image
    }

    fn page(&self, dir: &str) -> Ran {
        self.team.run("ann", &["page", "--out", dir])
    }

    fn read(&self, dir: &str) -> Pages {
        Pages::read(&self.team.path(dir))
    }
}

/// Pages by their paths, as Python's parser reads them.
pub(crate) struct Pages(BTreeMap<String, Value>);

/// Prints, of each page, what the tests look at.
const PARSER: &str = r#"
import json, sys
from html.parser import HTMLParser
VOID = {"meta"}
class Page(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.faults, self.text, self.links, self.ids = [], [], [], [], []
        self.tags, self.levels, self.tables, self.meta = {}, [], [], {}
    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if len(values) != len(attributes): self.faults.append("an attribute twice in " + tag)
        self.tags[tag] = self.tags.get(tag, 0) + 1
        for name, value in attributes:
            if name.startswith("on") or name == "style" or value is None:
                self.faults.append("the attribute " + name + " of " + tag)
        if "id" in values: self.ids.append(values["id"])
        if tag == "a": self.links.append(values["href"])
        if tag == "meta" and "content" in values:
            self.meta[values.get("http-equiv", values.get("name"))] = values["content"]
        if tag in ("h1", "h2", "h3"): self.levels.append(int(tag[1]))
        if tag == "table": self.tables.append({"caption": 0, "bad": 0})
        if tag == "caption": self.tables[-1]["caption"] += 1
        if tag == "th" and values.get("scope") not in ("row", "col"): self.tables[-1]["bad"] += 1
        if tag not in VOID: self.open.append(tag)
    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag: self.faults.append("</" + tag + "> is not open")
    def handle_data(self, data):
        if self.open and self.open[-1] != "style": self.text.append(data)
    def unknown_decl(self, data): self.faults.append("declaration " + data)
    def handle_comment(self, data): self.faults.append("comment " + data)
found = {}
for path in sys.argv[1:]:
    page = Page()
    page.feed(open(path, encoding="utf-8", newline="").read())
    page.close()
    if page.open: page.faults.append("open at the end: " + " ".join(page.open))
    page.text = "\n".join(" ".join("".join(page.text).split(" ")).splitlines())
    found[path] = {k: getattr(page, k) for k in
        ("faults", "text", "links", "ids", "tags", "levels", "tables", "meta")}
json.dump(found, sys.stdout)
"#;

fn files(dir: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for folder in ["", "image/", "diff/", "fleet/", "node/"] {
        // Those of nodes are there where nodes are.
        for entry in fs::read_dir(dir.join(folder))
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.file_type().unwrap().is_file() {
                let name = format!("{folder}{}", entry.file_name().to_str().unwrap());
                found.insert(name, entry.path());
            }
        }
    }
    found
}

impl Pages {
    pub(crate) fn read(dir: &Path) -> Self {
        let files = files(dir);
        let mut python = Command::new("python3");
        let ran = Ran::of(python.args(["-c", PARSER]).args(files.values())).expect(0);
        let mut all: BTreeMap<String, Value> = serde_json::from_str(&ran.stdout).unwrap();
        let pages = files.into_iter().map(|(name, path)| {
            let page = all.remove(path.to_str().unwrap()).unwrap();
            (name, page)
        });
        Self(pages.collect())
    }

    /// The text of the page whose path begins so.
    pub(crate) fn text(&self, begin: &str) -> &str {
        let mut found = self.0.iter().filter(|(name, _)| name.starts_with(begin));
        let (_, page) = found
            .next()
            .unwrap_or_else(|| panic!("there is no page {begin}"));
        page["text"].as_str().unwrap()
    }

    fn names(&self, folder: &str) -> Vec<&String> {
        let names = self.0.keys();
        names.filter(|name| name.starts_with(folder)).collect()
    }

    /// What holds for every page: it is well formed, has landmarks, loads nothing, and all its links
    /// lead somewhere.
    pub(crate) fn check(&self) {
        for (name, page) in &self.0 {
            let list = |field: &str| page[field].as_array().unwrap().clone();
            assert_eq!(list("faults"), Vec::<Value>::new(), "{name}");
            let tags = page["tags"].as_object().unwrap();
            for one in [
                "html", "head", "body", "header", "main", "footer", "h1", "style",
            ] {
                assert_eq!(tags[one], 1, "{one} of {name}");
            }
            let known = [
                "a",
                "bdi",
                "body",
                "caption",
                "code",
                "dd",
                "details",
                "div",
                "dl",
                "dt",
                "figcaption",
                "figure",
                "footer",
                "h1",
                "h2",
                "h3",
                "head",
                "header",
                "html",
                "li",
                "main",
                "meta",
                "nav",
                "p",
                "rect",
                "span",
                "strong",
                "style",
                "summary",
                "svg",
                "table",
                "tbody",
                "td",
                "text",
                "th",
                "thead",
                "time",
                "title",
                "tr",
                "ul",
            ];
            let other = tags.keys().find(|tag| !known.contains(&tag.as_str()));
            assert!(
                other.is_none_or(|tag| tag == "title"),
                "{other:?} of {name}"
            );
            let policy = page["meta"]["Content-Security-Policy"].as_str().unwrap();
            assert!(
                policy.starts_with("default-src 'none'; style-src 'sha256-"),
                "{policy}"
            );
            assert!(
                !policy.contains("script") && !policy.contains("unsafe"),
                "{policy}"
            );
            let levels: Vec<u64> = list("levels").iter().map(|l| l.as_u64().unwrap()).collect();
            assert_eq!(levels[0], 1, "{name}");
            let steps = levels
                .windows(2)
                .all(|two| two[1] > 1 && two[1] <= two[0] + 1);
            assert!(steps, "{levels:?} of {name}");
            for table in list("tables") {
                assert_eq!(
                    (&table["caption"], &table["bad"]),
                    (&1.into(), &0.into()),
                    "{name}"
                );
            }
            let ids = list("ids");
            let distinct: BTreeSet<&str> = ids.iter().map(|id| id.as_str().unwrap()).collect();
            assert_eq!(distinct.len(), ids.len(), "{ids:?} of {name}");
            let links = list("links");
            assert_eq!(links[0], "#main", "{name}");
            for link in links {
                let link = link.as_str().unwrap();
                let Some(path) = link.strip_prefix('#') else {
                    let to = match link.strip_prefix("../") {
                        Some(to) => to.to_owned(),
                        None => match name.split_once('/') {
                            Some((folder, _)) => format!("{folder}/{link}"),
                            None => link.to_owned(),
                        },
                    };
                    assert!(self.0.contains_key(&to), "{link} of {name}");
                    continue;
                };
                assert!(distinct.contains(path), "{link} of {name}");
            }
        }
    }
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
}

#[test]
fn pages_say_what_runs_where_and_nothing_becomes_markup() {
    let bench = Bench::new();
    bench.page("www").expect(0);
    let pages = bench.read("www");
    pages.check();
    assert_eq!(pages.names("image/").len(), 2);
    // From the first release to the second in dev, and back from dev to prod.
    assert_eq!(pages.names("diff/").len(), 2);
    let raw: String = files(&bench.team.path("www"))
        .values()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for bad in ["<script", "\u{202e}", "\u{1b}", "'x\""] {
        assert!(!raw.contains(bad), "{bad:?}");
    }

    let index = pages.text("index.html");
    let log = bench.team.json("ann", &["env", "log", "prod", "--json"]);
    let day = &log["entry"]["time"].as_str().unwrap()[..10];
    let manifest = bench
        .team
        .json("ann", &["show", "dev/web", "--attestations", "--json"]);
    assert_eq!(manifest["attestations"][0]["kind"], "built");
    has(
        index,
        &[
            "From dev to prod",
            "Release 2",
            "Release 1",
            day,
            "packages: 1 changed",
            "prod/web/1",
            "dev/web/1",
            "prod.targets (",
            "approvals by at least 1 of ann",
            &bench.team.root("prod"),
        ],
    );
    let first = bench.team.json("ann", &["list", "--json"]);
    let images = first["images"].as_array().unwrap();
    let of_prod = images
        .iter()
        .find(|image| image["released"].to_string().contains("prod/web"))
        .unwrap()["image"]
        .as_str()
        .unwrap();
    let image = pages.text(&format!(
        "image/{}",
        of_prod.strip_prefix("blake3:").unwrap()
    ));
    has(
        image,
        &[
            of_prod,
            SHOWN,
            "more characters)",
            "prod/web/1",
            "dev/web/1",
            "Its manifest starts nothing.",
            "libfoo",
            "4755",
            "imported, begun at",
            &format!("for prod: looks good {SHOWN}"),
            "ann (",
            "No audit of it is signed",
            // Files of libfoo by its list: forty kilobytes.
            "libfoo, 40.0 kB",
        ],
    );
    let pair = pages.text("diff/");
    has(
        pair,
        &[
            "libfoo:amd64",
            "1.0",
            "2.0",
            "/usr/lib/libfoo.so",
            "Privileged files (2)",
        ],
    );
}

#[test]
fn the_same_state_is_the_same_bytes_and_what_was_done_stays() {
    let bench = Bench::new();
    let first = bench.page("www").expect(0);
    says(&first, &["2 of 2 compared", "2 of 2 read"]);
    assert!(
        first
            .stdout
            .contains("5 pages, 5 of them written, 0 removed"),
        "{}",
        first.stdout
    );
    bench.page("other/place").expect(0);
    let bytes = |dir: &str| -> BTreeMap<String, Vec<u8>> {
        let files = files(&bench.team.path(dir)).into_iter();
        files
            .map(|(name, path)| (name, fs::read(path).unwrap()))
            .collect()
    };
    let before = bytes("www");
    assert!(before == bytes("other/place"));
    let again = bench.page("www").expect(0);
    says(&again, &["0 of 2 compared", "0 of 2 read"]);
    assert!(
        again.stdout.contains("5 pages, 0 of them written"),
        "{}",
        again.stdout
    );

    // Another release: its own pages, the first page, and that of the image which is no longer the
    // newest.
    bench.release("3.0");
    let more = bench.page("www").expect(0);
    says(&more, &["2 of 3 compared", "1 of 3 read"]);
    assert!(
        more.stdout
            .contains("7 pages, 5 of them written, 1 removed"),
        "{}",
        more.stdout
    );
    bench.read("www").check();
    // An image by another name and in another environment is not read again.
    let both = bench
        .team
        .run("ann", &["page", "--out", "www", "--env", "dev"])
        .expect(0);
    says(&both, &["0 of 2 compared", "0 of 3 read"]);
    let dev = bench.read("www");
    dev.check();
    assert!(
        !dev.text("index.html").contains("prod"),
        "{}",
        dev.text("index.html")
    );

    // A page that was changed by hand is written again, one that somebody put there is not touched.
    let index = bench.team.path("www/index.html");
    fs::write(&index, "by hand").unwrap();
    fs::write(bench.team.path("www/robots.txt"), "ours").unwrap();
    bench.page("www").expect(0);
    assert!(
        fs::read_to_string(&index)
            .unwrap()
            .starts_with("<!DOCTYPE html>")
    );
    assert_eq!(
        fs::read(bench.team.path("www/robots.txt")).unwrap(),
        b"ours"
    );

    let tree = bench.team.tree("tree", "1");
    let refused = bench.page(tree.to_str().unwrap()).expect(2);
    says(
        &refused,
        &["has files that imgbuild did not write", "hint: "],
    );
    assert!(!tree.join("index.html").exists());
}

#[test]
fn nodes_are_shown_and_nothing_that_they_say_is_markup() {
    let bench = Bench::new();
    let (mut first, runs) = nodes::write(&bench);
    let page = |dir: &str| {
        let words = ["page", "--out", dir, "--receipts", "receipts"];
        bench.team.run("ann", &words).expect(0)
    };
    says(&page("www"), &["5 of 5 described"]);
    let pages = bench.read("www");
    pages.check();
    let raw: String = files(&bench.team.path("www"))
        .values()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for bad in ["<script", "<b>", "\u{202e}", "\u{1b}", "'x\""] {
        assert!(!raw.contains(bad), "{bad:?}");
    }
    has(
        pages.text("index.html"),
        &["What runs on which node", "Nodes of each environment"],
    );
    has(
        pages.text("fleet.html"),
        &[
            "Refused: receipts of nodes of prod cannot be believed: db01",
            "Refused: nobody has enrolled stranger",
            "No nodes are enrolled in dev.",
            "Nodes of prod by group and state; list 1 of them, signed by prod.targets",
            "not-believed",
            "never-seen",
            "it has written no receipt",
            "web 2 of dev is not a release of prod",
            SHOWN,
            "Releases on nodes of prod",
            "web 1",
        ],
    );
    let group = pages.text("fleet/prod~eu~1");
    has(
        group,
        &[
            "web01",
            "current",
            "web02",
            "failed",
            "does not run",
            SHOWN,
            "2 of 20",
        ],
    );
    assert!(!group.contains("db01"), "{group}");
    let node = pages.text("node/prod~web01");
    has(
        node,
        &[
            "web01 in prod",
            "Nothing: it is current.",
            "imgnode 0.1.0 <b>",
            &runs.image.hex()[..12],
            "upgrade",
            "failed",
            "done",
            SHOWN,
        ],
    );
    has(
        pages.text("node/prod~db01"),
        &["not-believed", "nobody: it is no receipt"],
    );
    has(
        pages.text("node/prod~web03"),
        &["never-seen", "It has told of none.", "There are none."],
    );

    // The same bytes elsewhere; nothing is done twice, and what is new alone is read.
    page("other");
    let bytes = |dir: &str| -> BTreeMap<String, Vec<u8>> {
        let files = files(&bench.team.path(dir)).into_iter();
        files
            .map(|(name, path)| (name, fs::read(path).unwrap()))
            .collect()
    };
    assert!(bytes("www") == bytes("other"));
    let again = page("www");
    says(&again, &["0 of 5 described"]);
    assert!(
        again.stdout.contains(" pages, 0 of them written"),
        "{}",
        again.stdout
    );
    first.says(&bench, &runs, store::receipt::Outcome::Done);
    let more = page("www");
    says(&more, &["1 of 5 described"]);
    // Its own page, and that of its group.
    assert!(
        more.stdout.contains(" pages, 2 of them written"),
        "{}",
        more.stdout
    );

    // The variable does as well; with dev alone there is nobody.
    let mut command = bench.team.command("ann");
    command
        .args(["page", "--out", "dev", "--env", "dev"])
        .env("IMGBUILD_RECEIPTS", bench.team.path("receipts"));
    Ran::of(&mut command).expect(0);
    let dev = bench.read("dev");
    dev.check();
    assert!(dev.names("node/").is_empty() && !dev.text("fleet.html").contains("stranger"));
    // Without receipts the pages go.
    bench.page("www").expect(0);
    let without = bench.read("www");
    without.check();
    assert!(without.names("node/").is_empty() && without.names("fleet").is_empty());
    // Nobody is told about nodes of an environment that they do not vouch for.
    let words = ["page", "--out", "eves", "--receipts", "receipts"];
    says(&bench.team.run("eve", &words).expect(3), &["env trust dev"]);
    assert!(!bench.team.path("eves").exists());
}

#[test]
fn what_was_revoked_ran_out_or_cannot_be_read_is_said() {
    let bench = Bench::new();
    let reason = format!("CVE-2026-1 {HOSTILE}");
    bench.ann(&["revoke", "prod/web/1", "--in", "prod", "--reason", &reason]);
    bench.page("www").expect(0);
    let pages = bench.read("www");
    pages.check();
    let log = bench
        .team
        .json("ann", &["env", "log", "prod", "--most", "1", "--json"]);
    let day = &log["entry"]["time"].as_str().unwrap()[..10];
    let revoked = format!("Refused: revoked in prod on {day}: CVE-2026-1 {SHOWN}");
    has(pages.text("index.html"), &[&revoked, "Revoked"]);
    let texts: Vec<&str> = pages
        .names("image/")
        .iter()
        .map(|name| pages.text(name))
        .collect();
    assert_eq!(
        texts.iter().filter(|text| text.contains(&revoked)).count(),
        1
    );

    // Two years on, by the clock that every tool of reproducible builds has.
    let late = u64::try_from(jiff_seconds()).unwrap() + 2 * 365 * 86_400;
    let mut command = bench.team.command("ann");
    command
        .args(["page", "--out", "www"])
        .env("SOURCE_DATE_EPOCH", late.to_string());
    Ran::of(&mut command).expect(0);
    let pages = bench.read("www");
    pages.check();
    has(
        pages.text("index.html"),
        &[
            "Refused: the signatures of timestamp ran out at",
            "nodes refuse prod",
        ],
    );
    // Somebody without these keys has not vouched for anything.
    bench.team.run("eve", &["page", "--out", "eves"]).expect(0);
    let eves = bench.read("eves");
    has(
        eves.text("index.html"),
        &["Warning: whoever wrote these pages has not vouched for prod"],
    );
    // She does not know who built it, but knows Ann by the policy.
    let texts: Vec<&str> = eves
        .names("image/")
        .iter()
        .map(|name| eves.text(name))
        .collect();
    assert!(
        texts
            .iter()
            .any(|text| text.contains("ann (") && text.contains("Not counted: "))
    );

    // A damaged image is named, on its page as well; the others are there.
    for entry in fs::read_dir(bench.team.path("store/packs"))
        .unwrap()
        .flatten()
    {
        fs::write(entry.path(), "damaged").unwrap();
    }
    let damaged = bench.page("fresh").expect(3);
    says(
        &damaged,
        &[
            "some of what they are about cannot be read",
            "hint: `imgbuild store fsck`",
        ],
    );
    let fresh = bench.read("fresh");
    fresh.check();
    has(
        fresh.text("image/"),
        &["Refused: the image cannot be read: "],
    );
    // What was read before is not read again.
    let kept = at(&bench.team, "+1s", "ann", &["page", "--out", "www"]).expect(0);
    says(&kept, &["0 of 2 read"]);
}

fn jiff_seconds() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs().cast_signed()
}

/// A server that is ended when a test fails.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn pages_are_served_to_this_machine_until_ctrl_c() {
    let bench = Bench::new();
    let scratch = bench.team.path("scratch");
    fs::create_dir(&scratch).unwrap();
    let mut command = bench.team.command("ann");
    command
        .args(["page", "--serve=127.0.0.1:0", "--json"])
        .env("TMPDIR", &scratch);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut serving = Serving(child);
    let lines = BufReader::new(serving.0.stdout.take().unwrap()).lines();
    let url = lines
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap())
        .find_map(|event| Some(event.get("url")?.as_str()?.to_owned()))
        .unwrap();
    let port = url
        .trim_end_matches('/')
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let get = |path: &str| http::get(port, path, "").unwrap();
    let (status, index) = get("/");
    assert_eq!(status, 200);
    assert!(index.contains("What is released where"), "{index}");
    let link = index
        .split("href=\"image/")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let (status, image) = get(&format!("/image/{link}"));
    assert!(
        status == 200 && image.contains("Where it is released"),
        "{image}"
    );
    for path in [
        "/.imgbuild/pages.json",
        "/../../../../etc/passwd",
        "/image/",
        "/favicon.ico",
    ] {
        assert_eq!(get(path).0, 404, "{path}");
    }
    // A name that somebody else made lead here.
    let (status, _) = http::get(port, "/", "Host: evil.example").unwrap();
    assert_eq!(status, 421);
    // One that says nothing keeps nobody else from reading.
    let _idle = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(get("/index.html").0, 200);
    let process = rustix::process::Pid::from_child(&serving.0);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    assert_eq!(serving.0.wait().unwrap().code(), Some(0));
    let left: Vec<_> = fs::read_dir(&scratch).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    // And by name, where no directory was named.
    let usage = bench.team.run("ann", &["page"]).expect(2);
    says(&usage, &["--out <DIR>"]);
}
