//! The modules of the crate stand in the order of the flow: each uses only what
//! `lib.rs` lists after it, so there is no ring among them.

use std::fs;
use std::path::{Path, PathBuf};

/// The paths that a `use` tree names, without their `as`.
fn paths(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((base, inner)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap_or(tree).trim().to_owned()];
    };
    let inner = inner.strip_suffix('}').expect("a use tree is closed");
    let (mut depth, mut item, mut items) = (0, String::new(), Vec::new());
    for char in inner.chars() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if char == ',' && depth == 0 {
            items.push(std::mem::take(&mut item));
        } else {
            item.push(char);
        }
    }
    items.push(item);
    let items = items.iter().filter(|item| !item.trim().is_empty());
    items
        .flat_map(|item| paths(&format!("{}{}", base.trim(), item.trim())))
        .collect()
}

/// What a file uses of its own crate, as paths below `prefix`. Tests may use anything.
fn uses(text: &str, prefix: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let code: String = lines.map(|line| format!("{line}\n")).collect();
    let mut found = Vec::new();
    for (number, piece) in code.split(prefix).enumerate() {
        if number > 0 {
            // As far as the path goes, or the statement of a `use`.
            let tree = piece.starts_with('{').then(|| piece.split(';').next());
            let word = |char: char| char.is_alphanumeric() || char == '_' || char == ':';
            let end = piece.find(|char| !word(char)).unwrap_or(piece.len());
            found.extend(paths(tree.flatten().unwrap_or(&piece[..end])));
        }
    }
    found
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("the sources are there").path();
        let name = path.file_name().expect("a file has a name");
        if path.is_dir() && name != "tests" {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

#[test]
fn modules_use_only_what_stands_after_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(root.join("lib.rs")).unwrap();
    let module = |line: &str| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
    };
    let order: Vec<String> = lib.lines().filter_map(module).collect();
    assert!(order.len() > 20, "{order:?}");
    // What the crate gives out at its root belongs to the module that it comes from.
    let given = uses(&lib, "pub use self::");
    let mut climbing = Vec::new();
    for (number, module) in order.iter().enumerate() {
        let mut sources = vec![root.join(format!("{module}.rs"))];
        if !sources[0].exists() {
            sources.clear();
            files(&root.join(module), &mut sources);
        }
        assert!(!sources.is_empty(), "{module}");
        for source in sources {
            let text = fs::read_to_string(&source).unwrap();
            for path in uses(&text, "crate::") {
                let first = path.split("::").next().unwrap_or_default();
                let end = format!("::{first}");
                let from = given.iter().find(|given| given.ends_with(&end));
                let from = from.map_or(first, |given| given.split("::").next().unwrap());
                if order[..number].iter().any(|above| above == from) {
                    climbing.push(format!("{} uses {path}", source.display()));
                }
            }
        }
    }
    assert!(climbing.is_empty(), "{}", climbing.join("\n"));
}
