//! What must not leave this machine: strings that only it could have put into
//! an image, each with a name that can be shown.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::host::{acquire_settings, credentials};
use crate::settings::Settings;

/// Shorter strings would be found everywhere.
const SHORTEST: usize = 6;
/// Where an administrator puts certificates of an organisation's own
/// authorities (update-ca-certificates(8)).
const OWN_CERTIFICATES: &str = "/usr/local/share/ca-certificates";
/// The public authorities that Debian ships.
const PUBLIC_CERTIFICATES: &str = "/usr/share/ca-certificates";
/// Variables that name a bundle of certificates.
const BUNDLES: [&str; 4] = [
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
];

/// A string that must not be in an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    pub(super) bytes: Vec<u8>,
    /// What it is, without the secret itself.
    pub name: String,
}

impl Pattern {
    pub(super) fn new(name: impl Into<String>, text: &str) -> Option<Self> {
        (text.len() >= SHORTEST).then(|| Self {
            name: name.into(),
            bytes: text.as_bytes().to_owned(),
        })
    }
}

/// What must not leave this machine.
pub fn patterns(settings: &Settings) -> Result<Vec<Pattern>> {
    let mut found = Vec::new();
    for host in settings.archives.hosts() {
        let name = format!("the archive's host {host}");
        // A bare name may be a word of any text; an address is not.
        let text = if host.contains(['.', ':']) {
            host
        } else {
            format!("//{host}")
        };
        found.extend(Pattern::new(name, &text));
    }
    let of_archives = settings.archives.secrets();
    for secret in of_archives.iter().chain(settings.network.secrets()) {
        found.extend(Pattern::new("a credential of an archive", secret));
    }
    for secret in settings.pip.secrets() {
        found.extend(Pattern::new("an address of pip's configuration", &secret));
    }
    found.extend(proxies(&acquire_settings()?));
    for below in ["layers", "builds"] {
        let path = settings.work.join(below).display().to_string();
        found.extend(Pattern::new("the path of the build", &path));
    }
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    found.extend(Pattern::new(
        "this machine's machine-id",
        read("/etc/machine-id").trim(),
    ));
    found.extend(people(&read("/etc/passwd")));
    found.extend(password_hashes(&read("/etc/shadow")));
    found.extend(host_keys(Path::new("/etc/ssh")));
    let bundles = BUNDLES
        .iter()
        .filter_map(|n| settings.variable(n))
        .map(PathBuf::from);
    found.extend(certificates(
        Path::new(OWN_CERTIFICATES),
        Path::new(PUBLIC_CERTIFICATES),
        &bundles.collect::<Vec<_>>(),
    ));
    found.sort();
    found.dedup_by(|a, b| a.bytes == b.bytes);
    Ok(found)
}

/// Addresses of apt's proxies, and the credentials in them.
fn proxies(acquire: &str) -> Vec<Pattern> {
    let settings = acquire.lines().filter(|l| {
        let name = l.split(' ').next().unwrap_or_default();
        name.contains("::Proxy")
    });
    let values = settings.filter_map(|l| l.split('"').nth(1));
    let mut found = Vec::new();
    for value in values.filter(|v| v.contains("://")) {
        found.extend(Pattern::new("the address of apt's proxy", value));
        for secret in credentials(value) {
            found.extend(Pattern::new("a credential of apt's proxy", &secret));
        }
    }
    found
}

/// Accounts of persons: the lines whose comment field says who it is
/// (passwd(5)).
fn people(passwd: &str) -> Vec<Pattern> {
    let person = |line: &&str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, uid, _, comment, ..] = fields[..] else {
            return false;
        };
        uid.parse()
            .is_ok_and(|uid: u32| (1000..60_000).contains(&uid))
            && !comment.trim_matches(',').is_empty()
    };
    let pattern = |line: &str| {
        let user = line.split(':').next().unwrap_or_default();
        Pattern::new(format!("this machine's account {user}"), line)
    };
    passwd.lines().filter(person).filter_map(pattern).collect()
}

fn password_hashes(shadow: &str) -> Vec<Pattern> {
    let pattern = |line: &str| {
        let mut fields = line.split(':');
        let (user, hash) = (fields.next()?, fields.next()?);
        let name = format!("the password hash of this machine's {user}");
        hash.starts_with('$').then(|| Pattern::new(name, hash))?
    };
    shadow.lines().filter_map(pattern).collect()
}

