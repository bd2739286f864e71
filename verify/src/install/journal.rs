//! The operation under way, so that the next command can finish or undo it.
//!
//! Before an operation changes anything outside the state directory it writes one file that says
//! what it is about to do and what the record of the system was before and will be after. The file
//! goes away when the operation is over. A command that finds one belongs to a process that was
//! killed, since it holds the lock:
//!
//! ```text
//! install, writing      the tree may be incomplete           -> undo
//! install, committing   tree finished, verified and synced   -> finish; undo if that cannot be done
//! switch, writing       only hooks have run                  -> nothing to undo
//! switch, committing    the generation is there              -> finish; else back
//! either, committing    it is being asked whether it works   -> back, unless it has the traffic
//! gc                    whatever is left                     -> finish
//! uninstall, writing    only hooks have run                  -> nothing to undo
//! uninstall, committing whatever is left                     -> finish
//! ```
//! Every step of finishing and undoing may be repeated, because they can be interrupted as well.

use serde::{Deserialize, Serialize};

use crate::atomic_file::{self, SCHEMA, check_schema};
use crate::error::{Context, Error, Result};
use crate::event::Event;
use crate::node::Node;
use crate::session::{self, Timeouts};
use crate::state::record::SystemRecord;
use crate::state::{Lock, now};
use crate::storage::Target;
use crate::system::SystemName;

/// The operation under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// A generation is being added and made the active one.
    Install,
    /// Another generation becomes the active one.
    Switch,
    /// Old generations are being removed.
    Gc,
    /// A system is being removed.
    Uninstall,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing that others see has changed.
    Writing,
    /// The new tree is in place; the chroot may or may not have been switched, or be gone.
    Committing,
}

/// The content of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalEntry {
    /// The version of this file.
    pub schema: u32,
    /// The operation.
    pub operation: Operation,
    /// How far the operation is.
    pub phase: Phase,
    /// The system it changes.
    pub system: SystemName,
    /// The target of that system.
    pub target: Target,
    /// Whether the target directory itself was made for this.
    pub made_path: bool,
    /// The generation that is added; 0 when none is.
    pub generation: u64,
    /// The system's record before.
    pub before: Option<SystemRecord>,
    /// The system's record when it is done.
    pub after: Option<SystemRecord>,
    /// When it began, in seconds since 1970.
    pub started: u64,
    /// Whether the generation counts as active only after it was asked whether it works: the session
    /// of the generation before runs, and a kill in between goes back to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks: bool,
}

impl JournalEntry {
    /// The entry of an operation on the system of `record` that begins now.
    pub(super) fn begin(
        operation: Operation,
        record: &SystemRecord,
        before: Option<&SystemRecord>,
        after: Option<&SystemRecord>,
    ) -> Self {
        Self {
            schema: SCHEMA,
            operation,
            phase: Phase::Writing,
            system: record.system.clone(),
            target: record.target.clone(),
            made_path: false,
            generation: 0,
            before: before.cloned(),
            after: after.cloned(),
            started: now(),
            asks: false,
        }
    }
}

/// The operation that was begun and is not over.
pub fn unfinished(node: &Node<'_>) -> Result<Option<JournalEntry>> {
    let path = node.state.journal();
    let entry: Option<JournalEntry> = atomic_file::read_json(&path)?;
    if let Some(entry) = &entry {
        check_schema(&path, entry.schema)?;
        let whole = match entry.operation {
            Operation::Install => entry.after.is_some(),
            Operation::Switch | Operation::Gc => entry.after.is_some() && entry.before.is_some(),
            Operation::Uninstall => entry.before.is_some(),
        };
        let records = [&entry.before, &entry.after];
        let fits = |record: &SystemRecord| {
            record.check(&entry.system).is_ok() && record.target == entry.target
        };
        if !whole || !records.into_iter().flatten().all(fits) {
            return Err(Error::failed(format!("{} is damaged", path.display()))
                .cause("its parts contradict each other")
                .hint("nothing was changed; put the file back from a backup"));
        }
    }
    Ok(entry)
}

