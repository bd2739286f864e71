//! The hosts that somebody names who may: the recipe, and the projects that it brings.
//!
//! A package may require a file or a repository by its address, and its build, which is a stranger's
//! code, learns what is there. So addresses lead to those hosts only: else a package could have this
//! machine ask others that only it reaches, and tell a host of its own what it found.

use std::collections::BTreeSet;
use std::fs;

use super::Sources;
use crate::recipe::Virtualenv;

/// What is longer than that, in bytes, is no list of requirements.
const LONGEST: u64 = 1 << 20;

/// Hosts, with their ports, in these requirements, in the addresses of the recipe's repositories, and
/// in the files at the top of its own projects: what a setup.py requires, it mostly writes there.
pub(super) fn named(
    virtualenv: &Virtualenv,
    sources: &Sources,
    requirements: &str,
) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = hosts_in(requirements).collect();
    for git in &virtualenv.git {
        found.extend(hosts_in(git.url.as_str()));
    }
    for tree in &sources.trees {
        let files = fs::read_dir(sources.dir.join(&tree.path));
        for file in files.into_iter().flatten().flatten() {
            let is_short = |meta: fs::Metadata| meta.is_file() && meta.len() <= LONGEST;
            // A symbolic link is not followed: DirEntry::metadata(3).
            if file.metadata().is_ok_and(is_short) {
                let text = fs::read(file.path()).unwrap_or_default();
                found.extend(hosts_in(&String::from_utf8_lossy(&text)));
            }
        }
    }
    found
}

/// Whether an address leads to one of these, and to no other. One without a host leads to none.
pub(super) fn leads_to(named: &BTreeSet<String>, address: &str) -> bool {
    let mut hosts = hosts_in(address).peekable();
    hosts.peek().is_some() && hosts.all(|host| named.contains(&host))
}

/// The hosts of all addresses in a text, with their ports.
fn hosts_in(text: &str) -> impl Iterator<Item = String> + '_ {
    let ends = |char: char| char.is_whitespace() || "/?#\\\"'`<>()[]{},;".contains(char);
    text.split("://").skip(1).filter_map(move |rest| {
        let authority = rest.split(ends).next()?;
        let host = authority.rsplit('@').next()?;
        (!host.is_empty()).then(|| host.to_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_wherever_an_address_stands() {
        let text = "a @ git+ssh://git@G.example/a@v1\nb@https://b.example:8443/b.zip#sha256=0\n\
             install_requires=['c @ http://c.example', \"d @ git+https://d.example?x\"]\n\
             file:///etc/passwd mailto:x@y.example";
        let found: Vec<String> = hosts_in(text).collect();
        assert_eq!(
            found,
            ["g.example", "b.example:8443", "c.example", "d.example"]
        );
    }

    #[test]
    fn an_address_leads_to_what_is_named_and_nowhere_else() {
        let named = BTreeSet::from(["g.example".to_owned()]);
        let leads = |address| leads_to(&named, address);
        assert!(leads("git+https://g.example/a@v1") && leads("git+ssh://git@G.example/a"));
        for elsewhere in [
            "git+https://h.example/a",
            "git+https://g.example:444/a",
            "git+https://g.example@h.example/a",
            "git+https://g.example/a?from=https://h.example",
            "git+git@g.example:a",
        ] {
            assert!(!leads(elsewhere), "{elsewhere}");
        }
    }
}
