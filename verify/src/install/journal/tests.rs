use super::recover::has_answered;
use super::*;
use crate::atomic_file::{self, SCHEMA};
use crate::event::Silent;
use crate::host::hooks::Hooks;
use crate::host::provisions::Provisions;
use crate::host::schroot::Schroot;
use crate::node::Node;
use crate::state::record::SystemRecord;
use crate::state::record::tests::sample;
use crate::state::{Lock, State};
use crate::system::SystemName;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

fn web() -> SystemName {
    "web".parse().unwrap()
}

static NEVER: AtomicBool = AtomicBool::new(false);

fn node(root: &Path) -> Node<'static> {
    fs::create_dir_all(root.join("etc/chroot.d")).unwrap();
    Node {
        state: State::new(root.join("state")),
        schroot: Schroot::new(root.join("etc")),
        hooks: Hooks::new(root.join("hooks")),
        provisions: Provisions::new(root.join("etc/imgnode")),
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
    let lock = node.state.lock(&web()).unwrap();
    let left = begun(root, Phase::Writing);
    write(&node, &lock, &left).unwrap();
    let context = node.context(&left.system);
    left.target
        .driver()
        .begin_staging(&context, 1, None)
        .unwrap();
    fs::create_dir_all(root.join("images/web/.staging/usr/bin")).unwrap();
    recover(&node, &lock, &web()).unwrap();
    assert!(!root.join("images").exists());
    assert_eq!(unfinished(&node).unwrap(), []);
    recover(&node, &lock, &web()).unwrap();
}

#[test]
fn an_uninstall_is_finished_however_far_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let (root, node) = (directory.path(), node(directory.path()));
    let lock = node.state.lock(&web()).unwrap();
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
    recover(&node, &lock, &web()).unwrap();
    assert!(root.join("images/web/1").exists() && node.schroot.file(&left.system).exists());
    left.phase = Phase::Committing;
    write(&node, &lock, &left).unwrap();
    recover(&node, &lock, &web()).unwrap();
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
    let lock = node.state.lock(&web()).unwrap();
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
    let error = crate::install::activate::activate(&node, &lock, &record, 2, false).unwrap_err();
    assert_eq!(error.what(), "a pre-install hook failed");
    assert_eq!(node.state.installed(&system).unwrap(), record);
    drop(lock);
    let error = crate::install::uninstall(&node, &system, crate::session::Timeouts::default());
    assert_eq!(error.unwrap_err().what(), "a pre-install hook failed");
    assert_eq!(node.state.installed(&system).unwrap(), record);
    assert_eq!(unfinished(&node).unwrap(), []);
    let three = |act| {
        format!("pre-install/1-unlock {act}\npre-install/2-fails {act}\npost-install/lock {act}\n")
    };
    assert_eq!(
        fs::read_to_string(&said).unwrap(),
        three("switch") + &three("uninstall")
    );
}

/// A kill before the first journal of a system was there.
#[test]
fn what_was_cut_short_before_it_began_goes_with_the_next_command() {
    let directory = tempfile::tempdir().unwrap();
    let (root, node) = (directory.path(), node(directory.path()));
    let lock = node.state.lock(&web()).unwrap();
    let journals = node.state.journal(&web()).parent().unwrap().to_owned();
    let locks = node.state.root().join("locks");
    let names = |place: &Path| {
        let entries = fs::read_dir(place).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<Vec<_>>()
    };
    fs::write(journals.join(".other.json.new"), "{").unwrap();
    fs::write(locks.join("another"), "").unwrap();
    recover(&node, &lock, &web()).unwrap();
    assert_eq!(names(&journals), [""; 0]);
    assert_eq!(names(&locks), ["web"]);
    assert!(!root.join("images").exists());
}

#[test]
fn the_journal_of_an_earlier_version_is_that_of_its_system() {
    let directory = tempfile::tempdir().unwrap();
    let (root, node) = (directory.path(), node(directory.path()));
    let (other, left) = ("other".parse().unwrap(), begun(root, Phase::Writing));
    let plant = |path: &Path| {
        atomic_file::write_json(path, &left).unwrap();
        let context = node.context(&left.system);
        let driver = left.target.driver();
        driver.begin_staging(&context, 1, None).unwrap();
    };
    let gone = || !root.join("images").exists() && unfinished(&node).unwrap().is_empty();
    // By whichever command comes first, in either form.
    for (system, common) in [(&other, true), (&left.system, true), (&other, false)] {
        let lock = node.state.lock(system).unwrap();
        let paths = [
            node.state.journal(&left.system),
            node.state.common_journal(),
        ];
        plant(&paths[usize::from(common)]);
        assert_eq!(unfinished(&node).unwrap().len(), 1);
        recover(&node, &lock, system).unwrap();
        assert!(gone(), "{system} {common}");
    }
    // Not while somebody is at work on that system.
    let busy = node.state.lock(&left.system).unwrap();
    plant(&node.state.journal(&left.system));
    let lock = node.state.lock(&other).unwrap();
    recover(&node, &lock, &other).unwrap();
    assert!(!gone());
    drop((busy, lock));
    recover_all(&node, &node.state.lock_node().unwrap()).unwrap();
    assert!(gone());
}

#[test]
fn a_journal_that_contradicts_itself_stops_us() {
    let directory = tempfile::tempdir().unwrap();
    let node = node(directory.path());
    let lock = node.state.lock(&web()).unwrap();
    let mut left = begun(directory.path(), Phase::Writing);
    left.target = "dir:/etc".parse().unwrap();
    write(&node, &lock, &left).unwrap();
    let error = recover(&node, &lock, &web()).unwrap_err();
    assert!(
        error.what().contains("journals/web.json is damaged"),
        "{error}"
    );
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
    let lock = node.state.lock(&web()).unwrap();
    let record = two(root, &node, &lock);
    let system = &record.system;
    let switched = record.switched(2);
    let mut left = JournalEntry::begin(Operation::Switch, &record, Some(&record), Some(&switched));
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
        let _ = recover(&node, &lock, &web());
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
        keeper: None,
    };
    atomic_file::write_json(&node.state.session_file(system), &session).unwrap();
    assert!(has_answered(&node, &left).unwrap());
}

#[test]
fn hooks_that_failed_run_again_until_they_succeed() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let (root, node) = (directory.path(), node(directory.path()));
    let _lock = node.state.lock(&web()).unwrap();
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
