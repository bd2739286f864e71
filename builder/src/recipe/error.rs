//! What is wrong with a recipe, and where.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A recipe that cannot be used: one sentence, its excerpt in the file with the
/// line shown, and most often a [`hint`](RecipeError::hint).
///
/// `Display` is the whole of it except the hint, over several lines:
///
/// ```text
/// fanery.toml:4:1: unknown key `includ` in [bootstrap]
///   |
/// 4 | includ = ["aptitude"]
///   | ^^^^^^
/// ```
#[derive(Debug)]
pub struct RecipeError(Box<Details>);

#[derive(Debug)]
struct Details {
    kind: RecipeErrorKind,
    file: PathBuf,
    excerpt: Option<Excerpt>,
    message: String,
    hint: Option<String>,
    source: Option<std::io::Error>,
}

/// The families of errors, for callers that treat them differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecipeErrorKind {
    /// The recipe itself cannot be read.
    Unreadable,
    /// The text is not TOML.
    Syntax,
    /// The text is TOML but not a recipe: a key, a type or a value.
    Invalid,
    /// A file that the recipe names is missing, unreadable, or lies elsewhere
    /// than beside the recipe.
    Beside,
}

/// A excerpt in a text: what to print for it.
#[derive(Debug)]
struct Excerpt {
    line: usize,
    column: usize,
    /// The line itself, without its end and without secrets.
    text: String,
    /// What stands before the excerpt in `text`, as blanks.
    lead: String,
    /// How many characters of it are meant.
    width: usize,
}

/// A mistake in the text being read, before it is known which file that is.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: RecipeErrorKind,
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// Where the same was said before.
    earlier: Option<Range<usize>>,
}

impl Fault {
    /// An invalid recipe, at these bytes of the text.
    pub(crate) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Fault {
            kind: RecipeErrorKind::Invalid,
            span,
            message: message.into(),
            hint: None,
            earlier: None,
        }
    }

    /// Makes it an error about the second of two equal things; the hint names the line
    /// of the first.
    pub(crate) fn earlier(mut self, span: Range<usize>) -> Self {
        self.earlier = Some(span);
        self
    }

    /// Adds advice.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        self
    }

    /// Makes it an error of another kind.
    pub(crate) fn kind(mut self, kind: RecipeErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Says in which file and on which line of `text` it happened.
    pub(crate) fn at(self, file: &Path, text: &str) -> RecipeError {
        let first = |span: &Range<usize>| {
            let line = Excerpt::of(text, span).line;
            format!("the first one is on line {line}")
        };
        let hint = self.hint.or_else(|| self.earlier.as_ref().map(first));
        RecipeError(Box::new(Details {
            kind: self.kind,
            file: file.to_owned(),
            excerpt: Some(Excerpt::of(text, &self.span)),
            message: redact(&self.message),
            hint: hint.as_deref().map(redact),
            source: None,
        }))
    }
}

impl RecipeError {
    /// A recipe that could not be read at all.
    pub(crate) fn unreadable(
        file: &Path,
        message: impl Into<String>,
        hint: Option<&str>,
        source: Option<std::io::Error>,
    ) -> Self {
        RecipeError(Box::new(Details {
            kind: RecipeErrorKind::Unreadable,
            file: file.to_owned(),
            excerpt: None,
            message: message.into(),
            hint: hint.map(str::to_owned),
            source,
        }))
    }

    /// Which family of error this is.
    pub fn kind(&self) -> RecipeErrorKind {
        self.0.kind
    }

    /// The file that is to be changed.
    pub fn file(&self) -> &Path {
        &self.0.file
    }

    /// Line and column, both counted from 1, columns in characters.
    pub fn position(&self) -> Option<(usize, usize)> {
        self.0
            .excerpt
            .as_ref()
            .map(|excerpt| (excerpt.line, excerpt.column))
    }

    /// The sentence alone, without excerpt and excerpt.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl Excerpt {
    fn of(text: &str, span: &Range<usize>) -> Self {
        let start = floor(text, span.start);
        let end = floor(text, span.end).max(start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = &text[line_start..];
        let line = &line[..line.find('\n').unwrap_or(line.len())];
        let line = line.strip_suffix('\r').unwrap_or(line);
        let meant = &text[start..end.min(line_start + line.len()).max(start)];
        Excerpt {
            line: before.matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            text: redact(line),
            // Tabs stay, so that the caret lands under its character whatever
            // a tab is worth.
            lead: redact(&text[line_start..start])
                .chars()
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect(),
            width: redact(meant).chars().count().max(1),
        }
    }
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The text with the credentials of every URL in it blotted out: errors
/// end up in logs.
fn redact(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || "/\"'`".contains(c))
            .unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            // `git` is everybody's name for SSH, not a secret.
            Some(at) if &after[..at] != "git" => {
                shown.push_str("***");
                &after[at..]
            }
            _ => after,
        };
    }
    shown.push_str(rest);
    shown
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.file.display())?;
        let Some(excerpt) = &self.0.excerpt else {
            return write!(f, ": {}", self.0.message);
        };
        writeln!(
            f,
            ":{}:{}: {}",
            excerpt.line, excerpt.column, self.0.message
        )?;
        let gutter = excerpt.line.to_string();
        let margin = " ".repeat(gutter.len());
        writeln!(f, "{margin} |")?;
        writeln!(f, "{gutter} | {}", excerpt.text)?;
        write!(
            f,
            "{margin} | {}{}",
            excerpt.lead,
            "^".repeat(excerpt.width)
        )
    }
}

impl std::error::Error for RecipeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .source
            .as_ref()
            .map(|error| error as &(dyn std::error::Error + 'static))
    }
}
