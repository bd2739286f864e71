//! Requirements and constraints files: what pip reads, line by line.
//!
//! The format is that of pip's documentation, "Requirements File Format". What a line names
//! beside the recipe (`-r`, `-c`, `-e DIRECTORY`) or in a Git repository is taken as if the
//! recipe named it, so that the lock and its checks see it. What names an index is refused:
//! indexes are a matter of the machine.

mod options;
mod wanted;

use std::ops::Range;

use self::options::{is_list_of_names, is_of_the_machine, read_option, unquoted};
use self::wanted::read_wanted;
pub(crate) use self::wanted::repository;
use super::python::Git;
use super::requirement::{Extra, PipGit};

/// A line, continued lines joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// A PEP 508 requirement, perhaps with `--hash`.
    Requirement(String),
    /// A file by its address, or a repository by its and under a condition.
    Address(String),
    /// An option that pip takes from a file and that changes what it chooses.
    Option(String),
    /// `-r`: a further requirements file, by its path from this one.
    Requirements(String),
    /// `-c`: a constraints file, likewise.
    Constraints(String),
    /// A Python package in a directory: its path as written, its extras.
    Directory(String, Vec<Extra>),
    /// A wheel or source archive: its path as written.
    Distribution(String),
    /// A Python package in a Git repository, and its extras.
    Git(Git, Vec<Extra>),
}

/// What a file is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It says what to install.
    Requirements,
    /// It only limits versions.
    Constraints,
}

/// What is wrong in such a file, and at which bytes.
#[derive(Debug)]
pub(crate) struct BadLine {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl BadLine {
    pub(crate) fn new(
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            span,
            message: message.into(),
            hint: Some(hint.into()).filter(|hint| !hint.is_empty()),
        }
    }
}

/// The text of such a file: UTF-8, or what a byte order mark says.
pub(crate) fn decode(bytes: &[u8]) -> Option<String> {
    let units = |unit: fn([u8; 2]) -> u16| {
        let pairs = bytes.chunks_exact(2).skip(1);
        let units: Vec<u16> = pairs.map(|two| unit([two[0], two[1]])).collect();
        String::from_utf16(&units).ok()
    };
    match bytes {
        [0xff, 0xfe, ..] => units(u16::from_le_bytes),
        [0xfe, 0xff, ..] => units(u16::from_be_bytes),
        _ => String::from_utf8(bytes.to_vec()).ok(),
    }
}

/// Reads a file, each line with its place.
pub(crate) fn read(text: &str, purpose: Purpose) -> Result<Vec<(Line, Range<usize>)>, BadLine> {
    let mut lines = Vec::new();
    let mut wants_digests = false;
    let mut start = 0;
    for raw in with_joined_lines(text).split_inclusive('\n') {
        let line = without_comment(raw.trim_end());
        let words = line.trim();
        if !words.is_empty() {
            let from = start + line.len() - line.trim_start().len();
            let span = from..from + words.len();
            let read = read_options(words, &span, purpose);
            let read = read.map_err(|bad| {
                if is_of_the_machine(words) {
                    with_more_like_it(bad, text, start + raw.len())
                } else {
                    bad
                }
            });
            for word in read? {
                match word {
                    Line::Option(option) if option == "--require-hashes" => wants_digests = true,
                    line => lines.push((line, span.clone())),
                }
            }
        }
        start += raw.len();
    }
    for (line, span) in lines.iter().filter(|_| wants_digests) {
        if matches!(line, Line::Requirement(line) if !line.contains("--hash=")) {
            return Err(BadLine::new(
                span.clone(),
                "`--require-hashes` wants a digest of each requirement, and this one has none",
                "let the tool that wrote the file write it again, or leave that option out",
            ));
        }
    }
    Ok(lines)
}

/// Adds to a fault at an option that is a matter of the machine the later lines that have one: a
/// file that was made for other indexes often has several.
fn with_more_like_it(mut bad: BadLine, text: &str, from: usize) -> BadLine {
    let first = text[..from].matches('\n').count() + 1;
    let rest = text[from..].lines().zip(first..);
    let more = rest.filter(|(line, _)| is_of_the_machine(without_comment(line).trim()));
    let more: Vec<String> = more.map(|(_, number)| number.to_string()).collect();
    if !more.is_empty() {
        let lines = if more.len() == 1 { "line" } else { "lines" };
        let more = more.join(", ");
        bad.message = format!("{}; likewise in {lines} {more}", bad.message);
    }
    bad
}

