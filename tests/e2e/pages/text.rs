//! The code blocks of a page, and who types them.

use std::fs;

use tests::binaries::repository;

use super::fleet::Fleet;

/// A code block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) language: String,
    /// The line of the page on which it begins.
    pub(super) line: usize,
    /// Its text, as far to the left as it goes.
    pub(super) text: String,
}

impl Block {
    /// The commands in it, each on one line.
    pub(super) fn commands(&self) -> Vec<String> {
        let lines = super::lines(&format!("```sh\n{}```\n", self.text));
        let lines = lines.into_iter().map(|(_, line)| line);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect()
    }
}

/// The code blocks of a page.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut indent = None;
    for (number, line) in text.lines().enumerate() {
        let bare = line.trim_start();
        match (indent, bare.strip_prefix("```")) {
            (None, Some(language)) => {
                indent = Some(line.len() - bare.len());
                let (language, line) = (language.to_owned(), number + 1);
                let text = String::new();
                found.push(Block {
                    language,
                    line,
                    text,
                });
            }
            (Some(_), Some(_)) => indent = None,
            (Some(indent), None) => {
                let text = &mut found.last_mut().expect("one has begun").text;
                text.push_str(line.get(indent..).unwrap_or_default());
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

/// A page that is read from top to bottom.
pub(super) struct Page<'a> {
    fleet: &'a Fleet,
    name: &'static str,
    blocks: std::vec::IntoIter<Block>,
}

impl<'a> Page<'a> {
    /// A page of `docs/`, from its beginning.
    pub(super) fn open(fleet: &'a Fleet, name: &'static str) -> Self {
        let text = fs::read_to_string(repository().join("docs").join(name)).unwrap();
        Self {
            fleet,
            name,
            blocks: blocks(&text).into_iter(),
        }
    }

    /// The next block, which must begin so.
    #[track_caller]
    pub(super) fn next(&mut self, begins: &str) -> Block {
        let block = self.blocks.next();
        let block = block.unwrap_or_else(|| panic!("{} ends before `{begins}`", self.name));
        let (name, line) = (self.name, block.line);
        assert!(
            block.text.starts_with(begins),
            "{name}:{line}: `{begins}` was expected, not:\n{}",
            block.text
        );
        block
    }

    /// Somebody types the whole next block. What was on the screen.
    #[track_caller]
    pub(super) fn types(&mut self, machine: &str, begins: &str) -> String {
        let block = self.next(begins);
        self.fleet.types(machine, &block.text)
    }

    /// Each command of the next block is typed by somebody else. What was on their screens.
    #[track_caller]
    pub(super) fn types_each(&mut self, machines: &[&str], begins: &str) -> Vec<String> {
        let block = self.next(begins);
        let lines = block.commands();
        assert_eq!(lines.len(), machines.len(), "{}:{}", self.name, block.line);
        let both = machines.iter().zip(lines);
        both.map(|(machine, line)| self.fleet.types(machine, &line))
            .collect()
    }

    /// The next block, a session, is carried out: each command where the comment behind it says.
    /// What the page shows is seen, in that order; `...` stands for more, and a word with a digit
    /// for any such word. Commands that begin like one of `codes` end with that code.
    #[track_caller]
    pub(super) fn session(&mut self, codes: &[(&str, i32)]) {
        let fleet = self.fleet;
        self.session_by(|machine, command| {
            let code = codes.iter().find(|(start, _)| command.starts_with(start));
            fleet.types_and_ends(machine, command, code.map_or(0, |(_, code)| *code))
        });
    }

    /// The same where `types` types a command on a machine, and says what was on the screen.
    #[track_caller]
    pub(super) fn session_by(&mut self, types: impl Fn(&str, &str) -> String) {
        let block = self.next("$ ");
        for part in block.text.split("$ ").skip(1) {
            let (command, shown) = part.split_once('\n').unwrap_or((part, ""));
            let who = command.rsplit_once("# ").map(|(_, who)| who);
            let who = who.and_then(|who| who.split([' ', ',']).next());
            let who = who.unwrap_or_else(|| panic!("{}: whose is `{command}`?", self.name));
            let screen = types(&who.to_lowercase(), command);
            let mut lines = screen.lines().map(outline);
            for line in shown.lines().filter(|line| line.trim() != "...") {
                let wanted = outline(line);
                assert!(
                    lines.any(|line| line == wanted),
                    "{}:{}: `{line}` is not shown by `{command}`:\n{screen}",
                    self.name,
                    block.line
                );
            }
        }
    }

    /// The next block, which begins so, is typed nowhere: its commands are only parsed.
    #[track_caller]
    pub(super) fn skips(&mut self, begins: &str) {
        self.next(begins);
    }

    /// Nothing is left that nobody typed.
    #[track_caller]
    pub(super) fn ends(mut self) {
        let left = self.blocks.next();
        assert_eq!(left, None, "{}", self.name);
    }
}

/// A line without what differs each time.
fn outline(line: &str) -> String {
    let differs = |word: &str| word.contains(|letter: char| letter.is_ascii_digit());
    let words = line.split_whitespace();
    let words = words.map(|word| if differs(word) { "#" } else { word });
    words.collect::<Vec<_>>().join(" ")
}
