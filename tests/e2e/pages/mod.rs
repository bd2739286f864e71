//! What the pages show can be typed: every command of every code block is one that the
//! programs take, flag by flag.
//!
//! Here each gets `--help` at its end, which is refused behind a word or flag that does not exist.
//! Four pages are carried out as well:
//!
//! ```text
//! path    who types what, and what comes of it
//! text    the blocks of a page
//! fleet   machines with terminals, a network and a web server
//! ```

mod fleet;
mod path;
mod text;

use std::fs;
use std::process::{Command, Stdio};

use tests::binaries::{imgbuild, imgnode, repository};

/// A command of a page.
struct Typed {
    page: String,
    line: usize,
    words: Vec<String>,
}

/// Lines that a reader would type: those of shell blocks, and behind `$ ` those of sessions.
fn lines(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut block: Option<bool> = None;
    let mut goes_on = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(language) = line.strip_prefix("```") {
            block = match block {
                None => Some(language == "sh"),
                Some(_) => None,
            };
            continue;
        }
        let Some(shell) = block else { continue };
        let typed = match line.strip_prefix("$ ") {
            Some(typed) => typed,
            None if shell || goes_on => line,
            None => continue,
        };
        let whole = typed.strip_suffix('\\');
        let part = whole.unwrap_or(typed);
        match found.last_mut().filter(|_| goes_on) {
            Some((_, before)) => before.push_str(part),
            None => found.push((number + 1, part.to_owned())),
        }
        goes_on = whole.is_some();
    }
    found
}

/// The simple commands of a line, as far as a page needs it: words, quotes, comments, and
/// whatever stands between two commands.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in line.chars() {
        if let Some(end) = quote {
            match letter {
                _ if letter == end => quote = None,
                _ => word.get_or_insert_default().push(letter),
            }
            continue;
        }
        match letter {
            '\'' | '"' => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            '#' if word.is_none() => break,
            ' ' | '\t' => commands.last_mut().unwrap().extend(word.take()),
            // A redirection takes its word with it.
            '|' | '&' | ';' | '(' | ')' | '>' | '<' => {
                commands.last_mut().unwrap().extend(word.take());
                commands.push(Vec::new());
            }
            _ => word.get_or_insert_default().push(letter),
        }
    }
    commands.last_mut().unwrap().extend(word.take());
    commands
}

/// The calls of our programs on a page.
fn typed(page: &str, text: &str) -> Vec<Typed> {
    let mut all = Vec::new();
    for (line, text) in lines(text) {
        for words in commands(&text) {
            let ours = |word: &String| word == "imgbuild" || word == "imgnode";
            let before = |word: &String| {
                ["sudo", "do", "then", "else", "if", "!", "time", "env"].contains(&&**word)
                    || word.contains('=')
            };
            let Some(at) = words.iter().position(|word| !before(word)) else {
                continue;
            };
            if ours(&words[at]) {
                let words = words[at..].to_vec();
                let page = page.to_owned();
                all.push(Typed { page, line, words });
            }
        }
    }
    all
}

#[test]
fn every_command_of_every_page_is_one() {
    let docs = fs::read_dir(repository().join("docs")).unwrap();
    let mut pages: Vec<_> = docs.map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|kind| kind == "md"));
    pages.push(repository().join("README.md"));
    pages.sort();
    let mut all = Vec::new();
    for path in &pages {
        let name = path.file_name().unwrap().to_str().unwrap();
        all.extend(typed(name, &fs::read_to_string(path).unwrap()));
    }
    assert!(all.len() > 150, "{} commands", all.len());
    let room = tests::fixtures::scratch();
    let mut wrong = Vec::new();
    for one in &all {
        let program = match &*one.words[0] {
            "imgbuild" => imgbuild(),
            _ => imgnode(),
        };
        // Behind `--` stands another program's command.
        let own = one.words[1..].iter().take_while(|word| *word != "--");
        let output = Command::new(program)
            .args(own)
            .arg("--help")
            .current_dir(room.path())
            .env("IMGBUILD_STORE", room.path().join("store"))
            .env("IMGBUILD_WORK", room.path().join("work"))
            .env("IMGBUILD_KEYS", room.path().join("keys"))
            .env("IMGNODE_STATE", room.path().join("state"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            wrong.push(format!(
                "{}:{}: {}\n{said}",
                one.page,
                one.line,
                one.words.join(" ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lines_and_words() {
    let text = "a\n```sh\nx=1 imgbuild a 'b c' \\\n    --d # e\n```\n```\n$ imgnode a | imgbuild b\nout\n```\n";
    let found: Vec<_> = typed("p", text)
        .into_iter()
        .map(|one| (one.line, one.words.join("+")))
        .collect();
    let right = [
        (3, "imgbuild+a+b c+--d"),
        (7, "imgnode+a"),
        (7, "imgbuild+b"),
    ];
    assert_eq!(found, right.map(|(line, words)| (line, words.to_owned())));
}

/// The table of who can do what names a test in each line; each is there.
#[test]
fn named_tests_are_there() {
    let text = fs::read_to_string(repository().join("docs/promotion.md")).unwrap();
    let named = text.split('`').filter_map(|word| word.split_once("::"));
    let named: Vec<_> = named.filter(|(_, name)| name.contains('_')).collect();
    assert!(named.len() > 8, "{named:?}");
    for (module, name) in named {
        let mut grep = Command::new("grep");
        grep.args(["-rl", "--include=*.rs", &format!("^fn {name}()")]);
        grep.current_dir(repository());
        let files = tests::binaries::Ran::of(grep.args(["tests", "store", "verify", "builder"]));
        let there = |file: &str| file.ends_with(&format!("/{module}.rs"));
        assert!(files.stdout.lines().any(there), "{module}::{name}");
    }
}