/// Writes the journal.
pub fn write(node: &Node<'_>, _: &Lock, entry: &JournalEntry) -> Result<()> {
    debug_assert_eq!(entry.schema, SCHEMA);
    atomic_file::write_json(&node.state.journal(), entry)
}

/// Removes the journal: the operation is over.
pub fn clear(node: &Node<'_>, _: &Lock) -> Result<()> {
    atomic_file::remove(&node.state.journal())
}

/// Finishes or undoes what a killed process left; the first act of every changing command.
pub fn recover(node: &Node<'_>, lock: &Lock) -> Result<()> {
    let Some(mut left) = unfinished(node)? else {
        return Ok(());
    };
    let system = left.system.clone();
    let say = |what: &str| node.observer.event(Event::Note(what));
    let word = left.operation.name();
    match (left.operation, left.phase) {
        (Operation::Uninstall, Phase::Committing) => {
            say(&format!("finishing the interrupted uninstall of {system}"));
            remove_system(node, lock, &left)
                .context(|| format!("cannot finish the interrupted uninstall of {system}"))?;
        }
        (Operation::Gc, _) => {
            say(&format!("finishing the interrupted gc of {system}"));
            remove_generations(node, lock, &left)
                .context(|| format!("cannot finish the interrupted gc of {system}"))?;
        }
        (Operation::Install | Operation::Switch, Phase::Committing) => {
            say(&format!("finishing the interrupted {word} of {system}"));
            if left.asks && !has_answered(node, &left)? {
                go_back(node, lock, &left)
                    .context(|| format!("cannot undo the interrupted {word} of {system}"))?;
            } else if let Err(error) = commit(node, lock, &left) {
                say(&format!("{error}; undoing it"));
                undo(node, lock, &mut left)
                    .context(|| format!("cannot undo the interrupted {word} of {system}"))?;
            }
        }
        (Operation::Switch | Operation::Uninstall, Phase::Writing) => {
            say(&format!(
                "the {word} of {system} was interrupted before it began"
            ));
        }
        (Operation::Install, Phase::Writing) => {
            say(&format!("undoing the interrupted install of {system}"));
            undo(node, lock, &mut left)
                .context(|| format!("cannot undo the interrupted install of {system}"))?;
        }
    }
    if left.operation != Operation::Gc {
        // Reported by the hooks themselves; a failing one must not keep the journal for ever.
        let _ = hooks_after(node, word, &system);
    }
    clear(node, lock)
}

/// Recovers for commands that only begin or end sessions: what cannot be finished or undone now is
/// left to others, so that a broken disk of one system keeps no other from running, and nothing from
/// stopping. What is left of `must` counts all the same.
pub fn recover_if_possible(node: &Node<'_>, lock: &Lock, must: Option<&SystemName>) -> Result<()> {
    let Some(left) = unfinished(node)? else {
        return Ok(());
    };
    match recover(node, lock) {
        Err(error) if must != Some(&left.system) => {
            node.observer.event(Event::Note(&format!(
                "{error}; the next command that changes a generation tries again"
            )));
            Ok(())
        }
        done => done,
    }
}

/// Whether the new generation has the traffic: then it was asked, and works.
fn has_answered(node: &Node<'_>, left: &JournalEntry) -> Result<bool> {
    let session = session::read(node, &left.system)?;
    let after = left.after.as_ref().map(|after| after.active);
    Ok(session.map(|session| session.generation) == after)
}

/// Goes back from a generation that nobody knows to work. It stays, and is not active.
fn go_back(node: &Node<'_>, lock: &Lock, left: &JournalEntry) -> Result<()> {
    let (Some(before), Some(after)) = (&left.before, &left.after) else {
        return commit(node, lock, left);
    };
    let (system, context) = (&left.system, node.context(&left.system));
    let record = SystemRecord {
        active: before.active,
        previous: before.previous,
        ..after.clone()
    };
    if !left.target.driver().exists(&context, record.active)? {
        return commit(node, lock, left);
    }
    node.schroot.register(&record.chroot(), node.observer)?;
    node.state.set_system(lock, system, Some(&record))?;
    node.observer.event(Event::Note(&format!(
        "generation {} of {system} was not asked to the end whether it works, so generation {} is \
         the active one; to try again: imgnode switch {system} {0}",
        after.active, record.active
    )));
    Ok(())
}

