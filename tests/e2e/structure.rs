//! What uses what inside the crates: downhill only.
//!
//! The head of a folder of modules (`lib.rs`, `main.rs`, `mod.rs`) lists them in the order of the
//! flow, in the last block ` ```text ` of its documentation, one name at the beginning of each line.
//! A module uses only modules that stand below it in that list, and nothing of its own head. So no
//! edge climbs and there is no ring. Test code may use what it likes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tests::binaries::repository;

/// The heads of the crates, and whether the rule holds inside their folders as well. In a
/// folder of `builder` and `store`, files and their head share private types.
const CRATES: [(&str, bool); 5] = [
    ("store/common/src/lib.rs", true),
    ("builder/src/lib.rs", false),
    ("store/src/lib.rs", false),
    ("verify/src/lib.rs", true),
    ("verify/src/main.rs", true),
];

#[test]
fn modules_use_only_what_stands_below_them() {
    let mut faults = Vec::new();
    for (head, inside) in CRATES {
        let mut tree = Modules::read(&repository().join(head));
        if !inside {
            tree.listed.retain(|name, _| name.is_empty());
        }
        assert!(!tree.sources.is_empty(), "{head} has modules");
        faults.extend(tree.faults());
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// A module by its names from the crate's root on.
type Name = Vec<String>;

/// The modules of one crate.
struct Modules {
    /// The code of each, without comments and tests, and the file that it is in.
    sources: BTreeMap<Name, (PathBuf, String)>,
    /// Which modules the head of a folder lists, in order.
    listed: BTreeMap<Name, Vec<String>>,
    /// What the crate's head gives out under its own name, and the module that it is in.
    given: BTreeMap<String, String>,
}

impl Modules {
    fn read(head: &Path) -> Self {
        let mut tree = Self {
            sources: BTreeMap::new(),
            listed: BTreeMap::new(),
            given: BTreeMap::new(),
        };
        let folder = head.parent().expect("a head is in a folder");
        tree.add(Name::new(), head, folder);
        for path in paths(&tree.sources[&Name::new()].1) {
            if let [_, module, .., name] = &path[..] {
                tree.given.insert(name.clone(), module.clone());
            }
        }
        tree
    }

    /// Adds a module and those that it declares, whose files are in `folder`.
    fn add(&mut self, name: Name, file: &Path, folder: &Path) {
        let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let code = code_of(&text);
        let children = declared(&code);
        for child in &children {
            let (flat, head) = (
                folder.join(format!("{child}.rs")),
                folder.join(child).join("mod.rs"),
            );
            let file = if flat.exists() { flat } else { head };
            let name = [name.clone(), vec![child.clone()]].concat();
            self.add(name, &file, &folder.join(child));
        }
        if children.len() > 1 {
            self.listed.insert(name.clone(), listing(&text, &children));
        }
        self.sources
            .insert(name, (file.to_owned(), without_inline_modules(&code)));
    }

    /// Everything that is against the rules, in sentences.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, listed) in &self.listed {
            let listed: BTreeSet<_> = listed.iter().collect();
            for child in self.children(name).filter(|child| !listed.contains(child)) {
                let file = self.sources[name].0.display();
                faults.push(format!("{file} does not list its module `{child}`"));
            }
        }
        for (user, (file, code)) in &self.sources {
            let used: BTreeSet<Name> = paths(code)
                .iter()
                .filter_map(|path| self.resolve(user, path))
                .collect();
            for used in used {
                if let Some(why) = self.objection(user, &used) {
                    let other = self.sources[&used].0.display();
                    faults.push(format!(
                        "{}: `{}` uses `{}` ({other}), {why}",
                        file.display(),
                        user.join("::"),
                        used.join("::")
                    ));
                }
            }
        }
        faults
    }

    fn children<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a String> {
        let below = self.sources.keys();
        let below = below.filter(move |one| one.len() == name.len() + 1 && one.starts_with(name));
        below.filter_map(|one| one.last())
    }

    /// The module that a path in the code of `user` is in.
    fn resolve(&self, user: &Name, path: &[String]) -> Option<Name> {
        let mut name = match path.first()?.as_str() {
            "crate" => Name::new(),
            "self" | "super" => user.clone(),
            _ => return None,
        };
        for part in path {
            if part == "super" {
                name.pop();
            } else if !matches!(part.as_str(), "crate" | "self") {
                name.push(part.clone());
                if !self.sources.contains_key(&name) {
                    name.pop();
                    name.extend(self.given.get(part).filter(|_| name.is_empty()).cloned());
                    break;
                }
            }
        }
        Some(name)
    }

    /// Why one module may not use another.
    fn objection(&self, from: &Name, to: &Name) -> Option<String> {
        if to.starts_with(from) {
            return None;
        }
        if from.starts_with(to) && self.listed.contains_key(&from[..to.len()]) {
            return Some("its own head".to_owned());
        }
        let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        let order = self.listed.get(&from[..common])?;
        let place = |name: &Name| order.iter().position(|one| *one == name[common]);
        match (place(from), place(to)) {
            (Some(high), Some(low)) if high < low => None,
            (Some(_), Some(_)) => Some(format!(
                "and `{}` stands above `{}`",
                to[common], from[common]
            )),
            // That it is not listed is said already.
            _ => None,
        }
    }
}

