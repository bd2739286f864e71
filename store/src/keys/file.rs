//! A key pair at rest.
//!
//! The file is PKCS#8 PEM: plain, or encrypted with a passphrase (RFC 5958; PBES2 with
//! scrypt and AES-256, RFC 8018 and 7914). `openssl pkey` reads both. Beside it, in
//! `NAME.pub`, lies the public half as SPKI PEM, so that nobody is asked for a
//! passphrase to know whose key it is.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Error, ErrorKind, KeyPair, PublicKey, Result, Signer as _};

/// No key file is longer; what is, was never one.
const LIMIT: u64 = 16 * 1024;

/// Where a key pair rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// Names a file; nothing is touched yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether something of that name is there.
    pub fn exists(&self) -> bool {
        self.path.symlink_metadata().is_ok()
    }

    /// The file with the public half: the same name, ending in `.pub`.
    fn public_path(&self) -> PathBuf {
        self.path.with_extension("pub")
    }

    /// Makes a new key and puts it here, durably. An existing file is never
    /// overwritten: a lost key may be the last one of an environment.
    pub fn create(&self) -> Result<KeyPair> {
        let pair = KeyPair::generate()?;
        self.write(&pair.to_pem()?, &pair)?;
        Ok(pair)
    }

    /// Reads the key, or makes one without a passphrase if there is none. Whoever comes second
    /// of several at once reads what the first one made.
    pub fn load_or_create(&self) -> Result<KeyPair> {
        if self.exists() {
            return self.load();
        }
        match self.create() {
            Err(e) if e.kind() == ErrorKind::Exists => self.load(),
            made => made,
        }
    }

    /// Creates the key file, encrypted with a passphrase.
    #[cfg(feature = "write")]
    pub fn create_encrypted(&self, passphrase: &str) -> Result<KeyPair> {
        if passphrase.is_empty() {
            return Err(Error::new(ErrorKind::Passphrase, "the passphrase is empty"));
        }
        let pair = KeyPair::generate()?;
        self.write(&pair.to_encrypted_pem(passphrase)?, &pair)?;
        Ok(pair)
    }

    /// Reads the key, after having made sure that nobody else could have. One that
    /// is encrypted is refused.
    pub fn load(&self) -> Result<KeyPair> {
        self.load_with(&mut || {
            let shown = self.path.display();
            let text = format!("the key {shown} is encrypted with a passphrase");
            Err(Error::new(ErrorKind::Encrypted, text))
        })
    }

    /// Loads the key; `passphrase` is asked for if the file is encrypted.
    pub fn load_with(&self, passphrase: &mut dyn FnMut() -> Result<String>) -> Result<KeyPair> {
        let pem = self.read()?;
        let pair = if is_encrypted(&pem) {
            decrypted(&pem, &passphrase()?)
        } else {
            KeyPair::from_pem(&pem)
        };
        pair.map_err(|e| {
            let text = format!("cannot use the key {}: {e}", self.path.display());
            Error::new(e.kind(), text)
        })
    }

    /// Whether the key is encrypted.
    pub fn is_encrypted(&self) -> Result<bool> {
        Ok(is_encrypted(&self.read()?))
    }

    /// The public half, without a passphrase: from the key itself if it is plain,
    /// else from the file beside it.
    pub fn public(&self) -> Result<PublicKey> {
        let pem = self.read()?;
        if !is_encrypted(&pem) {
            return Ok(self.load()?.public());
        }
        let path = self.public_path();
        let shown = path.display();
        let text = std::fs::read_to_string(&path)
            .map_err(|e| Error::io(format!("cannot read the public key {shown}"), e))?;
        PublicKey::from_pem(&text)
            .map_err(|e| Error::new(e.kind(), format!("cannot use the public key {shown}: {e}")))
    }

    fn read(&self) -> Result<String> {
        let shown = self.path.display();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&self.path)
            .map_err(|e| Error::io(format!("cannot open the key {shown}"), e))?;
        self.refuse_open_doors(&file)?;
        let mut pem = String::new();
        file.take(LIMIT + 1)
            .read_to_string(&mut pem)
            .map_err(|e| Error::io(format!("cannot read the key {shown}"), e))?;
        if pem.len() as u64 > LIMIT {
            let text = format!("{shown} is longer than {LIMIT} bytes, so it is not a key");
            return Err(Error::new(ErrorKind::Malformed, text));
        }
        Ok(pem)
    }

    /// The mode is taken from the open file, not from the name, so that what
    /// was checked is what is read.
    fn refuse_open_doors(&self, file: &File) -> Result<()> {
        let shown = self.path.display();
        let meta = file
            .metadata()
            .map_err(|e| Error::io(format!("cannot examine the key {shown}"), e))?;
        if !meta.is_file() {
            let text = format!("the key {shown} is not a regular file");
            return Err(Error::new(ErrorKind::Malformed, text));
        }
        let mode = meta.mode() & 0o7777;
        if mode & 0o177 != 0 {
            let text = format!("the key {shown} has mode {mode:04o}: others may have read it");
            return Err(
                Error::new(ErrorKind::Permissions, text).with_hint(format!("chmod 600 {shown}"))
            );
        }
        Ok(())
    }

    fn write(&self, pem: &str, pair: &KeyPair) -> Result<()> {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        private_directory(directory)?;
        let shown = self.path.display();
        let failed = |e: io::Error| Error::io(format!("cannot write the key {shown}"), e);
        // The name appears with a whole key: half a key would block it for ever and open nothing.
        let unfinished = directory.join(format!(".{}.new", pair.public().id()));
        let placed = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)
            .and_then(|mut file| {
                file.write_all(pem.as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| place(&unfinished, &self.path));
        let _ = std::fs::remove_file(&unfinished);
        placed.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => Error::io(
                format!("there is a key at {shown} already, and keys are never overwritten"),
                e,
            ),
            _ => failed(e),
        })?;
        let written = File::create(self.public_path()).and_then(|mut public| {
            public.write_all(pair.public().to_pem().as_bytes())?;
            public.sync_all()
        });
        if let Err(e) = written {
            let _ = std::fs::remove_file(&self.path);
            return Err(failed(e));
        }
        File::open(directory)
            .and_then(|d| d.sync_all())
            .map_err(failed)
    }
}