/// The hooks afterwards that failed the last time, and what they were called for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedHooks {
    /// The version of this file.
    pub schema: u32,
    /// The first word that they got.
    pub act: String,
    /// What was wrong.
    pub why: String,
    /// When they failed, in seconds since 1970.
    pub since: u64,
}

/// The hooks of a system that failed and did not succeed since.
pub fn failed_hooks(node: &Node<'_>, system: &SystemName) -> Result<Option<FailedHooks>> {
    let path = node.state.hooks_file(system);
    let failed: Option<FailedHooks> = atomic_file::read_json(&path)?;
    if let Some(failed) = &failed {
        check_schema(&path, failed.schema)?;
    }
    Ok(failed)
}

/// Runs the hooks afterwards, and remembers whether they failed.
pub(super) fn hooks_after(node: &Node<'_>, act: &str, system: &SystemName) -> Result<()> {
    let path = node.state.hooks_file(system);
    let Err(error) = node.hooks.after(act, system, node.observer) else {
        return atomic_file::remove(&path);
    };
    let failed = FailedHooks {
        schema: SCHEMA,
        act: act.to_owned(),
        why: error.to_string(),
        since: now(),
    };
    atomic_file::write_json(&path, &failed)?;
    Err(error.hint("mend the hook and run the command again: it runs until it succeeds"))
}

/// Runs the hooks afterwards again if they failed the last time.
pub(super) fn hooks_again(node: &Node<'_>, system: &SystemName) -> Result<()> {
    match failed_hooks(node, system)? {
        Some(failed) => hooks_after(node, &failed.act, system),
        None => Ok(()),
    }
}

impl Operation {
    /// The command's name, as the operator knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Switch => "switch",
            Self::Gc => "gc",
            Self::Uninstall => "uninstall",
        }
    }
}

/// Switches the chroot to the new generation and records it.
pub fn commit(node: &Node<'_>, lock: &Lock, entry: &JournalEntry) -> Result<()> {
    let after = entry
        .after
        .as_ref()
        .ok_or_else(|| Error::failed("the journal has no record to commit"))?;
    let context = node.context(&entry.system);
    if !entry.target.driver().exists(&context, after.active)? {
        return Err(Error::failed(format!(
            "generation {} is not at {}",
            after.active,
            after.active().directory.display()
        )));
    }
    node.schroot.register(&after.chroot(), node.observer)?;
    node.state.set_system(lock, &entry.system, Some(after))
}

/// Does `work` under a journal, with the hooks of an install around it. What fails is undone, and
/// the hooks afterwards run in any case.
pub(super) fn transaction<T>(
    node: &Node<'_>,
    lock: &Lock,
    mut entry: JournalEntry,
    work: impl FnOnce(&mut JournalEntry) -> Result<T>,
) -> Result<T> {
    let system = entry.system.clone();
    write(node, lock, &entry)?;
    let done = node
        .hooks
        .before("install", &system, node.observer)
        .and_then(|()| work(&mut entry));
    let undone = match &done {
        Ok(_) => Ok(()),
        Err(_) => undo(node, lock, &mut entry),
    };
    let hooks = hooks_after(node, "install", &system);
    if let Err(error) = undone {
        // The journal stays: the next command tries again.
        node.observer.event(Event::Note(&format!(
            "the install could not be undone: {error}"
        )));
        return done;
    }
    if !entry.asks || done.is_err() || hooks.is_err() {
        clear(node, lock)?;
    }
    done.and_then(|value| hooks.map(|()| value))
}