/// Code without comments and without the module of its tests.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]"
            && let Some(next) = lines.peek()
            && next.contains("mod ")
        {
            if next.ends_with('{') {
                break;
            }
            lines.next();
        } else if !line.trim_start().starts_with("//") {
            code += line;
            code.push('\n');
        }
    }
    code
}

/// The modules that are declared with files of their own.
fn declared(code: &str) -> Vec<String> {
    let names = code.lines().filter_map(|line| {
        let line = line.strip_suffix(';')?;
        let line = ["pub(crate) ", "pub(super) ", "pub "]
            .iter()
            .find_map(|public| line.strip_prefix(public))
            .unwrap_or(line);
        line.strip_prefix("mod ")
    });
    names.map(str::to_owned).collect()
}

/// The code without modules that stand inside it: `super` means something else there.
fn without_inline_modules(code: &str) -> String {
    let mut out = String::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("mod ") && line.ends_with('{') {
            lines.by_ref().find(|line| *line == "}");
        } else {
            out += line;
            out.push('\n');
        }
    }
    out
}

/// The modules that the documentation of a head lists, in order.
fn listing(text: &str, modules: &[String]) -> Vec<String> {
    let docs: Vec<&str> = text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    let start = docs.iter().rposition(|line| *line == "```text");
    let block = docs
        .iter()
        .skip(start.map_or(docs.len(), |start| start + 1));
    block
        .take_while(|line| !line.starts_with("```"))
        .filter_map(|line| line.split(' ').next())
        .filter(|word| modules.iter().any(|module| module == word))
        .map(str::to_owned)
        .collect()
}

/// Every path in code that begins with `crate`, `self` or `super`, lists in braces taken apart.
fn paths(code: &str) -> Vec<Vec<String>> {
    let words = words(code);
    let mut all = Vec::new();
    let mut at = 0;
    while at + 1 < words.len() {
        let begins = matches!(words[at], "crate" | "self" | "super") && words[at + 1] == "::";
        let inside = at > 0 && words[at - 1] == "::";
        if begins && !inside {
            at = expand(&words, at, &[], &mut all);
        } else {
            at += 1;
        }
    }
    all
}

/// Reads one path, or one list of them, from `at` on; says where it ends.
fn expand(words: &[&str], mut at: usize, prefix: &[String], all: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match words.get(at) {
            Some(&"{") => {
                at += 1;
                while words.get(at).is_some_and(|word| *word != "}") {
                    let next = expand(words, at, &path, all);
                    at = next.max(at + 1);
                }
                return at + 1;
            }
            Some(word) if is_name(word) => path.push((*word).to_owned()),
            _ => break,
        }
        at += 1;
        if words.get(at) != Some(&"::") {
            break;
        }
        at += 1;
    }
    if path.len() > prefix.len() {
        all.push(path);
    }
    at
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::`, and whatever else there is, one character each.
fn words(code: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        let length = match name {
            Some(0) if rest.starts_with("::") => 2,
            Some(0) => first.len_utf8(),
            Some(length) => length,
            None => rest.len(),
        };
        words.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    words
}

#[test]
fn edges_that_climb_and_heads_that_list_too_little_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let src = directory.path();
    let write = |file: &str, text: &str| {
        let path = src.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "lib.rs",
        "//! Rooms.\n//! ```text\n//! top  what\n//! low  what\n//! ```\nmod low;\nmod other;\nmod top;\n",
    );
    write("top.rs", "use crate::low::{a::{self, A}, b};\n");
    write(
        "low/mod.rs",
        "//! ```text\n//! a   what\n//! b   what\n//! ```\nmod a;\nmod b;\npub struct Low;\n",
    );
    write(
        "low/a.rs",
        "use super::{Low, b::B};\n// use crate::top::T;\n#[cfg(test)]\nmod tests {\n    use crate::top::T;\n}\n",
    );
    write(
        "low/b.rs",
        "use super::a;\nfn f() { crate::top::run() }\nmod c {\n    use super::g;\n}\n",
    );
    write("other.rs", "");
    let faults = Modules::read(&src.join("lib.rs")).faults();
    let said = |what: &str| faults.iter().any(|fault| fault.contains(what));
    assert!(said("does not list its module `other`"), "{faults:?}");
    assert!(said("`low::a` uses `low` "), "{faults:?}");
    assert!(said("`low::b` uses `low::a` "), "{faults:?}");
    assert!(said("`low::b` uses `top` "), "{faults:?}");
    assert_eq!(faults.len(), 4, "{faults:?}");
}
