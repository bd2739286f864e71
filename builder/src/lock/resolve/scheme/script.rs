//! The little of Python that says where a version comes from: words and texts, without comments.

/// A piece of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A name or a number.
    Word(&'a str),
    /// What stands between quotes.
    Text(&'a str),
    /// What stands between the quotes of a text that is put together when the script runs, or has escapes.
    Made(&'a str),
    /// Any other character.
    Mark(char),
}

/// A piece and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed<'a> {
    pub(super) piece: Piece<'a>,
    /// The line, from 1.
    pub(super) line: usize,
    /// Whether it is the first of its line, without any indent.
    is_first: bool,
}

/// Arguments of `setup` that make no version.
const OTHER_ARGUMENTS: [&str; 7] = [
    "install_requires",
    "extras_require",
    "tests_require",
    "description",
    "long_description",
    "keywords",
    "packages",
];

/// A script as its pieces.
pub(super) struct Script<'a> {
    pieces: Vec<Placed<'a>>,
}

impl<'a> Script<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        let mut line = 1;
        let mut is_first = true;
        while let Some(c) = rest.chars().next() {
            let (piece, length) = if c == '#' {
                (None, rest.find('\n').unwrap_or(rest.len()))
            } else if c == '\\' {
                // A line that goes on.
                let next = rest.chars().nth(1).map_or(0, char::len_utf8);
                (None, 1 + next)
            } else if let Some((piece, length)) = quoted(rest) {
                (Some(piece), length)
            } else if is_name(c) {
                let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                (Some(Piece::Word(&rest[..length])), length)
            } else {
                let piece = (!c.is_whitespace()).then_some(Piece::Mark(c));
                (piece, c.len_utf8())
            };
            let (taken, after) = rest.split_at(length);
            if let Some(piece) = piece {
                pieces.push(Placed {
                    piece,
                    line,
                    is_first,
                });
            }
            is_first = taken.ends_with('\n') && c != '\\';
            line += taken.matches('\n').count();
            rest = after;
        }
        Self { pieces }
    }

    /// Its pieces but for arguments of `setup` that make no version, each with those before
    /// and after it.
    pub(super) fn telling(&self) -> impl Iterator<Item = (Placed<'a>, [Option<Piece<'a>>; 2])> {
        let mut end = 0;
        (0..self.pieces.len()).filter_map(move |at| {
            if at < end {
                return None;
            }
            if let Piece::Word(word) = self.pieces[at].piece
                && OTHER_ARGUMENTS.contains(&word)
                && self.is_argument(at)
            {
                end = self.value(at).end;
                return None;
            }
            let before = at.checked_sub(1).and_then(|before| self.piece(before));
            Some((self.pieces[at], [before, self.piece(at + 1)]))
        })
    }

    /// Whether `setup` is called, and each time with a version that stands in the script.
    pub(super) fn states_version(&self) -> bool {
        let is_call = |at: &usize| {
            self.piece(*at) == Some(Piece::Word("setup"))
                && self.piece(at + 1) == Some(Piece::Mark('('))
                && at
                    .checked_sub(1)
                    .is_none_or(|before| self.piece(before) != Some(Piece::Word("def")))
        };
        let mut calls = (0..self.pieces.len()).filter(is_call).peekable();
        calls.peek().is_some() && calls.all(|at| self.has_version(at + 2))
    }

    /// Whether the arguments that begin here have a version as text.
    fn has_version(&self, begin: usize) -> bool {
        let mut at = begin;
        // Only between arguments: values are passed over as a whole.
        while at < self.pieces.len() && self.piece(at) != Some(Piece::Mark(')')) {
            let value = if self.is_argument(at) {
                self.value(at)
            } else {
                at..self.end_of_value(at)
            };
            if self.piece(at) == Some(Piece::Word("version")) && self.is_argument(at) {
                return match self.pieces.get(value) {
                    Some([one]) => match one.piece {
                        Piece::Text(text) => is_version(text),
                        Piece::Word(name) => self.assigns_version(name),
                        _ => false,
                    },
                    _ => false,
                };
            }
            if self.piece(value.end) != Some(Piece::Mark(',')) {
                return false;
            }
            at = value.end + 1;
        }
        false
    }

    /// Whether a name has a version, as text, for the whole script.
    pub(super) fn assigns_version(&self, name: &str) -> bool {
        let mut sets = (0..self.pieces.len()).filter(|at| {
            let is_set = match (self.piece(at + 1), self.piece(at + 2)) {
                (Some(Piece::Mark('=')), next) => next != Some(Piece::Mark('=')),
                // `+=` and its like; an annotation.
                (Some(Piece::Mark(mark)), Some(Piece::Mark('='))) => !"!<>".contains(mark),
                (Some(Piece::Mark(mark)), _) => mark == ':',
                _ => false,
            };
            // The argument of a call has the same form.
            self.piece(*at) == Some(Piece::Word(name)) && is_set && !self.is_argument(*at)
        });
        let (Some(at), None) = (sets.next(), sets.next()) else {
            return false;
        };
        self.pieces[at].is_first
            && self.piece(at + 1) == Some(Piece::Mark('='))
            && matches!(self.piece(at + 2), Some(Piece::Text(text)) if is_version(text))
            && self.pieces.get(at + 3).is_none_or(|next| next.is_first)
    }

    /// Where it starts git by itself.
    pub(super) fn calls_git(&self) -> Option<usize> {
        const STARTERS: [&str; 6] = [
            "subprocess",
            "Popen",
            "popen",
            "check_output",
            "getoutput",
            "system",
        ];
        let starts = |p: &Placed<'_>| STARTERS.iter().any(|word| p.piece == Piece::Word(word));
        if !self.pieces.iter().any(starts) {
            return None;
        }
        let calls = |(at, placed): &(usize, &Placed<'a>)| match placed.piece {
            Piece::Text("git") => at
                .checked_sub(1)
                .is_some_and(|before| matches!(self.piece(before), Some(Piece::Mark('[' | '(')))),
            Piece::Text(text) | Piece::Made(text) => {
                let mut words = text.split_whitespace();
                words.next() == Some("git")
                    && words.next().is_some_and(|word| GIT_WORDS.contains(&word))
            }
            _ => false,
        };
        let (_, placed) = self.pieces.iter().enumerate().find(calls)?;
        Some(placed.line)
    }

    fn piece(&self, at: usize) -> Option<Piece<'a>> {
        self.pieces.get(at).map(|placed| placed.piece)
    }

    /// Whether an argument `name=` is here.
    fn is_argument(&self, at: usize) -> bool {
        let before = at.checked_sub(1).and_then(|before| self.piece(before));
        matches!(before, Some(Piece::Mark('(' | ',')))
            && matches!(self.piece(at), Some(Piece::Word(_)))
            && self.piece(at + 1) == Some(Piece::Mark('='))
            && self.piece(at + 2) != Some(Piece::Mark('='))
    }

    /// The value of the argument that is here.
    fn value(&self, at: usize) -> std::ops::Range<usize> {
        at + 2..self.end_of_value(at + 2)
    }

    /// Where the next comma or bracket is that belongs to no bracket from here on.
    fn end_of_value(&self, begin: usize) -> usize {
        let mut depth = 0_usize;
        for (at, placed) in self.pieces.iter().enumerate().skip(begin) {
            match placed.piece {
                Piece::Mark(',') if depth == 0 => return at,
                Piece::Mark('(' | '[' | '{') => depth += 1,
                Piece::Mark(')' | ']' | '}') => match depth.checked_sub(1) {
                    Some(less) => depth = less,
                    None => return at,
                },
                _ => {}
            }
        }
        self.pieces.len()
    }
}