/// Puts everything back as it was before an install or a switch.
pub fn undo(node: &Node<'_>, lock: &Lock, entry: &mut JournalEntry) -> Result<()> {
    if entry.phase == Phase::Committing {
        // From here on there is no way forward: the tree goes away.
        match &entry.before {
            Some(before) => node.schroot.register(&before.chroot(), node.observer)?,
            None => node.schroot.unregister(&entry.system, node.observer)?,
        }
        node.state
            .set_system(lock, &entry.system, entry.before.as_ref())?;
        entry.phase = Phase::Writing;
        write(node, lock, entry)?;
    }
    if entry.operation == Operation::Switch {
        return Ok(());
    }
    let (driver, context) = (entry.target.driver(), node.context(&entry.system));
    driver.clear_staging(&context, entry.generation)?;
    driver.remove(&context, entry.generation)?;
    if entry.before.is_none() {
        driver.close(&context, entry.made_path)?;
    }
    node.state.forget_manifests(lock)
}

/// Removes the generations that the record afterwards does not have: first from the record, so that
/// nothing names what is being removed.
pub fn remove_generations(node: &Node<'_>, lock: &Lock, entry: &JournalEntry) -> Result<()> {
    let (Some(before), Some(after)) = (&entry.before, &entry.after) else {
        return Err(Error::failed("the journal has no records to compare"));
    };
    node.state.set_system(lock, &entry.system, Some(after))?;
    let context = node.context(&entry.system);
    for generation in &before.generations {
        if after.generation(generation.number).is_none() {
            entry.target.driver().remove(&context, generation.number)?;
        }
    }
    node.state.forget_manifests(lock)
}

/// Removes a system: the chroot first, so that nothing points at what is being removed.
pub fn remove_system(node: &Node<'_>, lock: &Lock, entry: &JournalEntry) -> Result<()> {
    let system = &entry.system;
    node.schroot.unregister(system, node.observer)?;
    node.state.set_system(lock, system, None)?;
    let (driver, context) = (entry.target.driver(), node.context(system));
    for generation in entry.before.iter().flat_map(|before| &before.generations) {
        driver.clear_staging(&context, generation.number)?;
        driver.remove(&context, generation.number)?;
    }
    driver.clear_staging(&context, 0)?;
    driver.close(&context, false)?;
    atomic_file::remove(&node.state.log_file(system))?;
    atomic_file::remove(&node.state.older_log_file(system))?;
    atomic_file::remove(&node.state.start_file(system))?;
    atomic_file::remove(&node.state.hooks_file(system))?;
    node.state.forget_manifests(lock)
}

