//! Every target with thousands of mutated seeds, and everything that was ever found.

use std::path::Path;

use fuzz::mutate::Mutator;
use fuzz::{TARGETS, Target};

/// How many inputs each target gets: enough to notice what is badly wrong, in the time of a test.
/// `IMGBUILD_SOAK=1` takes a hundred times as many.
fn rounds() -> u64 {
    let soak = std::env::var_os("IMGBUILD_SOAK").is_some();
    if soak { 500_000 } else { 5_000 }
}

/// The inputs of `found/NAME` are kept for ever.
#[test]
fn what_was_found() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("found");
    for kind in std::fs::read_dir(folder).unwrap() {
        let kind = kind.unwrap();
        let name = kind.file_name();
        let target = Target::named(name.to_str().unwrap()).expect("a folder for each target");
        for input in kind.path().read_dir().unwrap() {
            (target.run)(&std::fs::read(input.unwrap().path()).unwrap());
        }
    }
}

#[test]
fn seeds_are_accepted() {
    type Accepts = fn(&[u8]) -> bool;
    let accepted: [(&str, Accepts); 7] = [
        ("tar", canonical),
        ("layout", |bytes| store::fuzz::layout(bytes).is_some()),
        ("index", |bytes| store::fuzz::index(bytes).is_some()),
        ("delta", |bytes| {
            store::fuzz::delta(bytes).is_some()
                || store::fuzz::pair(bytes).is_some()
                || store::fuzz::patch(bytes, &[0; 50], 50).is_some()
        }),
        ("hint", |bytes| store::fuzz::hint(bytes).is_some()),
        ("manifest", |bytes| {
            store::Manifest::from_json(bytes).is_ok()
        }),
        ("waves", |bytes| fuzz::waves::read(bytes).is_some()),
    ];
    for (name, accepted) in accepted {
        for seed in (Target::named(name).unwrap().seeds)() {
            assert!(accepted(&seed), "{name}: {}", seed.escape_ascii());
        }
    }
    let key = (Target::named("key").unwrap().seeds)().remove(1);
    assert_eq!(
        store::fuzz::key(std::str::from_utf8(&key).unwrap()),
        Some(true)
    );
    let receipts = (Target::named("receipt").unwrap().seeds)();
    for (seed, read) in receipts.iter().zip([
        store::fuzz::receipt as fn(&[u8]) -> Option<Vec<u8>>,
        store::fuzz::receipt,
        store::fuzz::fleet,
    ]) {
        assert!(read(seed).is_some(), "{}", seed.escape_ascii());
    }
    let log = (Target::named("log").unwrap().seeds)().remove(1);
    assert!(store::fuzz::log(&log).is_some());
}

fn canonical(bytes: &[u8]) -> bool {
    let mut reader = store::canonical_tar::Reader::new(bytes);
    loop {
        match reader.next_entry() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

fn some_mutations(name: &str) {
    let target = Target::named(name).unwrap();
    let seeds = (target.seeds)();
    for seed in &seeds {
        (target.run)(seed);
    }
    let mut mutator = Mutator::new(name.len() as u64);
    for _ in 0..rounds() {
        let input = mutator.change(&seeds);
        let run = std::panic::catch_unwind(|| (target.run)(&input));
        assert!(run.is_ok(), "{name}: {}", input.escape_ascii());
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                some_mutations(stringify!($name));
            }
        )*

        #[test]
        fn no_target_is_forgotten() {
            assert_eq!(TARGETS.map(|target| target.name), [$(stringify!($name)),*]);
        }
    };
}

targets! { tar tree layout index delta manifest json hint log receipt key toml waves }
