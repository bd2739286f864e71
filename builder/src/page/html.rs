//! HTML, written so that no text from outside can become markup.
//!
//! Names of tags and attributes and all markup are `'static`: they stand in this program. Everything
//! else goes through [`Html::text`] or the value of an attribute, and both escape it.

use std::fmt::{self, Display, Write as _};

use common::display::is_hidden;

/// A text from outside is cut after so many characters.
const MOST_CHARACTERS: usize = 400;

/// A piece of a page.
#[derive(Debug, Default)]
pub(super) struct Html(String);

/// Names and values of attributes.
pub(super) type Attributes<'a> = &'a [(&'static str, &'a str)];

impl Html {
    /// The text of the markup.
    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// Adds markup of this program.
    pub(super) fn raw(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// Adds what was written apart.
    pub(super) fn add(&mut self, other: &Self) {
        self.0.push_str(&other.0);
    }

    /// Adds text of this program, names and numbers among it.
    pub(super) fn text(&mut self, text: impl Display) {
        let _ = write!(Escaped(&mut self.0), "{text}");
    }

    /// Adds text from outside: its direction does not spread, and it is cut where it is very long.
    pub(super) fn outside(&mut self, text: &str) {
        self.0.push_str("<bdi>");
        match text.char_indices().nth(MOST_CHARACTERS) {
            None => self.text(text),
            Some((end, _)) => {
                let more = text[end..].chars().count();
                self.text(format_args!("{}… ({more} more characters)", &text[..end]));
            }
        }
        self.0.push_str("</bdi>");
    }

    /// Begins an element.
    pub(super) fn open(&mut self, tag: &'static str, attributes: Attributes<'_>) {
        let _ = write!(self.0, "<{tag}");
        for (name, value) in attributes {
            let _ = write!(self.0, " {name}=\"");
            self.text(value);
            self.0.push('"');
        }
        self.0.push('>');
    }

    /// Ends an element.
    pub(super) fn close(&mut self, tag: &'static str) {
        let _ = write!(self.0, "</{tag}>");
        if matches!(
            tag,
            "p" | "tr" | "li" | "table" | "h1" | "h2" | "h3" | "dl" | "section"
        ) {
            self.0.push('\n');
        }
    }

    /// Adds an element with what `inside` writes.
    pub(super) fn element(
        &mut self,
        tag: &'static str,
        attributes: Attributes<'_>,
        inside: impl FnOnce(&mut Self),
    ) {
        self.open(tag, attributes);
        inside(self);
        self.close(tag);
    }

    /// Adds an element with text of this program in it.
    pub(super) fn tag(&mut self, tag: &'static str, text: impl Display) {
        self.element(tag, &[], |html| html.text(text));
    }

    /// Adds an element with text from outside in it.
    pub(super) fn tag_outside(&mut self, tag: &'static str, text: &str) {
        self.element(tag, &[], |html| html.outside(text));
    }

    /// Adds a link to another page or place.
    pub(super) fn link(&mut self, to: &str, text: impl Display) {
        self.element("a", &[("href", to)], |html| html.text(text));
    }

    /// Adds a digest by its first digits; the whole is its title.
    pub(super) fn digest(&mut self, hex: &str) {
        self.element("code", &[("title", hex)], |html| {
            html.text(&hex[..hex.len().min(12)]);
        });
    }

    /// Adds the day of a time; the time is its title.
    pub(super) fn day(&mut self, time: jiff::Timestamp) {
        let text = time.to_string();
        let day = text.split('T').next().unwrap_or(&text);
        self.element("time", &[("datetime", &text), ("title", &text)], |html| {
            html.text(day);
        });
    }

    /// Adds a time to the minute; the whole is its title.
    pub(super) fn moment(&mut self, time: jiff::Timestamp) {
        let text = time.to_string();
        let shown = text.get(..16).unwrap_or(&text).replace('T', " ");
        self.element("time", &[("datetime", &text), ("title", &text)], |html| {
            html.text(format_args!("{shown} UTC"));
        });
    }

    /// Adds a table in a box of its own, which scrolls where it is too wide. `columns` are the
    /// heads, with a `#` before those of numbers; a row begins with [`Html::row`].
    pub(super) fn table(
        &mut self,
        caption: impl Display,
        columns: &[&str],
        rows: impl FnOnce(&mut Self),
    ) {
        let caption = caption.to_string();
        let label = ("aria-label", caption.as_str());
        self.open(
            "div",
            &[
                ("class", "box"),
                ("role", "region"),
                label,
                ("tabindex", "0"),
            ],
        );
        self.open("table", &[]);
        self.tag("caption", &caption);
        self.raw("<thead><tr>");
        for column in columns {
            let scope = ("scope", "col");
            match column.strip_prefix('#') {
                Some(name) => {
                    let attributes = [scope, ("class", "n")];
                    self.element("th", &attributes, |html| html.text(name));
                }
                None => self.element("th", &[scope], |html| html.text(column)),
            }
        }
        self.raw("</tr></thead>\n<tbody>\n");
        rows(self);
        self.raw("</tbody>");
        self.close("table");
        self.raw("</div>\n");
    }

    /// Adds a row whose first cell is its head.
    pub(super) fn row(&mut self, head: impl FnOnce(&mut Self), cells: impl FnOnce(&mut Self)) {
        self.open("tr", &[]);
        self.element("th", &[("scope", "row")], head);
        cells(self);
        self.close("tr");
    }

    /// Adds a cell with a number in it.
    pub(super) fn number(&mut self, text: impl Display) {
        self.element("td", &[("class", "n")], |html| html.text(text));
    }

    /// Adds a list of names and values.
    pub(super) fn pair(&mut self, name: &'static str, value: impl FnOnce(&mut Self)) {
        self.raw("<div>");
        self.tag("dt", name);
        self.element("dd", &[], value);
        self.raw("</div>\n");
    }

    /// Adds a sentence that somebody must see, after a word that says how bad it is.
    pub(super) fn notice(&mut self, notice: &Notice) {
        let (class, word) = match notice.weight {
            Weight::Bad => ("notice bad", "Refused"),
            Weight::Warning => ("notice warning", "Warning"),
            Weight::Plain => ("notice", "Note"),
        };
        self.element("p", &[("class", class)], |html| {
            html.tag("strong", format_args!("{word}:"));
            html.raw(" ");
            html.outside(&notice.text);
        });
    }
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// Nodes refuse it.
    Bad,
    /// Somebody should act.
    Warning,
    /// It is good to know.
    Plain,
}

/// A sentence that somebody must see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Notice {
    /// How bad it is.
    pub(super) weight: Weight,
    /// The sentence, without its full stop.
    pub(super) text: String,
}

