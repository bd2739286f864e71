//! The reference of all sections and keys, as the page `docs/recipe.md`.

use std::fmt::Write as _;

use super::Recipe;
use super::field::{Key, Shape};

const HEAD: &str = "\
# Recipe reference

Every section and key of a recipe, from the definitions that the parser is made
of (`builder/src/recipe`). A recipe is TOML 1.0. An unknown key, a wrong type or
an empty list is an error that shows the line.

Lists of tables (`[[packages]]`) may be repeated and are processed in the order
written, and so is the whole: bootstrap, packages, system, users, files,
virtualenvs, free steps, clean-up, tests.
";

/// The whole page.
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    let mut sections = Vec::new();
    collect(Recipe::SHAPE, &mut sections);
    for shape in sections {
        section(shape, &mut text);
    }
    text
}

/// Sections in the order in which they are first named.
fn collect(shape: &'static Shape, found: &mut Vec<&'static Shape>) {
    if found.iter().any(|known| known.header == shape.header) {
        return;
    }
    found.push(shape);
    for key in shape.keys {
        if let Some(below) = key.section {
            collect(below, found);
        }
    }
}

fn section(shape: &Shape, text: &mut String) {
    let title = match shape.header {
        "" => "At the top".to_owned(),
        header if header.starts_with('[') => format!("`{header}`"),
        header => header.to_owned(),
    };
    let _ = write!(text, "\n## {title}\n\n{}\n", paragraphs(shape.doc));
    let keys = shape
        .keys
        .iter()
        .filter(|k| k.section.is_none() || !shape.header.is_empty());
    for key in keys {
        describe(key, text);
    }
}

fn describe(key: &Key, text: &mut String) {
    let default = match key.default {
        None => "required".to_owned(),
        Some("none") => "optional".to_owned(),
        Some(default) if default.starts_with(|c: char| c.is_ascii_digit() || "\"[".contains(c)) => {
            format!("default `{default}`")
        }
        Some(default) => format!("default: {default}"),
    };
    let doc = paragraphs(key.doc).replace('\n', "\n  ");
    let doc = doc.replace("\n  \n", "\n\n");
    let _ = write!(
        text,
        "\n- **`{}`**: {}; {default}.\n\n  {}\n",
        key.name,
        key.takes,
        doc.trim_end()
    );
}

/// Doc comments as Markdown: without the blank before each line, examples as
/// code.
fn paragraphs(doc: &str) -> String {
    let lines = doc.lines().map(|l| l.strip_prefix(' ').unwrap_or(l));
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}
