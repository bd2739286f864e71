//! Pages as Python's parser reads them, and what holds for every page.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::binaries::Ran;

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

/// The files of a directory of pages, by their paths in it.
pub(super) fn files(dir: &Path) -> BTreeMap<String, PathBuf> {
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

    /// The paths of the pages in a folder.
    pub(super) fn names(&self, folder: &str) -> Vec<&String> {
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
