//! One page: clap's parts, and ours between them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Result;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::Manual;

/// The pages of a command and of every command below it, by the names of their files.
pub(crate) fn all(
    command: Command,
    manual: &Manual,
    date: &str,
) -> Result<BTreeMap<String, Vec<u8>>> {
    // `help COMMAND` says what the page says.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let version = command.get_version().unwrap_or_default();
    let book = Book {
        source: format!("{} {version}", command.get_name()),
        manual,
        date,
    };
    let mut pages = BTreeMap::new();
    book.add(&command, &[], &mut pages)?;
    Ok(pages)
}

/// What all pages have in common.
struct Book<'a> {
    /// Program and version.
    source: String,
    manual: &'a Manual,
    date: &'a str,
}

impl Book<'_> {
    /// `above`: the names of the pages that this one belongs to, the first one first.
    fn add(
        &self,
        command: &Command,
        above: &[String],
        pages: &mut BTreeMap<String, Vec<u8>>,
    ) -> Result<()> {
        let name = title(command);
        let file = format!("{name}.{}", self.manual.section);
        pages.insert(file, self.page(command, above)?);
        let above = [above, &[name]].concat();
        for child in shown(command) {
            self.add(child, &above, pages)?;
        }
        Ok(())
    }

    fn page(&self, command: &Command, above: &[String]) -> Result<Vec<u8>> {
        // In clap's own form, with all its values; clap_mangen's names options without them.
        let usage = command.clone().render_usage().to_string();
        let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned();
        let man = Man::new(command.clone().override_usage(usage))
            .title(title(command).to_uppercase())
            .section(self.manual.section)
            .date(self.date)
            .source(&self.source)
            .manual("imgbuild manual");
        let mut out = Vec::new();
        man.render_title(&mut out)?;
        // Most of it are words to be typed: none is broken, no line stretched to the margin.
        let mut plain = Roff::new();
        plain.control("ad", ["l"]).control("nh", []);
        plain.to_writer(&mut out)?;
        man.render_name_section(&mut out)?;
        man.render_synopsis_section(&mut out)?;
        man.render_description_section(&mut out)?;
        let mut options = Vec::new();
        man.render_options_section(&mut options)?;
        out.extend(lists(&options));
        if shown(command).next().is_some() {
            man.render_subcommands_section(&mut out)?;
        }
        let mut roff = Roff::new();
        let said = command.get_after_long_help().or(command.get_after_help());
        let said = Said::read(&said.map(ToString::to_string).unwrap_or_default());
        blocks(&mut roff, "NOTES", &said.notes);
        items(&mut roff, "EXIT STATUS", self.manual.exit_status);
        if above.is_empty() {
            items(&mut roff, "ENVIRONMENT", self.manual.environment);
            items(&mut roff, "FILES", self.manual.files);
        }
        blocks(&mut roff, "EXAMPLES", &said.examples);
        see_also(&mut roff, command, above, self.manual);
        roff.to_writer(&mut out)?;
        Ok(out)
    }
}

fn title(command: &Command) -> String {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name());
    name.to_owned()
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|child| !child.is_hide_set())
}

/// Makes lists of what is columns in the help of a terminal, and one break of several in a row.
fn lists(rendered: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(rendered);
    let is_break = |line: &str| line.is_empty() || line == ".br";
    let mut out = String::new();
    let lines: Vec<&str> = text.lines().collect();
    for run in lines.chunk_by(|a, b| is_break(a) && is_break(b)) {
        let line = run[0];
        match line.split_once("   ").filter(|_| !line.starts_with('.')) {
            Some((term, text)) => {
                let text = text.trim_start();
                let _ = writeln!(out, ".RS\n.TP\n{term}\n{text}\n.RE");
            }
            None if is_break(line) => out.push_str(".sp\n"),
            None => {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    out.into_bytes()
}

/// A paragraph, or lines that stay as they are.
#[derive(Debug, PartialEq, Eq)]
enum Block {
    Text(String),
    Lines(Vec<String>),
}

/// What stands below the options of a command's help.
#[derive(Debug, Default)]
struct Said {
    notes: Vec<Block>,
    examples: Vec<Block>,
}

impl Said {
    /// Takes it apart. A line that begins with `Example` begins one, which lasts until the next
    /// empty line; indented lines are lines; the rest is text. The table of exit codes is left out:
    /// each page has it.
    fn read(text: &str) -> Self {
        let mut said = Self::default();
        for part in text.split("\n\n") {
            let lines: Vec<&str> = part.lines().collect();
            if lines.first().is_some_and(|l| l.starts_with("Exit codes:")) {
                continue;
            }
            let is_example = |line: &&str| line.starts_with("Example");
            let at = lines.iter().position(is_example).unwrap_or(lines.len());
            let (notes, example) = lines.split_at(at);
            for run in notes.chunk_by(|a, b| indented(a) == indented(b)) {
                said.notes.push(if indented(run[0]) {
                    Block::Lines(dedent(run))
                } else {
                    Block::Text(run.join("\n"))
                });
            }
            if let Some((first, rest)) = example.split_first() {
                let first = first.split_once(':').map_or("", |(_, behind)| behind);
                let mut lines = dedent(rest);
                if !first.trim().is_empty() {
                    lines.insert(0, first.trim().to_owned());
                }
                said.examples.push(Block::Lines(lines));
            }
        }
        said
    }
}

fn indented(line: &str) -> bool {
    line.starts_with("  ")
}

/// The lines without the indentation that all of them have.
fn dedent(lines: &[&str]) -> Vec<String> {
    let depth = |line: &&str| line.len() - line.trim_start().len();
    let least = lines.iter().map(depth).min().unwrap_or(0);
    lines.iter().map(|line| line[least..].to_owned()).collect()
}

fn blocks(roff: &mut Roff, heading: &str, blocks: &[Block]) {
    if blocks.is_empty() {
        return;
    }
    roff.control("SH", [heading]);
    for (number, block) in blocks.iter().enumerate() {
        match block {
            Block::Text(text) => {
                if number > 0 {
                    roff.control("PP", []);
                }
                roff.text([roman(text)]);
            }
            Block::Lines(lines) => {
                if number > 0 {
                    roff.control("PP", []);
                }
                roff.control("RS", ["4"]).control("nf", []);
                for line in lines {
                    roff.text([roman(line)]);
                }
                roff.control("fi", []).control("RE", []);
            }
        }
    }
}

fn items(roff: &mut Roff, heading: &str, items: &[(&str, &str)]) {
    if items.is_empty() {
        return;
    }
    roff.control("SH", [heading]);
    for (term, text) in items {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*text)]);
    }
}

