//! Properties of the recipe parser over many generated recipes and texts.

use std::path::Path;

use builder::recipe::Recipe;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

fn parse(text: &str) -> Recipe {
    Recipe::parse(text, Path::new("generated.toml")).unwrap_or_else(|error| panic!("{error}"))
}

/// A TOML string literal of any text.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn quoted_list<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(", "))
}

/// The lines of one section, `key = value` each, to be shuffled.
type Lines = Vec<String>;

/// Any text that a file may hold: no NUL, which TOML cannot write plainly.
fn any_text() -> impl Strategy<Value = String> {
    "[ -~\n\t\"'\\\\äß€😀]{0,40}"
}

fn packages() -> impl Strategy<Value = Lines> {
    (
        btree_set("[a-z][a-z0-9+.]{1,8}[a-z0-9]", 1..4),
        any::<Option<bool>>(),
        any::<bool>(),
    )
        .prop_map(|(names, recommends, purge)| {
            if purge {
                return vec![format!("purge = {}", quoted_list(&names))];
            }
            let mut lines = vec![format!("install = {}", quoted_list(&names))];
            lines.extend(recommends.map(|flag| format!("recommends = {flag}")));
            lines
        })
}

fn file() -> impl Strategy<Value = Lines> {
    let link = "[a-z./]{1,20}".prop_map(|target| vec![format!("symlink = {}", quoted(&target))]);
    let content = (
        any_text(),
        proptest::option::of("[0-7]{3,4}"),
        any::<Option<bool>>(),
        any::<bool>(),
    )
        .prop_map(|(content, mode, append, owner)| {
            let mut lines = vec![format!("content = {}", quoted(&content))];
            lines.extend(mode.map(|mode| format!("mode = \"{mode}\"")));
            lines.extend(append.map(|flag| format!("append = {flag}")));
            lines.extend(owner.then(|| "owner = \"www-data\"".to_owned()));
            lines
        });
    prop_oneof![3 => content, 1 => link]
}

fn run() -> impl Strategy<Value = Lines> {
    (
        any_text(),
        btree_map("[A-Za-z_][A-Za-z0-9_]{0,8}", any_text(), 0..3),
        1u32..10_000,
        prop::sample::select(vec!["s", "m"]),
    )
        .prop_map(|(script, environment, number, unit)| {
            let mut lines = vec![
                format!("script = {}", quoted(&format!("true\n{script}"))),
                format!("timeout = \"{number}{unit}\""),
            ];
            if !environment.is_empty() {
                let pairs: Vec<_> = environment
                    .iter()
                    .map(|(name, value)| format!("{name} = {}", quoted(value)))
                    .collect();
                lines.push(format!("environment = {{ {} }}", pairs.join(", ")));
            }
            lines
        })
}

/// A recipe as header and shufflable lines of each section.
fn recipe() -> impl Strategy<Value = Vec<(String, Lines)>> {
    (
        "[a-z0-9][a-z0-9._-]{0,20}",
        vec(packages(), 0..3),
        vec(file(), 0..4),
        vec(run(), 0..3),
    )
        .prop_map(|(name, packages, files, runs)| {
            let mut sections = vec![
                (String::new(), vec![format!("name = \"{name}\"")]),
                (
                    "[bootstrap]".to_owned(),
                    vec!["suite = \"bookworm\"".to_owned()],
                ),
            ];
            sections.extend(
                packages
                    .into_iter()
                    .map(|lines| ("[[packages]]".to_owned(), lines)),
            );
            for (index, mut lines) in files.into_iter().enumerate() {
                lines.push(format!("path = \"/srv/{index}\""));
                sections.push(("[[file]]".to_owned(), lines));
            }
            sections.extend(runs.into_iter().map(|lines| ("[[run]]".to_owned(), lines)));
            sections
        })
}

fn write(sections: &[(String, Lines)]) -> String {
    let mut text = String::new();
    for (header, lines) in sections {
        text.extend([header, "\n", &lines.join("\n"), "\n\n"]);
    }
    text
}

/// The same recipe in another hand: keys turned around, comments in between.
fn rewrite(sections: &[(String, Lines)], turn: usize) -> String {
    let mut text = String::from("# another hand\n");
    for (header, lines) in sections {
        let mut lines = lines.clone();
        let count = lines.len();
        lines.rotate_left(turn % count);
        if turn % 2 == 1 {
            lines.reverse();
        }
        text.extend([header, " # a section\n\n  # a remark\n"]);
        for line in lines {
            text.extend(["  ", &line, "  # why\n"]);
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// How it is written does not matter.
    #[test]
    fn the_hand_changes_nothing(sections in recipe(), turn in 0usize..8) {
        let plain = parse(&write(&sections));
        let other = parse(&rewrite(&sections, turn));
        prop_assert_eq!(
            String::from_utf8(plain.canonical_json()),
            String::from_utf8(other.canonical_json())
        );
        prop_assert_eq!(plain, other);
    }

    /// The normalised value, written as TOML, is a recipe again, and the same.
    #[test]
    fn the_normal_form_is_a_recipe(sections in recipe()) {
        let once = parse(&write(&sections));
        let written = toml::to_string(&once).unwrap();
        let json = once.canonical_json();
        let read = Recipe::from_canonical_json(&json, Path::new("any.toml")).unwrap();
        for twice in [parse(&written), read] {
            prop_assert_eq!(
                String::from_utf8(json.clone()),
                String::from_utf8(twice.canonical_json())
            );
        }
    }

    /// No text makes the parser panic, and every error has a place in the text.
    #[test]
    fn any_text_is_a_recipe_or_an_error(text in any::<String>()) {
        check_any(&text);
    }

    /// The same near real recipes: one of them with a piece cut out or doubled.
    #[test]
    fn any_damage_is_a_recipe_or_an_error(from in 0usize..4000, length in 0usize..60, double in any::<bool>()) {
        let text = include_str!("../recipe/good/all.toml");
        let bound = |at: usize| (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        let (start, end) = (bound(from % text.len()), bound(from % text.len() + length));
        let middle = if double { text[start..end].repeat(2) } else { String::new() };
        check_any(&format!("{}{middle}{}", &text[..start], &text[end..]));
    }
}

fn check_any(text: &str) {
    if let Err(error) = Recipe::parse(text, Path::new("any.toml")) {
        let (line, column) = error.position().expect("a parsed text has places");
        assert!(line >= 1 && column >= 1);
        assert!(line <= text.matches('\n').count() + 1, "{error}");
        assert!(!error.message().is_empty());
        let _ = error.to_string();
    }
}
