//! The keys that a person has: files of a directory, and signers elsewhere.
//!
//! ```text
//! KEYS/NAME.pem      a private key (PKCS#8 PEM), encrypted or plain, mode 0600
//! KEYS/NAME.pub      its public half (SPKI PEM)
//! KEYS/NAME.signer   a key that is elsewhere: its public half, and a command that signs
//! KEYS/ENV.trust     the digest of the first root of an environment that was vouched for
//! KEYS/ENV.seen      what was seen last of environments of that name; whoever writes it holds
//!                    ENV.seen.lock
//! KEYS/ENV.fleet     what was seen last of the lists of nodes of environments of that name
//! KEYS/ENV-DIGITS.witness   what a witness signed last of an environment; beside it an empty
//!                    .lock, which one command holds at a time
//! ```
//!
//! Whose signature a file needs is known by public keys, so a keyring is looked
//! through by those, and only the private keys that are wanted are opened: nobody
//! types a passphrase for a key that has nothing to say.

mod external;
mod names;
mod passphrase;
mod seen;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use store::keys::{KeyFile, PublicKey, Signer};
use store::tuf::{Environment, KeyGroup, KeySet, Policy, Signers};
use store::{EnvName, Sha256};

use self::external::External;
pub use self::names::Names;
pub use self::passphrase::{Passphrase, confirm, new_passphrase};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::settings::Settings;

/// How often a person may type the passphrase of a key.
const TRIES: u32 = 3;

/// A directory of keys.
pub struct Keyring {
    dir: PathBuf,
    passphrase: Passphrase,
    /// Only this one, if a person chose one.
    only: Option<String>,
}

/// How a key is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStorage {
    /// In a file that needs a passphrase.
    Encrypted,
    /// In a file that needs none.
    Plain,
    /// Elsewhere, behind a command.
    Command,
}

/// A key of a keyring.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it is called: the name of its file.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// How it is kept.
    pub kept: KeyStorage,
    /// Its public half, or why that is not known.
    pub public: Result<PublicKey, String>,
}

/// Signers that were opened.
#[derive(Default)]
pub struct Opened(Vec<Box<dyn Signer>>);

impl Opened {
    /// All of them.
    pub fn all(&self) -> Vec<&dyn Signer> {
        self.0.iter().map(|key| &**key).collect()
    }

    /// Those that are among a group's.
    pub fn among(&self, holders: &KeySet) -> Vec<&dyn Signer> {
        let mut keys = self.all();
        keys.retain(|key| holders.keys.contains(&key.public()));
        keys
    }

    /// Those keys that sign for the three groups of an environment, the root's only if asked.
    pub fn signers(&self, env: &Environment<'_>) -> Result<Signers<'_>> {
        let of = |group| -> Result<Vec<&dyn Signer>> { Ok(self.among(&holders(env, group)?)) };
        Ok(Signers {
            root: of(KeyGroup::Root)?,
            targets: of(KeyGroup::Targets)?,
            online: of(KeyGroup::Online)?,
        })
    }
}

fn holders(env: &Environment<'_>, group: KeyGroup) -> Result<KeySet> {
    env.key_set(group)
        .context(|| format!("cannot read the environment {}", env.name()))
}

impl Keyring {
    /// The keyring of these settings. Nothing is read yet.
    pub fn new(settings: &Settings, passphrase: Passphrase, only: Option<String>) -> Self {
        Self {
            dir: settings.keys.clone(),
            passphrase,
            only,
        }
    }

    /// The keyring with all its keys, whichever was chosen.
    #[must_use]
    pub fn without_choice(&self) -> Self {
        Self {
            dir: self.dir.clone(),
            passphrase: self.passphrase.clone(),
            only: None,
        }
    }