fn see_also(roff: &mut Roff, command: &Command, above: &[String], manual: &Manual) {
    let section = manual.section;
    let own = |name: &String| format!("{name}({section})");
    let mut pages: Vec<String> = above.iter().map(own).collect();
    if above.is_empty() {
        pages.extend(manual.see_also.iter().map(|&page| page.to_owned()));
    }
    pages.extend(shown(command).map(|child| own(&title(child))));
    roff.control("SH", ["SEE ALSO"]);
    for (number, page) in pages.iter().enumerate() {
        let (name, section) = page.split_once('(').unwrap_or((page, ""));
        let comma = if number + 1 < pages.len() { "," } else { "" };
        roff.text([bold(name), roman(format!("({section}{comma}"))]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_taken_apart() {
        let said = Said::read(
            "Text of\ntwo lines.\n\nA list:\n  one = 1\n    two = 2\nMore.\nExamples: a b\n          \
             c \\\n            d\n\nExit codes: 0 good\n1 bad",
        );
        let text = |text: &str| Block::Text(text.to_owned());
        let lines =
            |lines: &[&str]| Block::Lines(lines.iter().map(|&line| line.to_owned()).collect());
        assert_eq!(
            said.notes,
            [
                text("Text of\ntwo lines."),
                text("A list:"),
                lines(&["one = 1", "  two = 2"]),
                text("More."),
            ]
        );
        assert_eq!(said.examples, [lines(&["a b", "c \\", "  d"])]);
    }

    #[test]
    fn columns_become_lists() {
        let text = "help\n.br\n\n.br\na:B     first\nc:D     second\n.TP\n";
        let item = |term: &str, text: &str| format!(".RS\n.TP\n{term}\n{text}\n.RE\n");
        let wanted = [
            "help\n.sp\n",
            &item("a:B", "first"),
            &item("c:D", "second"),
            ".TP\n",
        ];
        assert_eq!(lists(text.as_bytes()), wanted.concat().as_bytes());
        assert_eq!(lists(b"help\nmore\n"), b"help\nmore\n");
    }

    #[test]
    fn every_shown_command_has_a_page() {
        let manual = Manual {
            section: "8",
            exit_status: &[("0", "done")],
            environment: &[],
            files: &[],
            see_also: &["schroot(1)"],
        };
        let command = Command::new("it").version("1.2").subcommands([
            Command::new("do")
                .about("Does")
                .after_help("Example:\n  it do .x"),
            Command::new("secret").hide(true),
        ]);
        let pages = all(command, &manual, "2026-01-02").unwrap();
        let names: Vec<&str> = pages.keys().map(String::as_str).collect();
        assert_eq!(names, ["it-do.8", "it.8"]);
        let text = |name: &str| String::from_utf8(pages[name].clone()).unwrap();
        assert!(text("it.8").contains(".TH IT 8 2026-01-02 \"it 1.2\" \"imgbuild manual\"\n"));
        assert!(text("it.8").contains("\\fBschroot\\fR(1),\n\\fBit\\-do\\fR(8)\n"));
        assert!(text("it-do.8").contains(".SH EXAMPLES\n.RS 4\n.nf\nit do .x\n.fi\n.RE\n"));
        assert!(text("it-do.8").contains(".SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\ndone\n"));
    }
}