/// Gives a file a name that nothing has.
fn place(file: &Path, name: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, file, CWD, name, RenameFlags::NOREPLACE) {
        // Some network file systems do not know that flag; those of sticks know no second names.
        Err(Errno::INVAL | Errno::NOSYS) => std::fs::hard_link(file, name),
        renamed => Ok(renamed?),
    }
}

#[cfg(feature = "write")]
fn decrypted(pem: &str, passphrase: &str) -> Result<KeyPair> {
    KeyPair::from_encrypted_pem(pem, passphrase)
}

/// Keys of nodes have no passphrase: nobody is there to type it.
#[cfg(not(feature = "write"))]
fn decrypted(_: &str, _: &str) -> Result<KeyPair> {
    let text = "this program opens no key that has a passphrase";
    Err(Error::new(ErrorKind::Encrypted, text))
}

fn is_encrypted(pem: &str) -> bool {
    pem.trim_start()
        .starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----")
}

/// Makes `directory` if it is missing (0700), and refuses one in which others
/// could exchange the files.
fn private_directory(directory: &Path) -> Result<()> {
    let shown = directory.display();
    if !directory.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|e| Error::io(format!("cannot make the key directory {shown}"), e))?;
        let parent = directory.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))
            .and_then(|d| d.sync_all())
            .map_err(|e| Error::io(format!("cannot sync the parent of {shown}"), e))?;
    }
    let meta = directory
        .metadata()
        .map_err(|e| Error::io(format!("cannot examine the key directory {shown}"), e))?;
    let mode = meta.mode() & 0o7777;
    if mode & 0o022 != 0 {
        let text = format!("the key directory {shown} has mode {mode:04o}: others may write there");
        return Err(Error::new(ErrorKind::Permissions, text)
            .with_hint(format!("chmod 700 {shown}, then look at what is in it")));
    }
    Ok(())
}