/// Both halves of each host key: the public one's text, a line of the private.
fn host_keys(dir: &Path) -> Vec<Pattern> {
    let mut found = Vec::new();
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for path in entries.map(|e| e.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with("ssh_host_") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let part = if name.ends_with(".pub") {
            text.split(' ').nth(1)
        } else {
            // The first lines of two keys may be equal: they name the cipher.
            text.lines().nth(2)
        };
        found.extend(part.and_then(|p| Pattern::new("an ssh host key of this machine", p)));
    }
    found
}

/// Certificates of authorities that this machine trusts and the public does
/// not: its own directory, and what bundles have besides Debian's.
fn certificates(own: &Path, public: &Path, bundles: &[PathBuf]) -> Vec<Pattern> {
    let mut private = BTreeSet::new();
    let below = |dir: &Path| -> Vec<String> {
        let mut found = Vec::new();
        let mut pending = vec![dir.to_owned()];
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    pending.push(path);
                } else {
                    found.extend(telling_lines(&path));
                }
            }
        }
        found
    };
    private.extend(below(own));
    let public: BTreeSet<String> = below(public).into_iter().collect();
    // Without Debian's list, nobody could tell the public ones from the others.
    if !public.is_empty() {
        let in_bundles = bundles.iter().flat_map(|b| telling_lines(b));
        private.extend(in_bundles.filter(|line| !public.contains(line)));
    }
    private
        .iter()
        .filter_map(|line| {
            Pattern::new(
                "a certificate of an authority that this machine trusts",
                line,
            )
        })
        .collect()
}

/// A line from the middle of each certificate in a PEM file (RFC 7468): names
/// and keys make it unique.
fn telling_lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let bodies = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    let middle = |body: &str| {
        let lines: Vec<&str> = body.split("-----END").next()?.split_whitespace().collect();
        lines.get(lines.len() / 2).map(|line| (*line).to_owned())
    };
    bodies.filter_map(middle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(patterns: &[Pattern]) -> Vec<String> {
        let text = |p: &Pattern| String::from_utf8_lossy(&p.bytes).into_owned();
        patterns.iter().map(text).collect()
    }

    #[test]
    fn proxies_of_apt_are_found_with_their_credentials() {
        let dump = "Acquire::http::Proxy \"http://user:geheim@proxy.example:3128/\";\n\
                    Acquire::https::Proxy::mirror.example \"DIRECT\";\nAcquire::Retries \"3\";\n";
        let found = texts(&proxies(dump));
        assert_eq!(
            found,
            [
                "http://user:geheim@proxy.example:3128/",
                "user:geheim",
                "geheim"
            ]
        );
    }

    #[test]
    fn persons_are_found_and_services_are_not() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/bin/sh\n\
                      app:x:1000:1000::/home/app:/bin/bash\nann:x:1001:1001:Ann Example,,,:/home/ann:/bin/zsh\n";
        assert_eq!(
            texts(&people(passwd)),
            ["ann:x:1001:1001:Ann Example,,,:/home/ann:/bin/zsh"]
        );
        let shadow = "root:$y$j9T$abcdef:1::::::\nann:*:1::::::\n";
        assert_eq!(texts(&password_hashes(shadow)), ["$y$j9T$abcdef"]);
    }

    #[test]
    fn both_halves_of_host_keys_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        put("ssh_host_x_key", "-----BEGIN\nsame-in-all\nprivate-part\n");
        put("ssh_host_x_key.pub", "ssh-x public-part root@host\n");
        put("sshd_config", "one two three");
        let mut found = texts(&host_keys(dir.path()));
        found.sort();
        assert_eq!(found, ["private-part", "public-part"]);
    }

    #[test]
    fn private_authorities_are_told_from_public_ones() {
        let dir = tempfile::tempdir().unwrap();
        let pem = |name: &str| {
            format!("-----BEGIN CERTIFICATE-----\nsame\n{name}\nsame\n-----END CERTIFICATE-----\n")
        };
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        put("own/a.crt", &pem("our-own"));
        put("public/mozilla/b.crt", &pem("well-known"));
        let bundle = put("bundle.pem", &(pem("well-known") + &pem("somebody's")));
        let (own, public) = (dir.path().join("own"), dir.path().join("public"));
        let found = certificates(&own, &public, std::slice::from_ref(&bundle));
        assert_eq!(texts(&found), ["our-own", "somebody's"]);
        let found = certificates(&own, &dir.path().join("none"), &[bundle]);
        assert_eq!(texts(&found), ["our-own"]);
    }
}
