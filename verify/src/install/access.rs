//! Who of the host may enter a system's sessions.

use super::journal::{self, JournalEntry, Operation, Phase};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::host::schroot::Access;
use crate::node::Node;
use crate::state::record::SystemRecord;
use crate::system::SystemName;

/// Lets these users of the host in, besides root, and nobody else any more.
pub fn set_access(node: &Node<'_>, system: &SystemName, access: Access) -> Result<()> {
    for user in access.users.iter().chain(&access.root_users) {
        check_name(user)?;
    }
    let lock = node.state.lock(system)?;
    journal::recover(node, &lock, system)?;
    let before = node.state.installed(system)?;
    let after = SystemRecord {
        access,
        ..before.clone()
    };
    let mut entry = JournalEntry {
        phase: Phase::Committing,
        ..JournalEntry::begin(Operation::Access, &before, Some(&before), Some(&after))
    };
    journal::write(node, &lock, &entry)?;
    let done = journal::commit(node, &lock, &entry);
    if done.is_err()
        && let Err(error) = journal::undo(node, &lock, &mut entry)
    {
        // The journal stays.
        node.observer.event(Event::Note(&format!(
            "the change could not be undone: {error}; the next command makes it"
        )));
        return done;
    }
    journal::clear(node, &lock, system)?;
    done
}

/// Who may enter, as it was set.
pub fn access(node: &Node<'_>, system: &SystemName) -> Result<Access> {
    Ok(node.state.installed(system)?.access)
}

/// A name as useradd(8) takes it: nothing that ends a line or a list of schroot.conf(5).
fn check_name(user: &str) -> Result<()> {
    let first = user.bytes().next();
    let rest = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    if user.len() <= 32
        && first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && user.bytes().all(rest)
    {
        return Ok(());
    }
    Err(
        Error::usage(format!("`{}` is no user name", user.escape_default()))
            .hint("names of users of this host, for example --users anna,bert"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_add_lines_or_users() {
        for good in ["anna", "_apt", "www-data", "a.b"] {
            check_name(good).unwrap();
        }
        for bad in ["", "a,b", "a b", "-a", "a\nroot-users=b", "1st"] {
            assert_eq!(check_name(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