/// Whether the generation that becomes active is asked first whether it works: a session of the
/// one before runs, and is to hand over.
pub(super) fn asks(
    node: &Node<'_>,
    before: &SystemRecord,
    timeouts: Option<Timeouts>,
) -> Result<bool> {
    let session = session::read(node, &before.system)?;
    Ok(timeouts.is_some() && session.is_some_and(|session| !session.listen.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;
    use crate::host::hooks::Hooks;
    use crate::host::schroot::Schroot;
    use crate::state::State;
    use crate::state::record::tests::sample;
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    static NEVER: AtomicBool = AtomicBool::new(false);

    fn node(root: &Path) -> Node<'static> {
        fs::create_dir_all(root.join("etc/chroot.d")).unwrap();
        Node {
            state: State::new(root.join("state")),
            schroot: Schroot::new(root.join("etc")),
            hooks: Hooks::new(root.join("hooks")),
            observer: &Silent,
            cancel: &NEVER,
        }
    }

    fn begun(root: &Path, phase: Phase) -> JournalEntry {
        let after = sample(&format!("dir:{}", root.join("images").display()), "web", 1);
        JournalEntry {
            schema: SCHEMA,
            operation: Operation::Install,
            phase,
            system: after.system.clone(),
            target: after.target.clone(),
            made_path: true,
            generation: 1,
            before: None,
            after: Some(after),
            started: 0,
            asks: false,
        }
    }

    #[test]
    fn a_half_written_install_is_undone_without_a_trace() {
        let directory = tempfile::tempdir().unwrap();
        let (root, node) = (directory.path(), node(directory.path()));
        let lock = node.state.lock().unwrap();
        let left = begun(root, Phase::Writing);
        write(&node, &lock, &left).unwrap();
        let context = node.context(&left.system);
        left.target
            .driver()
            .begin_staging(&context, 1, None)
            .unwrap();
        fs::create_dir_all(root.join("images/web/.staging/usr/bin")).unwrap();
        recover(&node, &lock).unwrap();
        assert!(!root.join("images").exists());
        assert_eq!(unfinished(&node).unwrap(), None);
        recover(&node, &lock).unwrap();
    }

    #[test]
    fn an_uninstall_is_finished_however_far_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let (root, node) = (directory.path(), node(directory.path()));
        let lock = node.state.lock().unwrap();
        let mut left = begun(root, Phase::Committing);
        left.operation = Operation::Uninstall;
        left.before = left.after.take();
        let record = left.before.clone().unwrap();
        let context = node.context(&left.system);
        left.target
            .driver()
            .begin_staging(&context, 1, None)
            .unwrap();
        left.target.driver().publish(&context, 1).unwrap();
        node.state
            .set_system(&lock, &left.system, Some(&record))
            .unwrap();
        fs::write(node.schroot.file(&left.system), record.chroot().render()).unwrap();
        // Its hooks may have run when it was killed, and were not asked to the end.
        left.phase = Phase::Writing;
        write(&node, &lock, &left).unwrap();
        recover(&node, &lock).unwrap();
        assert!(root.join("images/web/1").exists() && node.schroot.file(&left.system).exists());
        left.phase = Phase::Committing;
        write(&node, &lock, &left).unwrap();
        recover(&node, &lock).unwrap();
        assert!(!root.join("images/web").exists());
        assert!(!node.schroot.file(&left.system).exists());
        assert_eq!(node.state.system(&left.system).unwrap(), None);
    }

    #[test]
    fn hooks_that_ran_before_are_followed_by_those_afterwards() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let (root, mut node) = (directory.path(), node(directory.path()));
        node.hooks = Hooks::new(root.join("hooks"));
        let said = root.join("said");
        let hook = |name: &str, then: &str| {
            let path = root.join("hooks").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let text = format!("#!/bin/sh\necho {name} $1 >> {}\n{then}\n", said.display());
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        hook("pre-install/1-unlock", "");
        hook("pre-install/2-fails", "exit 1");
        hook("post-install/lock", "");
        let lock = node.state.lock().unwrap();
        let left = begun(root, Phase::Committing);
        let (system, mut record) = (left.system.clone(), left.after.unwrap());
        let context = node.context(&system);
        for number in [1, 2] {
            left.target
                .driver()
                .begin_staging(&context, number, None)
                .unwrap();
            left.target.driver().publish(&context, number).unwrap();
        }
        let mut other = record.generations[0].clone();
        other.number = 2;
        other.directory = left.target.driver().location(&system, 2);
        record.generations.push(other);
        record.newest = 2;
        node.state
            .set_system(&lock, &system, Some(&record))
            .unwrap();
        let error =
            crate::install::activate::activate(&node, &lock, &record, 2, false).unwrap_err();
        assert_eq!(error.what(), "a pre-install hook failed");
        assert_eq!(node.state.installed(&system).unwrap(), record);
        drop(lock);
        let error = crate::install::uninstall(&node, &system, crate::session::Timeouts::default());
        assert_eq!(error.unwrap_err().what(), "a pre-install hook failed");
        assert_eq!(node.state.installed(&system).unwrap(), record);
        assert_eq!(unfinished(&node).unwrap(), None);
        let three = |act| {
            format!(
                "pre-install/1-unlock {act}\npre-install/2-fails {act}\npost-install/lock {act}\n"
            )
        };
        assert_eq!(
            fs::read_to_string(&said).unwrap(),
            three("switch") + &three("uninstall")
        );
    }

    #[test]
    fn a_journal_that_contradicts_itself_stops_us() {
        let directory = tempfile::tempdir().unwrap();
        let node = node(directory.path());
        let lock = node.state.lock().unwrap();
        let mut left = begun(directory.path(), Phase::Writing);
        left.target = "dir:/etc".parse().unwrap();
        write(&node, &lock, &left).unwrap();
        let error = recover(&node, &lock).unwrap_err();
        assert!(error.what().contains("journal.json is damaged"), "{error}");
    }

    /// Two generations that are there; the first is active.
    fn two(root: &Path, node: &Node<'_>, lock: &Lock) -> SystemRecord {
        let target = format!("dir:{}", root.join("images").display());
        let mut record = sample(&target, "web", 2);
        let context = node.context(&record.system);
        for number in [1, 2] {
            let driver = record.target.driver();
            driver.begin_staging(&context, number, None).unwrap();
            driver.publish(&context, number).unwrap();
        }
        record.active = 1;
        node.state
            .set_system(lock, &record.system, Some(&record))
            .unwrap();
        fs::write(node.schroot.file(&record.system), record.chroot().render()).unwrap();
        record
    }

    #[test]
    fn a_generation_that_did_not_answer_before_a_kill_is_not_active() {
        let directory = tempfile::tempdir().unwrap();
        let (root, node) = (directory.path(), node(directory.path()));
        let lock = node.state.lock().unwrap();
        let record = two(root, &node, &lock);
        let system = &record.system;
        let switched = record.switched(2);
        let mut left =
            JournalEntry::begin(Operation::Switch, &record, Some(&record), Some(&switched));
        left.phase = Phase::Committing;
        left.asks = true;
        // Killed while the question was asked, and before that.
        for committed in [true, false] {
            write(&node, &lock, &left).unwrap();
            if committed {
                node.state
                    .set_system(&lock, system, Some(&switched))
                    .unwrap();
                fs::write(node.schroot.file(system), switched.chroot().render()).unwrap();
            }
            assert!(!has_answered(&node, &left).unwrap());
            // Whether schroot agrees is not this machine's to say.
            let _ = recover(&node, &lock);
            let text = fs::read_to_string(node.schroot.file(system)).unwrap();
            assert!(text.contains("/web/1"), "{text}");
        }
        let session = crate::session::Session {
            schema: SCHEMA,
            system: system.clone(),
            id: "web-1".to_owned(),
            generation: 2,
            started: 0,
            listen: Vec::new(),
            words: Vec::new(),
            main: None,
        };
        atomic_file::write_json(&node.state.session_file(system), &session).unwrap();
        assert!(has_answered(&node, &left).unwrap());
    }

    #[test]
    fn hooks_that_failed_run_again_until_they_succeed() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let (root, node) = (directory.path(), node(directory.path()));
        let _lock = node.state.lock().unwrap();
        let hook = root.join("hooks/post-install/lock");
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        let said = root.join("said");
        let text = format!(
            "#!/bin/sh\necho $1 >> {0}\ntest -e {0}.ok\n",
            said.display()
        );
        fs::write(&hook, text).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        let system = "web".parse().unwrap();
        assert_eq!(failed_hooks(&node, &system).unwrap(), None);
        hooks_again(&node, &system).unwrap();
        assert!(!said.exists());
        hooks_after(&node, "switch", &system).unwrap_err();
        let failed = failed_hooks(&node, &system).unwrap().unwrap();
        assert_eq!(failed.act, "switch");
        assert!(failed.why.contains("post-install"), "{}", failed.why);
        hooks_again(&node, &system).unwrap_err();
        fs::write(root.join("said.ok"), "").unwrap();
        hooks_again(&node, &system).unwrap();
        hooks_again(&node, &system).unwrap();
        assert_eq!(failed_hooks(&node, &system).unwrap(), None);
        assert_eq!(fs::read_to_string(said).unwrap(), "switch\n".repeat(3));
    }
}