impl Notice {
    /// One that nodes refuse.
    pub(super) fn bad(text: impl Into<String>) -> Self {
        let (weight, text) = (Weight::Bad, text.into());
        Self { weight, text }
    }

    /// One that somebody should act on.
    pub(super) fn warning(text: impl Into<String>) -> Self {
        let (weight, text) = (Weight::Warning, text.into());
        Self { weight, text }
    }

    /// One that is good to know.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        let (weight, text) = (Weight::Plain, text.into());
        Self { weight, text }
    }
}

/// Escapes what is written through it.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            match char {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // A browser shows a line break as a blank.
                '\n' => self.0.push_str("\\n"),
                '\t' => self.0.push_str("\\t"),
                _ if is_hidden(char) => write!(self.0, "{}", char.escape_unicode())?,
                _ => self.0.push(char),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup() {
        let mut html = Html::default();
        let hostile = "<script>alert('\"&')</script>\u{202e}\u{0}\n\u{1b}[31m";
        html.element("td", &[("title", hostile)], |html| html.outside(hostile));
        let shown = "&lt;script&gt;alert(&#39;&quot;&amp;&#39;)&lt;/script&gt;\
                     \\u{202e}\\u{0}\\n\\u{1b}[31m";
        let expected = format!("<td title=\"{shown}\"><bdi>{shown}</bdi></td>");
        assert_eq!(html.into_string(), expected);
    }

    #[test]
    fn a_very_long_text_is_cut_between_characters() {
        let mut html = Html::default();
        html.outside(&"ä<".repeat(5000));
        let text = html.into_string();
        let shown = "ä&lt;".repeat(MOST_CHARACTERS / 2);
        assert_eq!(text, format!("<bdi>{shown}… (9600 more characters)</bdi>"));
    }
}
