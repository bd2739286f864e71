//! Where a passphrase comes from: a file, the environment, the terminal. Never the
//! command line, which every user of the machine can read.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use store::keys;

use crate::error::{Context, Error, Result};
use crate::interrupt;
use crate::settings::Settings;

/// The variable with a passphrase.
const VARIABLE: &str = "IMGBUILD_PASSPHRASE";

/// The variable that names a file with one.
const FILE_VARIABLE: &str = "IMGBUILD_PASSPHRASE_FILE";

/// No passphrase is longer.
const MAX_BYTES: u64 = 4096;

/// Where a passphrase comes from.
#[derive(Clone)]
pub enum Passphrase {
    /// It is known.
    Known(String),
    /// A person types it.
    Terminal,
}

impl Passphrase {
    /// The file that was named, else that of the environment, else its variable,
    /// else the terminal.
    pub fn find(file: Option<&PathBuf>, settings: &Settings) -> Result<Self> {
        let named = settings
            .variable(FILE_VARIABLE)
            .filter(|path| !path.is_empty());
        if let Some(path) = file.cloned().or_else(|| named.map(PathBuf::from)) {
            return read(&path).map(Self::Known);
        }
        if let Some(word) = settings.variable(VARIABLE).filter(|word| !word.is_empty()) {
            return Ok(Self::Known(word));
        }
        Ok(Self::Terminal)
    }

    /// The passphrase of a key.
    pub(super) fn of(&self, name: &str) -> keys::Result<String> {
        match self {
            Self::Known(word) => Ok(word.clone()),
            Self::Terminal => ask(&format!("passphrase of the key {name}: "))
                .map_err(|e| keys::Error::new(keys::ErrorKind::Encrypted, sentence(&e, name))),
        }
    }
}

fn sentence(e: &Error, name: &str) -> String {
    format!(
        "the key {name} is encrypted, and there is nobody to ask ({e}); {FILE_VARIABLE} names \
         a file with the passphrase, {VARIABLE} is one"
    )
}

/// A passphrase for a new key: typed twice where a person types it.
pub fn new_passphrase(from: &Passphrase, name: &str) -> Result<String> {
    let word = match from {
        Passphrase::Known(word) => word.clone(),
        Passphrase::Terminal => {
            let no_terminal = |e: Error| {
                e.hint(format!(
                    "name a file with --passphrase-file, set {VARIABLE}, or make a plain key \
                     with --plain"
                ))
            };
            let word = ask(&format!("new passphrase for the key {name}: ")).map_err(no_terminal)?;
            if ask("the same again: ")? != word {
                return Err(Error::usage("the two passphrases are not the same"));
            }
            word
        }
    };
    if word.is_empty() {
        return Err(Error::usage("the passphrase is empty")
            .hint("a key without a passphrase is made with --plain"));
    }
    Ok(word)
}

/// The first line of a file that nobody else can read.
fn read(path: &PathBuf) -> Result<String> {
    let shown = path.display();
    let failed = || format!("cannot read the passphrase in {shown}");
    let file = File::open(path).context(failed)?;
    let meta = file.metadata().context(failed)?;
    // What a shell passes as /dev/fd/N is a pipe.
    if meta.is_file() && meta.permissions().mode() & 0o077 != 0 {
        return Err(Error::failed(format!(
            "others can read the passphrase in {shown}: its mode is {:04o}",
            meta.mode() & 0o7777
        ))
        .hint(format!("chmod 600 {shown}")));
    }
    first_line(file).context(failed)
}

fn first_line(file: File) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut line = String::new();
    BufReader::new(file.take(MAX_BYTES)).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Asks a question on the terminal; whether the answer is yes.
pub fn confirm(question: &str) -> Result<bool> {
    let answer = converse(&format!("{question} [y/N] "), true)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES"))
}

/// Says something where somebody types.
pub(super) fn tell(what: &str) -> Result<()> {
    let terminal = OpenOptions::new().write(true).open("/dev/tty");
    let mut terminal = terminal.context(|| "there is no terminal to ask on".into())?;
    writeln!(terminal, "{what}").context(|| "cannot ask on the terminal".into())
}

/// Asks on the terminal, which does not show what is typed.
fn ask(prompt: &str) -> Result<String> {
    converse(prompt, false)
}

fn converse(prompt: &str, echo: bool) -> Result<String> {
    let mut terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .context(|| "there is no terminal to ask on".into())?;
    let failed = || "cannot ask on the terminal".to_owned();
    let shown = tcgetattr(&terminal).context(failed)?;
    let mut hidden = shown.clone();
    if !echo {
        hidden.local_modes &= !LocalModes::ECHO;
    }
    tcsetattr(&terminal, OptionalActions::Flush, &hidden).context(failed)?;
    // Shown again whatever happens.
    let _echo = Echo(terminal.try_clone().context(failed)?, shown);
    write!(terminal, "{prompt}").context(failed)?;
    // Ctrl-C comes here rather than end the process with the terminal as it is now.
    while !is_readable(&terminal).context(failed)? {
        interrupt::check()?;
    }
    let word = first_line(terminal.try_clone().context(failed)?).context(failed)?;
    if !echo {
        let _ = writeln!(terminal);
    }
    Ok(word)
}

/// Whether a line is there, after a moment.
fn is_readable(terminal: &File) -> rustix::io::Result<bool> {
    const MOMENT: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };
    let mut waiting = [PollFd::new(terminal, PollFlags::IN)];
    match poll(&mut waiting, Some(&MOMENT)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error),
    }
}

struct Echo(File, Termios);

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.0, OptionalActions::Flush, &self.1);
    }
}
