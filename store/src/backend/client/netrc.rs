//! Which credentials of a netrc file are for a host.

use common::netrc::entries;

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
