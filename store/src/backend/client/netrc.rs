//! Credentials from a netrc file, as curl(1) and ftp(1) read it.

use super::url::Credentials;

/// The entry for `host`, or the default one. With `user`, only an entry of that
/// name counts.
pub(super) fn find(netrc: &str, host: &str, user: Option<&str>) -> Option<Credentials> {
    entries(netrc)
        .into_iter()
        .filter(|entry| {
            entry
                .machine
                .is_none_or(|machine| machine.eq_ignore_ascii_case(host))
        })
        .find_map(|entry| {
            let login = entry.login.unwrap_or_default();
            let fits = user.is_none_or(|user| user == login);
            fits.then(|| Credentials {
                user: login.to_owned(),
                password: entry.password.map(str::to_owned),
            })
        })
}

#[derive(Default)]
struct Entry<'a> {
    /// `None` for the default entry.
    machine: Option<&'a str>,
    login: Option<&'a str>,
    password: Option<&'a str>,
}

fn entries(netrc: &str) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let mut macro_body = false;
    for line in netrc.lines() {
        // A macro ends at an empty line.
        macro_body &= !line.trim().is_empty();
        if macro_body {
            continue;
        }
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            match word {
                "machine" => entries.push(Entry {
                    machine: words.next(),
                    ..Entry::default()
                }),
                "default" => entries.push(Entry::default()),
                "macdef" => {
                    macro_body = true;
                    break;
                }
                _ if word.starts_with('#') => break,
                _ => {}
            }
            let Some(entry) = entries.last_mut() else {
                continue;
            };
            match word {
                "login" => entry.login = words.next(),
                "password" => entry.password = words.next(),
                "account" => {
                    words.next();
                }
                _ => {}
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETRC: &str = "\
# machine no.example login x password y
machine a.example login me password one
machine a.example login other password two
macdef init
machine evil.example login x password y

machine b.example
    login you
    account z
    password three
default login anyone password four
";

    fn found(host: &str, user: Option<&str>) -> Option<(String, String)> {
        let found = find(NETRC, host, user)?;
        Some((found.user, found.password?))
    }

    #[test]
    fn the_first_that_fits() {
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(found("A.example", None), pair("me", "one"));
        assert_eq!(found("a.example", Some("other")), pair("other", "two"));
        assert_eq!(found("a.example", Some("third")), None);
        assert_eq!(found("b.example", None), pair("you", "three"));
        assert_eq!(found("evil.example", None), pair("anyone", "four"));
        assert!(find("", "a.example", None).is_none());
        assert!(find("login x password y", "a.example", None).is_none());
        assert!(find("machine", "a.example", None).is_none_or(|found| found.password.is_none()));
    }
}