/// What git is asked for a version, where a command is one text.
const GIT_WORDS: [&str; 12] = [
    "-C",
    "describe",
    "log",
    "ls-files",
    "name-rev",
    "rev-list",
    "rev-parse",
    "show",
    "show-ref",
    "status",
    "symbolic-ref",
    "tag",
];

/// The text in quotes that is at the beginning, and how long it is with them.
fn quoted(rest: &str) -> Option<(Piece<'_>, usize)> {
    let opened = rest.trim_start_matches(|c: char| "rRbBuUfFtT".contains(c));
    let prefix = rest.len() - opened.len();
    if prefix > 2 || !opened.starts_with(['"', '\'']) {
        return None;
    }
    let quote = &opened[..1];
    let triple = quote.repeat(3);
    let end = if opened.starts_with(&triple) {
        &triple
    } else {
        quote
    };
    let begin = prefix + end.len();
    let mut at = begin;
    let mut is_plain = !rest[..prefix].contains(['b', 'B', 'f', 'F', 't', 'T']);
    let length = loop {
        let left = &rest[at..];
        if left.starts_with(end) {
            break at + end.len();
        }
        match left.chars().next() {
            // What is never closed ends with its line.
            None => break at,
            Some('\n') if end.len() == 1 => break at,
            Some('\\') => {
                is_plain = false;
                at += 1 + left.chars().nth(1).map_or(0, char::len_utf8);
            }
            Some(c) => at += c.len_utf8(),
        }
    };
    let text = &rest[begin..at];
    let piece = if is_plain {
        Piece::Text(text)
    } else {
        Piece::Made(text)
    };
    Some((piece, length))
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Whether a text is a version and no template or command for one.
pub(super) fn is_version(text: &str) -> bool {
    let text = text.trim();
    let first = text.strip_prefix(['v', 'V']).unwrap_or(text);
    first.starts_with(|c: char| c.is_ascii_digit())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-+!".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_stands_in_a_script_is_seen() {
        for (text, is_stated) in [
            ("setup(name='a', version='1.0')", true),
            (
                "setuptools.setup(\n    version = \"1.0\",  # use_scm_version\n)",
                true,
            ),
            ("setup(x=dict(version='1'), version=u'1.0',)", true),
            ("V = '1.0'\nsetup(version=V)", true),
            ("V = '1.0'  # the version\n\nsetup(version=V)", true),
            ("V = '1.0'\nif 1:\n    V = ask()\nsetup(version=V)", false),
            ("V = '1.0'\nV += ask()\nsetup(version=V)", false),
            ("V = '1.0' + ask()\nsetup(version=V)", false),
            ("V = '1.0' \\\n  + ask()\nsetup(version=V)", false),
            ("if 1:\n    V = '1.0'\nsetup(version=V)", false),
            ("setup(version='1.0' + ask())", false),
            ("setup(version='1.0'.replace('1', ask()))", false),
            ("setup(version=f'{x}')", false),
            ("setup(version='{tag}')", false),
            ("setup(version=versioneer.get_version())", false),
            ("setup(x=dict(version='1'))", false),
            ("# setup(version='1.0')", false),
            ("'''\nsetup(version='1.0')\n'''\nsetup(**x)", false),
            ("def setup(version='1.0'): pass\n", false),
            (
                "if x:\n    setup(version='1')\nelse:\n    setup(version=ask())",
                false,
            ),
            ("setup(", false),
        ] {
            assert_eq!(Script::new(text).states_version(), is_stated, "{text}");
        }
    }

    #[test]
    fn a_call_of_git_is_seen() {
        for (text, line) in [
            ("import subprocess\nx = run(['git', 'describe'])", Some(2)),
            ("import os\n\nos.popen('git describe --tags')", Some(3)),
            ("import os\nos.popen(f'git -C {here} log')", Some(2)),
            (
                "import subprocess\n# ['git', 'describe']\nrun(['make'])",
                None,
            ),
            ("import subprocess\nraise Error('git is missing')", None),
            ("x = ['git', 'describe']", None),
        ] {
            assert_eq!(Script::new(text).calls_git(), line, "{text}");
        }
    }
}
