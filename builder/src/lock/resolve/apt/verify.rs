//! Whether a Release file is signed as it should be, by our own asking.
//!
//! apt 2 asks gpgv, apt 3 sqv, and each says it in other sentences. So the file
//! is checked once more against the keyring that the recipe names: gpgv answers
//! with `[GNUPG:]` status lines, sqv with its exit code, which are the same in
//! every version. A key that has expired is refused whichever program is there;
//! sqv alone would take what such a key signed while it was valid.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::openpgp;
use crate::error::{Context, Error, Result};
use crate::host::locate;
use crate::process::{Output, Tool, ToolFailure};

/// A Release file with what signs it.
#[derive(Debug)]
pub(super) enum Signed {
    /// `InRelease`.
    Inline(Vec<u8>),
    /// `Release` and `Release.gpg`.
    Detached(Vec<u8>, Vec<u8>),
}

/// What its signature is worth.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is by a key of the keyring.
    Good,
    /// Signature or key has expired.
    Expired(String),
    /// No key of the keyring made it of these bytes.
    Foreign(String),
    /// There is none.
    Unsigned,
}

/// The program that verifies.
enum Verifier {
    Gpgv,
    Sqv,
}

impl Verifier {
    fn of_this_machine() -> Option<Self> {
        let gpgv = locate("gpgv").map(|_| Self::Gpgv);
        gpgv.or_else(|| locate("sqv").map(|_| Self::Sqv))
    }
}

/// Whether this machine has a program that verifies signatures.
pub(super) fn can_verify() -> bool {
    Verifier::of_this_machine().is_some()
}

/// Verifies with the keys of a file; `dir` is for what is handed over.
pub(super) fn verify(signed: &Signed, keyring: &Path, dir: &Path, now: u64) -> Result<Verdict> {
    let signatures = match signed {
        Signed::Inline(bytes) if openpgp::cleartext(bytes).is_none() => Vec::new(),
        Signed::Inline(bytes) | Signed::Detached(_, bytes) => openpgp::signatures(bytes),
    };
    if signatures.is_empty() {
        return Ok(Verdict::Unsigned);
    }
    let Some(verifier) = Verifier::of_this_machine() else {
        return Err(Error::failed(
            "this machine has neither gpgv nor sqv, which verify signatures",
        )
        .hint("run `apt-get install gpgv`"));
    };
    let keys =
        fs::read(keyring).context(|| format!("cannot read the key {}", keyring.display()))?;
    let keys = openpgp::unarmored(&keys);
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        fs::write(&path, bytes).context(|| format!("cannot write {}", path.display()))?;
        Ok::<_, Error>(path)
    };
    let ring = put("verify.gpg", &keys)?;
    let (message, signature) = match signed {
        Signed::Inline(bytes) => (put("verify.txt", bytes)?, None),
        Signed::Detached(text, signature) => (
            put("verify.txt", text)?,
            Some(put("verify.sig", signature)?),
        ),
    };
    let tool = match verifier {
        Verifier::Gpgv => Tool::new("gpgv")
            .args(["--status-fd", "1", "--homedir"])
            .arg(dir)
            .arg("--keyring")
            .arg(&ring)
            .args(&signature)
            .arg(&message),
        Verifier::Sqv => {
            let tool = Tool::new("sqv").arg("--keyring").arg(&ring);
            let tool = if let Some(signature) = &signature {
                tool.arg("--signature-file").arg(signature)
            } else {
                // It writes what was signed, and never over a file that is there.
                let authenticated = dir.join("verify.out");
                let _ = fs::remove_file(&authenticated);
                tool.arg("--cleartext").arg("--output").arg(authenticated)
            };
            tool.arg(&message)
        }
    };
    let mut lines = Vec::new();
    let ran = tool.run(Output {
        log: None,
        listen: &mut |line| lines.push(line.to_owned()),
    })?;
    match verifier {
        Verifier::Gpgv => Ok(by_status(&lines)),
        Verifier::Sqv => by_exit(ran, &signatures, &openpgp::keys(&keys), now),
    }
}

/// What gpgv's status lines say (`GnuPG`, doc/DETAILS).
fn by_status(lines: &[String]) -> Verdict {
    let status = |words: &[&str]| {
        let mut status = lines.iter().filter_map(|l| l.strip_prefix("[GNUPG:] "));
        status.find(|line| line.split(' ').next().is_some_and(|w| words.contains(&w)))
    };
    // As apt has it: one good signature is enough, one bad is too much.
    if let Some(bad) = status(&["BADSIG", "REVKEYSIG"]) {
        return Verdict::Foreign(bad.to_owned());
    }
    if status(&["GOODSIG"]).is_some() {
        return Verdict::Good;
    }
    if let Some(expired) = status(&["EXPKEYSIG", "EXPSIG"]) {
        return Verdict::Expired(expired.to_owned());
    }
    match status(&["NO_PUBKEY"]).or_else(|| status(&["ERRSIG"])) {
        Some(unknown) => Verdict::Foreign(unknown.to_owned()),
        None => Verdict::Unsigned,
    }
}

/// What sqv's exit code says, and the packets about time.
fn by_exit(
    ran: std::result::Result<(), ToolFailure>,
    signatures: &[openpgp::Signature],
    keys: &BTreeMap<String, Option<u64>>,
    now: u64,
) -> Result<Verdict> {
    let accepted = match ran {
        Ok(()) => true,
        Err(failure) if failure.code() == Some(1) => false,
        Err(failure) => return Err(failure.into_error()),
    };
    let past = |at: Option<u64>| at.is_some_and(|at| at <= now);
    let (mut known, mut expired) = (Vec::new(), Vec::new());
    for signature in signatures {
        let Some(id) = signature.issuer() else {
            continue;
        };
        match keys.get(id) {
            Some(until) if past(*until) || past(signature.expires()) => expired.push(id),
            Some(_) => known.push(id),
            None => {}
        }
    }
    if let (Some(id), true) = (expired.first(), known.is_empty()) {
        return Ok(Verdict::Expired(format!(
            "the key {id} or what it signed has expired"
        )));
    }
    if accepted {
        return Ok(Verdict::Good);
    }
    Ok(Verdict::Foreign(if let Some(id) = known.first() {
        format!("the signature by {id} is not of these bytes")
    } else {
        let ids: Vec<&str> = signatures
            .iter()
            .filter_map(openpgp::Signature::issuer)
            .collect();
        format!("it is signed by {}", ids.join(", "))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_a_verdict() {
        let verdict = |lines: &[&str]| {
            let lines: Vec<String> = lines.iter().map(|l| format!("[GNUPG:] {l}")).collect();
            by_status(&lines)
        };
        let foreign = |line: &str| Verdict::Foreign(line.into());
        assert_eq!(
            verdict(&["NEWSIG", "GOODSIG AB me", "NO_PUBKEY CD"]),
            Verdict::Good
        );
        assert_eq!(
            verdict(&["GOODSIG AB me", "BADSIG CD you"]),
            foreign("BADSIG CD you")
        );
        assert_eq!(
            verdict(&["ERRSIG CD 1", "NO_PUBKEY CD"]),
            foreign("NO_PUBKEY CD")
        );
        let expired = verdict(&["KEYEXPIRED 1", "EXPKEYSIG AB me", "VALIDSIG AB"]);
        assert_eq!(expired, Verdict::Expired("EXPKEYSIG AB me".into()));
        assert_eq!(verdict(&["NODATA 1"]), Verdict::Unsigned);
    }
}
