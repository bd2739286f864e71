//! The sections and keys of a recipe, read from the structs that are its schema.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A section of a recipe.
#[derive(Clone, Default)]
pub(crate) struct Section {
    /// Its path, such as `service.health`; empty for the top.
    pub(crate) path: String,
    /// As a person writes it: `[bootstrap]`, `[[user]]`.
    pub(crate) header: String,
    pub(crate) doc: String,
    pub(crate) keys: Vec<Key>,
}

/// A key of a section.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) name: String,
    /// What it takes: "a suite name".
    pub(crate) takes: String,
    /// Whether it is another section.
    pub(crate) is_section: bool,
    pub(crate) required: bool,
    pub(crate) doc: String,
    /// The type of its value, without `Option` and `Vec`.
    of: String,
    many: bool,
}

impl Key {
    /// The example in its documentation, `key = value`.
    pub(crate) fn example(&self) -> Option<&str> {
        let (_, rest) = self.doc.split_once("Example: `")?;
        rest.trim_end().strip_suffix('`')
    }
}

/// Every section, in the order in which the structs name them.
pub(crate) fn sections() -> Vec<Section> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/recipe");
    let read = |name: &str| fs::read_to_string(source.join(name)).unwrap();
    let structs = ["mod.rs", "tree.rs", "python.rs", "step.rs"]
        .map(read)
        .concat();
    let words = ["word.rs", "value.rs", "requirement.rs"].map(read).concat();
    let structs = structs_of(&structs, &names_of(&(words + &structs)));
    let mut found = Vec::new();
    collect("Recipe", "", "", &structs, &mut found);
    found
}

fn collect(
    name: &str,
    path: &str,
    header: &str,
    structs: &BTreeMap<String, Section>,
    found: &mut Vec<Section>,
) {
    let section = Section {
        path: path.to_owned(),
        header: header.to_owned(),
        ..structs[name].clone()
    };
    found.push(section.clone());
    for key in section.keys.iter().filter(|key| key.is_section) {
        let (path, header) = match (path, key.many) {
            ("", false) => (key.name.clone(), format!("[{}]", key.name)),
            ("", true) => (key.name.clone(), format!("[[{}]]", key.name)),
            (_, false) => (
                format!("{path}.{}", key.name),
                format!("[{path}.{}]", key.name),
            ),
            (_, true) => (
                format!("{path}.{}", key.name),
                format!("`{}` of {header}", key.name),
            ),
        };
        collect(&key.of, &path, &header, structs, found);
    }
}

/// What each type of a word or number is called: `Suite`, "a suite name".
fn names_of(source: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let line = line.trim();
        let (name, rest) = line
            .strip_prefix("pub struct ")
            .unwrap_or(line)
            .split_once(": \"")?;
        let (name, _) = name.split_once('(').unwrap_or((name, ""));
        let is_name =
            name.starts_with(char::is_uppercase) && name.chars().all(char::is_alphanumeric);
        is_name.then(|| {
            (
                name.to_owned(),
                rest.split('"').next().unwrap_or_default().to_owned(),
            )
        })
    };
    let known = [
        ("String", "a string"),
        ("bool", "true or false"),
        ("ImageName", "an image name"),
        ("BTreeMap<Variable, String>", "a table of strings"),
        ("BTreeMap<Projects, Index>", "a table of `main` and `extra`"),
        (
            "BTreeMap<Variable, SecretName>",
            "a table of names of secrets",
        ),
    ];
    let known = known.map(|(name, what)| (name.to_owned(), what.to_owned()));
    known
        .into_iter()
        .chain(source.lines().filter_map(line))
        .collect()
}

/// The structs of formatted source, by name.
fn structs_of(source: &str, names: &BTreeMap<String, String>) -> BTreeMap<String, Section> {
    let mut structs = BTreeMap::new();
    let mut open: Option<(String, bool, Section)> = None;
    let (mut doc, mut attributes) = (String::new(), String::new());
    for line in source.lines() {
        let text = line.trim();
        if let Some(text) = text.strip_prefix("///") {
            doc.push_str(text.strip_prefix(' ').unwrap_or(text));
            doc.push('\n');
            continue;
        }
        if text.starts_with("#[") {
            attributes.push_str(text);
            continue;
        }
        let (doc, attributes) = (std::mem::take(&mut doc), std::mem::take(&mut attributes));
        let item = text.strip_prefix("pub ").unwrap_or_default();
        if let Some(name) = item
            .strip_prefix("struct ")
            .and_then(|i| i.strip_suffix(" {"))
        {
            let section = Section {
                doc: doc.trim_end().to_owned(),
                ..Section::default()
            };
            open = Some((name.to_owned(), attributes.contains("(default,"), section));
        } else if line == "}" {
            structs.extend(open.take().map(|(name, _, section)| (name, section)));
        } else if let Some((_, all_optional, section)) = &mut open
            && let Some((field, kind)) = item.split_once(": ")
        {
            let kind = kind.trim_end_matches(',');
            let inside = |outer| {
                kind.strip_prefix(outer)
                    .and_then(|kind| kind.strip_suffix('>'))
            };
            let (option, list) = (inside("Option<"), inside("Vec<"));
            let of = option.or(list).unwrap_or(kind).to_owned();
            let renamed = attributes
                .split("rename = \"")
                .nth(1)
                .and_then(|a| a.split('"').next());
            let what = names.get(&of).map(String::as_str);
            section.keys.push(Key {
                name: renamed.map_or_else(|| field.replace('_', "-"), str::to_owned),
                takes: match (what, list) {
                    (Some(what), Some(_)) => format!("a list, each {what}"),
                    (Some(what), None) => what.to_owned(),
                    (None, Some(_)) => "a list of tables".to_owned(),
                    (None, None) => "a table".to_owned(),
                },
                is_section: what.is_none(),
                required: !*all_optional && option.is_none() && !attributes.contains("default"),
                doc: doc.trim_end().to_owned(),
                of,
                many: list.is_some(),
            });
        }
    }
    structs
}
