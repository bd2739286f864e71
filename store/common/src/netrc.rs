//! Credentials in a netrc file, as curl(1) and ftp(1) read it.

/// Who one is on a machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The host; `None` for the default entry.
    pub machine: Option<&'a str>,
    /// The name of the user.
    pub login: Option<&'a str>,
    /// The password, without quotation marks around it.
    pub password: Option<&'a str>,
}

/// The entries of a file in their order. Comments and macros are passed over.
pub fn entries(netrc: &str) -> Vec<Entry<'_>> {
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
                "login" | "user" => entry.login = words.next().map(bare),
                "password" => entry.password = words.next().map(bare),
                "account" => {
                    words.next();
                }
                _ => {}
            }
        }
    }
    entries
}

fn bare(word: &str) -> &str {
    word.trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_curl_reads_them() {
        let text = "# machine no.example login x password y\n\
                    machine a.example login me password \"one\" # password z\n\
                    macdef init\nmachine evil.example login x password y\n\n\
                    machine b.example\n    user you\n    account z\n    password three\n\
                    default login anyone password four\nmachine";
        let found: Vec<_> = entries(text)
            .into_iter()
            .map(|entry| [entry.machine, entry.login, entry.password])
            .collect();
        assert_eq!(
            found,
            [
                [Some("a.example"), Some("me"), Some("one")],
                [Some("b.example"), Some("you"), Some("three")],
                [None, Some("anyone"), Some("four")],
                [None, None, None],
            ]
        );
        assert_eq!(entries("login x password y"), []);
    }
}
