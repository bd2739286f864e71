//! A key that is not in a file: a token, a security module, somebody else's machine.
//!
//! ```toml
//! public = "64 hexadecimal digits"
//! command = ["/usr/local/bin/sign-with-token", "--slot", "1"]
//! ```
//!
//! The command gets the bytes to be signed on standard input and writes the 64 bytes
//! of an ed25519 signature (RFC 8032, pure), or their 128 hexadecimal digits, to
//! standard output. Standard error is the person's. Whatever it answers is verified
//! before it is used.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::hex;
use serde::Deserialize;
use store::keys::{self, PublicKey, SIGNATURE_BYTES, Signer};

use crate::error::{Context, Error, Result};

/// A signer behind a command.
pub(super) struct External {
    path: PathBuf,
    public: PublicKey,
    command: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    public: String,
    command: Vec<String>,
}

impl External {
    pub(super) fn load(path: &Path) -> Result<Self> {
        let shown = path.display();
        let meta = fs::metadata(path).context(|| format!("cannot look at {shown}"))?;
        if meta.permissions().mode() & 0o022 != 0 {
            // Whoever writes to it decides what we run.
            return Err(Error::failed(format!("others may write to {shown}"))
                .hint(format!("chmod 600 {shown}, then look at what is in it")));
        }
        let text = fs::read_to_string(path).context(|| format!("cannot read {shown}"))?;
        let unusable = || Error::usage(format!("{shown} describes no signer"));
        let file: File = toml::from_str(&text).map_err(|e| unusable().because(&e))?;
        let public = file
            .public
            .parse()
            .map_err(|e: keys::Error| unusable().because(&e))?;
        if !file
            .command
            .first()
            .is_some_and(|program| program.starts_with('/'))
        {
            return Err(unusable().detail("`command` begins with the absolute path of a program"));
        }
        Ok(Self {
            path: path.to_owned(),
            public,
            command: file.command,
        })
    }

    fn ask(&self, message: &[u8]) -> std::io::Result<(bool, Vec<u8>)> {
        let mut child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read all of it says why by its exit code.
            let _ = stdin.write_all(message);
        }
        let output = child.wait_with_output()?;
        Ok((output.status.success(), output.stdout))
    }
}

impl Signer for External {
    fn public(&self) -> PublicKey {
        self.public
    }

    fn sign(&self, message: &[u8]) -> keys::Result<[u8; SIGNATURE_BYTES]> {
        let failed = |why: String| {
            let text = format!("the signer {} did not sign: {why}", self.path.display());
            keys::Error::new(keys::ErrorKind::Signer, text)
        };
        let (good, answer) = self.ask(message).map_err(|e| failed(e.to_string()))?;
        if !good {
            return Err(failed(format!("{} failed", self.command[0])));
        }
        let bytes = match answer.as_slice().try_into() {
            Ok(bytes) => bytes,
            Err(_) => digits(&answer)
                .ok_or_else(|| failed("its answer is not a signature of 64 bytes".into()))?,
        };
        self.public.verify(message, &bytes).map_err(|_| {
            failed(format!(
                "its answer is not a signature by {}",
                self.public.id()
            ))
        })?;
        Ok(bytes)
    }
}

fn digits(text: &[u8]) -> Option<[u8; SIGNATURE_BYTES]> {
    let bytes = hex::decode(std::str::from_utf8(text).ok()?.trim())?;
    bytes.try_into().ok()
}