/// A line without blanks around it. Options that take no file may share one, and pip reads
/// them in their order.
fn read_options(line: &str, span: &Range<usize>, purpose: Purpose) -> Result<Vec<Line>, BadLine> {
    let mut options = Vec::new();
    let mut rest = line;
    while rest.starts_with("--") {
        let end = rest.find([' ', '\t', '=']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let after = after.trim_start();
        let (option, more) = match name {
            "--pre" | "--prefer-binary" | "--require-hashes" if !after.starts_with('=') => {
                (name.to_owned(), after)
            }
            "--no-binary" | "--only-binary" => {
                let value = after.trim_start_matches(['=', ' ', '\t']);
                let end = value.find([' ', '\t']).unwrap_or(value.len());
                let (value, more) = value.split_at(end);
                let value = unquoted(value);
                if !is_list_of_names(value) {
                    break;
                }
                (format!("{name}={value}"), more)
            }
            _ => break,
        };
        options.push(Line::Option(option));
        rest = more.trim_start();
    }
    let span = span.start + line.len() - rest.len()..span.end;
    if options.is_empty() {
        return Ok(vec![read_line(rest, &span, purpose)?]);
    }
    if !rest.is_empty() {
        if rest.starts_with('-') {
            read_line(rest, &span, purpose)?;
        }
        return Err(BadLine::new(
            span,
            format!("`{rest}` cannot stand behind an option: pip ignores one of them"),
            "write each into a line of its own",
        ));
    }
    let is_digests = |line: &Line| *line == Line::Option("--require-hashes".to_owned());
    if purpose == Purpose::Constraints && !options.iter().all(is_digests) {
        return Err(no_limit(span));
    }
    Ok(options)
}

fn no_limit(span: Range<usize>) -> BadLine {
    BadLine::new(
        span,
        "this wants more than a limit",
        "a constraints file holds requirements; others go into a requirements file",
    )
}

/// A line without blanks around it that says one thing.
fn read_line(line: &str, span: &Range<usize>, purpose: Purpose) -> Result<Line, BadLine> {
    if line.contains("${") {
        return Err(BadLine::new(
            span.clone(),
            "a variable of the environment, which differs from machine to machine",
            "write its value, or several files and recipes",
        ));
    }
    let is_option = line.starts_with('-');
    if purpose == Purpose::Constraints && !is_option && is_address(line) {
        let project = line.split(['@', '[', ' ']).next().unwrap_or_default();
        let project = if project.contains(':') {
            "NAME"
        } else {
            project
        };
        return Err(BadLine::new(
            span.clone(),
            "a constraints file limits versions, and this is the address of a file",
            format!(
                "write the version here, {project}==VERSION, and the address with its \
                 --hash=sha256:DIGEST into a requirements file"
            ),
        ));
    }
    let read = if is_option {
        read_option(line, span)?
    } else {
        read_wanted(line, span, purpose)?
    };
    match read {
        Line::Requirement(_) | Line::Constraints(_) => Ok(read),
        _ if purpose == Purpose::Requirements => Ok(read),
        _ => Err(no_limit(span.clone())),
    }
}

/// Whether a line names a file by its address.
fn is_address(line: &str) -> bool {
    line.contains("://") && PipGit::of(line).is_none()
}

/// The text with as many blanks for each end of a line that goes on, as pip joins lines, and for
/// a mark of the byte order: every character else stays in its place. A comment does not go on.
fn with_joined_lines(text: &str) -> String {
    const MARK: &str = "\u{feff}";
    let mut joined = String::with_capacity(text.len());
    // As old as a Macintosh, and as pip reads it.
    let alone = text.replace("\r\n", "\n\n").replace('\r', "\n");
    let text = if text.contains('\n') { text } else { &alone };
    let text = match text.strip_prefix(MARK) {
        Some(rest) => {
            joined.push_str(&" ".repeat(MARK.len()));
            rest
        }
        None => text,
    };
    for raw in text.split_inclusive('\n') {
        let line = raw.trim_end_matches(['\r', '\n']);
        match line.strip_suffix('\\') {
            Some(begun) if !line.trim_start().starts_with('#') => {
                joined.push_str(begun);
                joined.push_str(&" ".repeat(raw.len() - begun.len()));
            }
            _ => joined.push_str(raw),
        }
    }
    joined
}

/// A comment begins the line or follows a blank: `#egg` in a URL is none.
fn without_comment(line: &str) -> &str {
    let comment = line
        .char_indices()
        .find(|&(i, c)| c == '#' && (i == 0 || line[..i].ends_with(char::is_whitespace)));
    comment.map_or(line, |(i, _)| &line[..i])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Line> {
        let read = read(text, Purpose::Requirements).unwrap();
        read.into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn every_kind_of_line_is_known() {
        let digest = "0".repeat(64);
        let plain = |text: &str| Line::Requirement(text.to_owned());
        let directory = |path: &str, extras: &[&str]| {
            let extras = extras.iter().map(|e| e.parse().unwrap()).collect();
            Line::Directory(path.to_owned(), extras)
        };
        for (text, line) in [
            ("-r base.txt", Line::Requirements("base.txt".to_owned())),
            ("-rbase.txt", Line::Requirements("base.txt".to_owned())),
            (
                "--requirement=../b.txt",
                Line::Requirements("../b.txt".to_owned()),
            ),
            ("--constraint c.txt", Line::Constraints("c.txt".to_owned())),
            ("-e .", directory(".", &[])),
            (
                "-e ./app[one, two]  # ours",
                directory("./app", &["one", "two"]),
            ),
            ("libs/a", directory("libs/a", &[])),
            (
                "./wheels/a-1-py3-none-any.whl",
                Line::Distribution("./wheels/a-1-py3-none-any.whl".to_owned()),
            ),
            ("--pre", Line::Option("--pre".to_owned())),
            ("--no-binary 'a'", Line::Option("--no-binary=a".to_owned())),
            ("idna[]>=3,", plain("idna[]>=3,")),
            (
                "--no-binary a,b.c",
                Line::Option("--no-binary=a,b.c".to_owned()),
            ),
            (
                "--only-binary=:all:",
                Line::Option("--only-binary=:all:".to_owned()),
            ),
            (
                "flask ; python_version > '3'",
                plain("flask ; python_version > '3'"),
            ),
            ("a[x]==1", plain("a[x]==1")),
        ] {
            assert_eq!(lines(text), [line], "{text}");
        }
        let option = |text: &str| Line::Option(text.to_owned());
        for (text, options) in [
            ("--pre --prefer-binary", ["--pre", "--prefer-binary"]),
            (
                "--no-binary=six  --only-binary idna # both",
                ["--no-binary=six", "--only-binary=idna"],
            ),
            (
                "--only-binary :all: --require-hashes --pre",
                ["--only-binary=:all:", "--pre"],
            ),
        ] {
            assert_eq!(lines(text), options.map(option), "{text}");
        }
        let commit = "3b18e512dba79e4c8300dd08aeb37f8e728b8dad";
        let egg = "-e git+https://g.example/a@v1#egg=a[redis]&subdirectory=pkgs/core/";
        let Line::Git(git, extras) = &lines(egg)[0] else {
            panic!("{egg}")
        };
        assert_eq!(extras[0].as_str(), "redis");
        assert_eq!(git.subdirectory.as_ref().unwrap().as_str(), "pkgs/core");
        assert_eq!(lines("# old\rflask\ridna\r").len(), 2);
        for (text, url, tag, subdirectory) in [
            (
                "a[x] @ git+https://g.example/x/a@v1#egg=a&subdirectory=py",
                "https://g.example/x/a",
                Some("v1"),
                Some("py"),
            ),
            (
                &format!("-e git+ssh://git@g.example/a@{commit}#egg=a"),
                "ssh://git@g.example/a",
                None,
                None,
            ),
        ] {
            let Line::Git(git, _) = &lines(text)[0] else {
                panic!("{text}")
            };
            assert_eq!(git.url.as_str(), url);
            assert_eq!(git.tag.as_ref().map(AsRef::<str>::as_ref), tag);
            assert_eq!(git.commit.is_some(), tag.is_none());
            assert_eq!(
                git.subdirectory.as_ref().map(AsRef::<str>::as_ref),
                subdirectory
            );
        }
        for good in [
            format!("a @ https://x.example/a-1.0.tar.gz \\\n    --hash=sha256:{digest}\n"),
            format!("https://x.example/a-1-py3-none-any.whl#sha256={digest}\n# flask\n"),
            "\u{feff}requests \\\n  >=2.0, \\\r\n  <3\n".to_owned(),
            format!("flask==3 \\\n  ; python_version > '3' \\\n  --hash=sha256:{digest}\n"),
            "# not continued \\\nflask\n".to_owned(),
            "a @ https://x.example/x/a/archive/refs/tags/v1.0.tar.gz\n".to_owned(),
            "https://x.example/x/a/archive/3b18e51.zip#egg=a\n".to_owned(),
            "a @ git+https://g.example/a@v1 ; python_version < '3.8'\n".to_owned(),
            "-e git+https://g.example/a@v1#egg=a ; python_version < '3.8'\n".to_owned(),
            format!("--require-hashes\na==1 --hash=sha256:{digest}\n"),
        ] {
            assert_eq!(lines(&good).len(), 1, "{good}");
        }
    }

    #[test]
    fn a_byte_order_mark_says_how_it_is_written() {
        let utf16: Vec<u16> = "\u{feff}flask\r\n".encode_utf16().collect();
        let little: Vec<u8> = utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = utf16.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        for bytes in [&little[..], &big, b"flask\r\n"] {
            assert_eq!(decode(bytes).unwrap(), "flask\r\n");
        }
        assert!(decode(b"fl\xe4sk").is_none());
    }

    #[test]
    fn what_cannot_be_followed_is_answered_with_what_to_do() {
        for (text, hint) in [
            ("--index-url https://x.example/simple\n", "pip config"),
            ("idna==${VERSION}\n", "its value"),
            ("--find-links ./wheels\n", "./DIRECTORY"),
            ("--config-settings x=y\n", "`environment`"),
            ("--isolated\n", "--no-binary"),
            ("--pre x\n", "line of its own"),
            ("--pre -r base.txt\n", "line of its own"),
            ("--pre --index-url https://x.example/\n", "pip config"),
            ("--no-binary=six --no-binary\n", "those that can"),
            ("idna --pre\n", "line of its own"),
            ("idna --config-settings x=y\n", "`environment`"),
            ("idna -C x=y\n", "`local`"),
            ("idna --global-option=build\n", "`environment`"),
            ("idna==3 --hash=sha512:00\n", "`sha256sum FILE`"),
            ("idna==3 --hash=md5:00\n", "the tool that wrote"),
            ("idna==3 --hash sha256:00\n", "one word"),
            ("idna==3 --hash=sha256:00\n", "`sha256sum FILE`"),
            (
                "idna-3.20-py3-none-any.whl\n",
                "./idna-3.20-py3-none-any.whl",
            ),
            ("idna-3.20.tar.gz\n", "./idna-3.20.tar.gz"),
            ("idna<!3\n", "`<3` or `!=3`"),
            ("idna >= 3 <4 # old\n", "`>=3,<4`"),
            ("idna ; python_version < 3.8\n", "'3.8'"),
            ("idna ; (python_version < '3.8'\n", "write `)`"),
            ("-r\n", "-r FILE"),
            ("-r https://x.example/r.txt\n", "-r FILE"),
            ("-e app\n", "write -e ./app;"),
            ("--editable=app[web]\n", "write --editable ./app[web];"),
            ("-e app==1\n", "-e ./DIRECTORY"),
            ("./wheels/a-1-py3-none-any.whl[x]\n", "NAME[EXTRA]"),
            ("/home/me/a-1-py3-none-any.whl\n", "./DIRECTORY"),
            ("/home/me/a\n", "./DIRECTORY"),
            ("a @ file:///home/me/a\n", "./DIRECTORY"),
            ("./app ; python_version > '3'\n", "leave out"),
            ("a @ git+https://g.example/a\n", "tag = \"…\""),
            (
                "a @ git+https://me:pw@g.example/a@v1\n",
                "url = \"https://g.example/a\", tag",
            ),
            (
                "a @ git+https://g.example/a@v1 ; python_version > 3\n",
                "'3'",
            ),
            (
                "a @ git+https://g.example/a ; os_name == 'nt'\n",
                "tag = \"…\"",
            ),
            (
                "a @ https://x.example/v1.zip#subdirectory=py\n",
                "git+https://",
            ),
            ("a @ https://me:pw@x.example/a-1.0.tar.gz\n", "netrc"),
            ("--require-hashes\nflask==3\n", "leave that option out"),
        ] {
            let bad = read(text, Purpose::Requirements).unwrap_err();
            let said = bad.hint.unwrap_or_default();
            assert!(said.contains(hint), "{text}{said}");
        }
        for (text, said) in [
            ("-e .\n", "others go into"),
            ("--pre\n", "others go into"),
            ("idna @ https://x.example/idna-3.whl\n", "idna==VERSION"),
            ("https://x.example/idna-3.whl\n", "NAME==VERSION"),
            ("./app\n", "others go into"),
            ("-e git+https://g.example/a@v1#egg=a\n", "others go into"),
            (
                "# by pip-compile\na[x, y]==1 ; os_name == 'nt'\n",
                "leave `[x, y]` out",
            ),
            ("a [x]\n", "--strip-extras"),
        ] {
            let bad = read(text, Purpose::Constraints).unwrap_err();
            let hint = bad.hint.unwrap_or_default();
            assert!(hint.contains(said), "{text}{hint}");
        }
        assert!(read("-c more.txt\nflask<3\n", Purpose::Constraints).is_ok());
        assert!(read("a[]==1\n", Purpose::Constraints).is_ok());
        // The place of what is wrong is its place in the file.
        let text = "flask \\\n  >=3\n  -i x \\\n  y\n";
        let bad = read(text, Purpose::Requirements).unwrap_err();
        assert_eq!(bad.span.start, text.find("-i").unwrap());
        // Others like it are named with it.
        let text =
            "-i x\nidna \\\n  >=3\n--extra-index-url=y\n# -i z\n  --trusted-host z # z\n-r a\n";
        let bad = read(text, Purpose::Requirements).unwrap_err();
        assert!(
            bad.message.ends_with("; likewise in lines 4, 6"),
            "{}",
            bad.message
        );
    }
}
