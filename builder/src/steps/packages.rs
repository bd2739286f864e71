//! Bootstrap and packages: debootstrap and apt on a local archive.
//!
//! Both get exactly the locked packages, so they stay themselves and
//! still cannot choose anything else.

use std::fmt::Write as _;

use super::{Content, Form, Mirror, Phase, STEP_FILES, Step, TARBALL, mirror_path};
use crate::lockfile::{InstallStage, Lock};
use crate::process::quote;
use crate::recipe::{Packages, Recipe};
use crate::unpack;

/// After debootstrap: no service starts during the build, no mirror is named,
/// and `localhost` has one, which Debian leaves to its installer. debootstrap copies the host's
/// resolver, which not every host has.
const AFTER_BOOTSTRAP: &str = r"printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
: > /etc/apt/sources.list
rm -rf /debootstrap /var/cache/apt/archives/*.deb /var/lib/apt/lists/*
mkdir -p /var/lib/apt/lists/partial
[ -e /etc/hosts ] || printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n' > /etc/hosts
[ -e /etc/resolv.conf ] || [ -L /etc/resolv.conf ] || : > /etc/resolv.conf
";

/// apt with all of its files outside of the tree.
const APT: &str = r#"mkdir -p /run/apt/lists/partial /run/apt/cache/archives/partial /run/apt/log
cp /run/imgbuild/step/sources.list /run/apt/sources.list
cat > /run/apt/apt.conf <<'END'
Dir::Etc::sourcelist "/run/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "/run/apt/lists";
Dir::Cache "/run/apt/cache";
Dir::Log "/run/apt/log";
APT::Sandbox::User "root";
APT::Get::Assume-Yes "true";
Acquire::Languages "none";
DPkg::Use-Pty "false";
DPkg::Options { "--force-confdef"; "--force-confold"; };
END
export APT_CONFIG=/run/apt/apt.conf
apt-get -q update
"#;

/// What debootstrap does for a suite, among the step's files.
const SUITE_SCRIPT: &str = "debootstrap";

const NO_PREFERENCES: &str = "Dir::Etc::preferences \"/dev/null\";";
const PREFERENCES: &str = "Dir::Etc::preferences \"/run/imgbuild/step/preferences\";";
/// The version that the lock has, also where an older one is.
const AS_LOCKED: &str = "Package: *\nPin: release o=imgbuild\nPin-Priority: 1001\n";

pub(super) fn bootstrap(recipe: &Recipe, lock: &Lock) -> Step {
    let mut step = Step::new(Phase::Bootstrap, "bootstrap", lock.epoch);
    let suite = &recipe.bootstrap.suite;
    step.host = vec![
        "debootstrap".into(),
        format!("--arch={}", lock.architecture),
        format!("--variant={}", recipe.bootstrap.variant).replace("=standard", "=-"),
        // Its packages' digests are those that the lock names.
        "--no-check-gpg".into(),
        format!("--unpack-tarball={}/{TARBALL}", mirror_path().display()),
        suite.to_string(),
        "@ROOT@".into(),
        format!("file://{}", mirror_path().display()),
        format!("{STEP_FILES}/{SUITE_SCRIPT}"),
    ];
    if recipe.bootstrap.variant == crate::recipe::Variant::Buildd {
        step.host.insert(1, "--merged-usr".into());
    }
    step.add_file(SUITE_SCRIPT, Content::Text(unpack::SCRIPT.into()));
    step.script = AFTER_BOOTSTRAP.into();
    step.mirror = Some(Mirror {
        form: Form::Tarball,
        suite: suite.to_string(),
        debs: lock
            .debs_at(InstallStage::Base)
            .into_iter()
            .map(|d| (d.sha256, d.stage))
            .collect(),
        stage: InstallStage::Base,
        is_complete: false,
    });
    step
}

pub(super) fn groups(recipe: &Recipe, lock: &Lock) -> Vec<Step> {
    let groups = recipe.package_groups();
    (1u32..)
        .zip(&groups)
        .map(|(n, group)| install(group, n, lock))
        .collect()
}

fn install(group: &Packages, number: u32, lock: &Lock) -> Step {
    const SUITE: &str = "locked";
    let stage = InstallStage::Packages(number);
    let count = lock.debs.iter().filter(|d| d.stage == stage).count();
    let mut step = Step::new(
        Phase::Packages,
        format!("packages {number} ({count})"),
        lock.epoch,
    );
    let mut script = APT.to_owned();
    // apt upgrades what must follow by itself; it goes back only when told.
    let mut downgrades = "";
    if lock.replaces(stage) {
        script = script.replacen(NO_PREFERENCES, PREFERENCES, 1);
        step.add_file("preferences", Content::Text(AS_LOCKED.into()));
        downgrades = " --allow-downgrades";
    }
    if !group.debconf.is_empty() {
        let lines = group.debconf.iter().map(|answer| format!("{answer}\n"));
        step.add_file("debconf", Content::Text(lines.collect()));
        let _ = writeln!(script, "debconf-set-selections {STEP_FILES}/debconf");
    }
    let recommends = if group.recommends { "" } else { "no-" };
    let local = lock
        .debs
        .iter()
        .filter(|d| d.stage == stage && d.archive.is_none());
    let wanted: Vec<String> = group
        .install
        .iter()
        .map(ToString::to_string)
        .chain(local.map(|d| format!("{}={}", d.name, d.version)))
        .map(|word| quote(&word))
        .collect();
    if !wanted.is_empty() {
        let _ = writeln!(
            script,
            "apt-get -q --{recommends}install-recommends{downgrades} install -- {}",
            wanted.join(" ")
        );
    }
    for answer in &group.debconf {
        let (package, question) = (answer.package(), answer.question());
        let words = format!("the package `{package}` does not ask {question}: correct `debconf`");
        let _ = writeln!(
            script,
            "cat /var/lib/dpkg/info/{package}.templates /var/lib/dpkg/info/{package}:*.templates \
             2>/dev/null |\n    grep -q -x -F -e {} || {{ echo {} >&2; exit 1; }}",
            quote(&format!("Template: {question}")),
            quote(&words),
        );
    }
    let list = |names: &[crate::recipe::PackageName]| -> String {
        names
            .iter()
            .map(|n| quote(n.as_str()))
            .collect::<Vec<_>>()
            .join(" ")
    };
    if !group.hold.is_empty() {
        let _ = writeln!(script, "apt-mark hold -- {}", list(&group.hold));
    }
    if !group.purge.is_empty() {
        let _ = writeln!(script, "apt-get -q purge -- {}", list(&group.purge));
    }
    step.script = script;
    let address = mirror_path();
    step.add_file(
        "sources.list",
        Content::Text(format!(
            "deb [trusted=yes] file:{} {SUITE} main\n",
            address.display()
        )),
    );
    debug_assert!(step.script.contains(STEP_FILES));
    step.mirror = Some(Mirror {
        form: Form::Archive,
        suite: SUITE.into(),
        debs: lock
            .debs_at(stage)
            .into_iter()
            .map(|d| (d.sha256, d.stage))
            .collect(),
        stage,
        is_complete: lock.replaces(stage) || lock.removed.contains_key(&stage.to_string()),
    });
    step
}