    /// The name of the one key that a person chose to sign with.
    pub fn chosen(&self) -> Option<&str> {
        self.only.as_deref()
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Every key, by name.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let failed = || format!("cannot read the keys in {}", self.dir.display());
        let listed = match fs::read_dir(&self.dir) {
            Ok(listed) => listed,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::failed(failed()).because(&e)),
        };
        let mut entries = Vec::new();
        for item in listed {
            let path = item.context(failed)?.path();
            let (Some(name), Some(kind)) = (
                path.file_stem().and_then(|name| name.to_str()),
                path.extension().and_then(|kind| kind.to_str()),
            ) else {
                continue;
            };
            let name = name.to_owned();
            match kind {
                "pem" => {
                    let file = KeyFile::at(&path);
                    let kept = match file.is_encrypted() {
                        Ok(true) => KeyStorage::Encrypted,
                        _ => KeyStorage::Plain,
                    };
                    let public = file.public().map_err(|e| match e.hint() {
                        Some(hint) => format!("{e}; {hint}"),
                        None => e.to_string(),
                    });
                    entries.push(Entry {
                        name,
                        path,
                        kept,
                        public,
                    });
                }
                "signer" => {
                    let public = External::load(&path).map(|signer| signer.public());
                    let public = public.map_err(|e| e.to_string());
                    let kept = KeyStorage::Command;
                    entries.push(Entry {
                        name,
                        path,
                        kept,
                        public,
                    });
                }
                _ => {}
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// The key of that name.
    pub fn entry(&self, name: &str) -> Result<Entry> {
        let entries = self.entries()?;
        let names: Vec<_> = entries.iter().map(|entry| entry.name.clone()).collect();
        entries
            .into_iter()
            .find(|entry| entry.name == name)
            .ok_or_else(|| {
                let text = format!(
                    "there is no key `{}` in {}",
                    name.escape_default(),
                    self.dir.display()
                );
                Error::usage(text).hint(if names.is_empty() {
                    format!("make one: imgbuild key new {name}")
                } else {
                    format!("these are there: {}", names.join(", "))
                })
            })
    }

    /// The public key that a person means: the name of one here, a file with one, or
    /// 64 hexadecimal digits.
    pub fn public(&self, text: &str) -> Result<PublicKey> {
        if let Ok(key) = text.parse() {
            return Ok(key);
        }
        if text.contains('/') || Path::new(text).extension().is_some_and(|e| e == "pub") {
            let pem = fs::read_to_string(text).context(|| format!("cannot read {text}"))?;
            return PublicKey::from_pem(&pem)
                .map_err(|e| Error::usage(format!("{text} is not a public key")).because(&e));
        }
        self.entry(text)?.public.map_err(|why| {
            Error::failed(format!("the public half of `{text}` is not known")).detail(why)
        })
    }

    /// Whether a private key is here, and is the one that a person chose if they did.
    pub fn would_open(&self, key: &PublicKey) -> Result<bool> {
        if let Some(name) = &self.only {
            // A name that is not there is a mistake, and not a key less.
            self.entry(name)?;
        }
        Ok(self.entries()?.iter().any(|entry| {
            entry.public.as_ref() == Ok(key)
                && self.only.as_ref().is_none_or(|only| *only == entry.name)
        }))
    }

    /// Whether a private key is here.
    pub fn has(&self, key: &PublicKey) -> Result<bool> {
        Ok(self
            .entries()?
            .iter()
            .any(|entry| entry.public.as_ref() == Ok(key)))
    }

    /// What keys are called: here, and in a policy.
    pub fn names(&self, policy: Option<&Policy>) -> Result<Names> {
        let mut names = Names::default();
        for entry in self.entries()? {
            if let Ok(key) = entry.public {
                names.add(key, &entry.name);
            }
        }
        // Public halves of other people's keys.
        for item in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = item.path();
            let is_public = path.extension().is_some_and(|kind| kind == "pub");
            if let (true, Some(name)) = (is_public, path.file_stem().and_then(|s| s.to_str()))
                && let Ok(pem) = fs::read_to_string(&path)
                && let Ok(key) = PublicKey::from_pem(&pem)
            {
                names.add(key, name);
            }
        }
        Ok(names.with(policy))
    }

    /// Opens those of the wanted keys that are here.
    pub fn open(&self, wanted: &[PublicKey]) -> Result<Opened> {
        let mut opened = Opened::default();
        if let Some(name) = &self.only {
            // A name that is not there is a mistake, and not a key less.
            self.entry(name)?;
        }
        for entry in self.entries()? {
            let Ok(public) = &entry.public else { continue };
            let chosen = self.only.as_ref().is_none_or(|only| *only == entry.name);
            let known = opened.0.iter().any(|key| key.public() == *public);
            if chosen && !known && wanted.contains(public) {
                opened.0.push(self.open_entry(&entry)?);
            }
        }
        Ok(opened)
    }

    /// Opens one key.
    pub fn open_entry(&self, entry: &Entry) -> Result<Box<dyn Signer>> {
        if entry.kept == KeyStorage::Command {
            return Ok(Box::new(External::load(&entry.path)?));
        }
        let file = KeyFile::at(&entry.path);
        let mut ask = || self.passphrase.of(&entry.name);
        let mut tries = 1;
        loop {
            match file.load_with(&mut ask) {
                Ok(pair) => return Ok(Box::new(pair)),
                // Fingers err; what was asked and answered before is not lost for that.
                Err(e)
                    if e.kind() == store::keys::ErrorKind::Passphrase
                        && matches!(self.passphrase, Passphrase::Terminal)
                        && tries < TRIES =>
                {
                    tries += 1;
                    passphrase::tell("that is not its passphrase")?;
                }
                Err(e) => return Err(failed(&e)),
            }
        }
    }

    /// Opens the keys of an environment that are here, of these groups.
    pub fn of_environment(&self, env: &Environment<'_>, groups: &[KeyGroup]) -> Result<Opened> {
        let mut wanted = Vec::new();
        for group in groups {
            wanted.extend(holders(env, *group)?.keys);
        }
        self.open(&wanted)
    }

    /// Refuses an environment that nobody here has ever vouched for. Whoever can
    /// write to a store could have put another one there under its name, with a root
    /// that lists our keys beside theirs: what we sign would be released in theirs.
    ///
    /// One that was vouched for has to go on from what was seen of it before, and is brought to
    /// where it stands if somebody went on meanwhile.
    pub fn admit(&self, env: &mut Environment<'_>) -> Result<()> {
        self.vouches_for(env)?;
        self.goes_on(env)
    }

    /// Refuses an environment that nobody here has ever vouched for.
    pub fn vouches_for(&self, env: &Environment<'_>) -> Result<()> {
        let (name, found) = (env.name(), env.fingerprint());
        let vouched = self.vouched(name)?;
        if vouched.contains(&found.to_string()) {
            return Ok(());
        }
        if !vouched.is_empty() {
            let text = format!("this is not the environment {name} that was vouched for");
            return Err(Error::new(ErrorKind::Refused, text)
                .detail(format!(
                    "its first root is {found}, and it should be {}",
                    vouched.join(" or ")
                ))
                .hint("another store has the one that you mean, or somebody changed this one"));
        }
        if self.knows(env)? {
            return Ok(());
        }
        let text = format!("nobody here has vouched for the environment {name} in this store");
        Err(Error::new(ErrorKind::Refused, text)
            .detail(format!("its first root is {found}"))
            .hint(format!(
                "ask somebody who made it whether that is right; then: imgbuild env trust {name} {found}"
            )))
    }

    /// Whether a key here has signed the root of an environment as it stands.
    pub fn knows(&self, env: &Environment<'_>) -> Result<bool> {
        let entries = self.entries()?;
        let ours: Vec<_> = entries.into_iter().filter_map(|e| e.public.ok()).collect();
        Ok(env.is_known_to(&ours))
    }

    /// Remembers the first root of an environment. Another store may have one of the same name, with
    /// the same keys: both count.
    pub fn vouch(&self, env: &EnvName, fingerprint: &Sha256) -> Result<()> {
        let mut lines = self.vouched(env)?;
        let line = fingerprint.to_string();
        if lines.contains(&line) {
            return Ok(());
        }
        lines.push(line);
        self.write_vouched(env, &lines)
    }

    /// Vouches for an environment, and for no other one of that name any more.
    pub fn vouch_only(&self, env: &EnvName, fingerprint: &Sha256) -> Result<()> {
        self.write_vouched(env, &[fingerprint.to_string()])
    }

    fn write_vouched(&self, env: &EnvName, lines: &[String]) -> Result<()> {
        let path = self.trust_path(env);
        let attempt = || -> std::io::Result<()> {
            fs::create_dir_all(&self.dir)?;
            let mut new = tempfile::NamedTempFile::new_in(&self.dir)?;
            new.write_all((lines.join("\n") + "\n").as_bytes())?;
            new.as_file().sync_all()?;
            new.persist(&path)?;
            Ok(())
        };
        attempt().context(|| format!("cannot write {}", path.display()))
    }

    /// The first roots that somebody here has vouched for, of environments of that name.
    pub fn vouched(&self, env: &EnvName) -> Result<Vec<String>> {
        let path = self.trust_path(env);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.split_whitespace().map(str::to_owned).collect()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(Error::failed(format!("cannot read {}", path.display())).because(&e)),
        }
    }

    fn trust_path(&self, env: &EnvName) -> PathBuf {
        self.dir.join(format!("{env}.trust"))
    }
}

/// An error about a key, with its hint.
pub fn failed(e: &store::keys::Error) -> Error {
    let error = match e.kind() {
        store::keys::ErrorKind::Permissions => Error::new(ErrorKind::Refused, e.to_string()),
        _ => Error::failed(e.to_string()),
    };
    let mut error = error;
    let mut cause = std::error::Error::source(e);
    while let Some(next) = cause {
        error = error.detail(next.to_string());
        cause = next.source();
    }
    match e.hint() {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