#[cfg(all(test, feature = "write"))]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::keys::Signer;

    fn scratch() -> (tempfile::TempDir, KeyFile) {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::at(dir.path().join("keys/dev.root.pem"));
        (dir, file)
    }

    #[test]
    fn comes_back_as_it_went_with_private_modes() {
        let (_dir, file) = scratch();
        let made = file.create().unwrap();
        assert_eq!(file.load().unwrap().public(), made.public());
        let bits = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(bits(file.path()), 0o600);
        assert_eq!(bits(file.path().parent().unwrap()), 0o700);
    }

    #[test]
    fn whoever_makes_one_at_once_has_the_same() {
        let (dir, file) = scratch();
        let ids: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| file.load_or_create().unwrap().public().id()))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        let mut left: Vec<_> = fs::read_dir(dir.path().join("keys"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["dev.root.pem", "dev.root.pub"]);
    }

    #[test]
    fn is_never_overwritten() {
        let (_dir, file) = scratch();
        let made = file.create().unwrap();
        assert_eq!(file.create().unwrap_err().kind(), ErrorKind::Exists);
        assert_eq!(file.load().unwrap().public(), made.public());
    }

    #[test]
    fn a_looser_mode_is_refused_with_the_command_that_mends_it() {
        let (_dir, file) = scratch();
        file.create().unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o644, 0o700] {
            fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            let e = file.load().unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Permissions, "{mode:o}");
            assert_eq!(
                e.hint().unwrap(),
                format!("chmod 600 {}", file.path().display())
            );
        }
        fs::set_permissions(file.path(), Permissions::from_mode(0o400)).unwrap();
        file.load().unwrap();
    }

    #[test]
    fn a_directory_others_write_to_holds_no_new_keys() {
        let (_dir, file) = scratch();
        let directory = file.path().parent().unwrap();
        fs::create_dir(directory).unwrap();
        fs::set_permissions(directory, Permissions::from_mode(0o777)).unwrap();
        assert_eq!(file.create().unwrap_err().kind(), ErrorKind::Permissions);
        assert!(!file.exists());
    }

    #[test]
    fn what_is_no_key_is_refused_by_its_reason() {
        let (dir, file) = scratch();
        assert_eq!(file.load().unwrap_err().kind(), ErrorKind::Missing);
        let put = |text: &str| {
            let file = KeyFile::at(dir.path().join("other.pem"));
            let _ = fs::remove_file(file.path());
            fs::write(file.path(), text).unwrap();
            fs::set_permissions(file.path(), Permissions::from_mode(0o600)).unwrap();
            file.load().unwrap_err().kind()
        };
        assert_eq!(put("hello"), ErrorKind::Malformed);
        assert_eq!(put(&"x".repeat(20_000)), ErrorKind::Malformed);
        assert_eq!(
            put(
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
            ),
            ErrorKind::Encrypted
        );
    }

    #[test]
    fn a_passphrase_opens_what_it_closed() {
        let (_dir, file) = scratch();
        let made = file.create_encrypted("correct horse").unwrap();
        assert!(file.is_encrypted().unwrap());
        assert_eq!(file.public().unwrap(), made.public());
        let load = |word: &str| file.load_with(&mut || Ok(word.to_owned()));
        assert_eq!(load("correct horse").unwrap().public(), made.public());
        let e = load("wrong horse").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Passphrase);
        assert!(!format!("{e} {e:?}").contains("horse"), "{e}");
        assert_eq!(file.load().unwrap_err().kind(), ErrorKind::Encrypted);
        assert_eq!(
            KeyFile::at(file.path().with_file_name("x.pem"))
                .create_encrypted("")
                .unwrap_err()
                .kind(),
            ErrorKind::Passphrase
        );
    }

    #[test]
    fn a_symlink_is_not_followed() {
        let (dir, file) = scratch();
        file.create().unwrap();
        let link = dir.path().join("link.pem");
        std::os::unix::fs::symlink(file.path(), &link).unwrap();
        assert_eq!(KeyFile::at(link).load().unwrap_err().kind(), ErrorKind::Io);
    }
}
