//! One row for each field of a recipe.

use std::collections::BTreeSet;
use std::path::Path;

use builder::lock::{packages_from, virtualenv_from};
use builder::lockfile::Lock;
use builder::recipe::Recipe;

use crate::schema::{Key, Section, sections};

use super::{
    AS_OP, BOTH_VIRTUALENV, STEPS, assert_keys_follow, changed, lock, parse, planned, role,
};

/// A recipe in which every field is written.
pub(crate) const RECIPE: &str = r#"
name = "all"
description = "every field"

[bootstrap]
suite = "bookworm"
variant = "minbase"
architecture = "amd64"
components = ["main"]
include = ["locales"]
exclude = ["nano"]
snapshot = "20260901T000000Z"
release = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

[[source]]
name = "ours"
archive = "ours"
suite = "ours-suite"
components = ["main"]
key = "one.txt"
priority = 100
snapshot = "20260902T000000Z"
release = "sha256:2222222222222222222222222222222222222222222222222222222222222222"

[[source]]
name = "spare"
suite = "spare-suite"

[apt]
preferences = "Package: git\nPin: release n=x\nPin-Priority: 990"

[[packages]]
install = ["git"]
recommends = false
target-release = "spare-suite"
debs = ["one.deb"]
debconf = ["git git/ask boolean true"]
hold = ["held"]
purge = ["purged"]

[system]
locale = "en_US.UTF-8"
locales = ["it_IT.UTF-8"]
timezone = "Europe/Rome"

[[user]]
name = "op"
uid = 1000
gid = 1000
shell = "/bin/sh"
home = "/home/op"
skeleton = "one"
groups = ["adm"]
comment = "runs it"

[[user]]
name = "spare"
uid = 1001

[[download]]
url = "https://downloads.example/one"
sha256 = "1111111111111111111111111111111111111111111111111111111111111111"
path = "/opt/one"
unpack = true
strip = 1
owner = "op"

[[download]]
url = "https://downloads.example/two"
sha256 = "2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a"
path = "/opt/two"
mode = "0755"

[[download]]
url = "https://downloads.example/three"
sha256 = "3333333333333333333333333333333333333333333333333333333333333333"
path = "/opt/three"
unpack = false

[[file]]
path = "/home/op/file"
source = "one.txt"
exclude = [".git"]
mode = "0600"
owner = "op"

[[file]]
path = "/etc/content"
content = "content"
append = false

[[file]]
path = "/etc/link"
symlink = "/tmp"

[[virtualenv]]
path = "/home/op/v"
owner = "op"
python = "python3"
wrapper = true
system-site-packages = false
requirements = ["app==1"]
requirements-files = ["one.txt"]
constraints = ["dep<2"]
constraints-files = ["one.txt"]
build-constraints = ["tool<2"]
distributions = ["one-1.tar.gz"]
extras = ["postgres"]
groups = ["production"]
index = { torch = "extra" }
environment = { CFLAGS = "-O1" }
local = ["one"]
git = [{ url = "https://git.example.org/it.git", tag = "v1", subdirectory = "sub" }]

[[run]]
script = "true"
name = "it"
user = "op"
directory = "/srv"
environment = { MODE = "run" }
timeout = "30m"

[[test]]
name = "command"
command = ["/bin/true", "word"]
user = "op"
directory = "/var"
environment = { MODE = "test" }
timeout = "9m"

[[test]]
name = "script"
script = "exit 0"

[service]
user = "op"
start = ["/bin/start"]
stop = ["/bin/stop"]
reload = ["/bin/reload"]
directory = "/home"
environment = { MODE = "serve" }
state = ["/var/lib/op"]
cache = ["/var/cache/op"]
logs = ["/var/log/op"]
secrets = ["key", "other"]
secret-environment = { KEY = "key" }
settings = ["SITE"]
resolver = "image"
before-switch = ["/bin/prepare"]

[service.health]
http = "/up?now"
headers = ["Asked: before"]
within = "7m"
timeout = "7s"
bake = "9h"

[service.fences]
memory = "512M"
cpu = "150%"
tasks = 64
open-files = 4096
no-new-privileges = true
private-network = true
read-only = true

[[process]]
name = "worker"
command = ["/bin/worker"]
user = "op"
directory = "/opt"
environment = { MODE = "work" }
count = 2
stop-signal = "INT"
reload-signal = "USR1"
overlap = true

[[timer]]
name = "hourly"
command = ["/bin/hourly"]
user = "op"
directory = "/media"
environment = { MODE = "tick" }
every = "1h"
limit = "20m"

[[timer]]
name = "nightly"
command = ["/bin/nightly"]
at = "03:30"

[clean]
remove = ["/usr/share/doc/**"]
keep = ["/var/log/kept"]
autoremove = true
"#;

/// What is resolved again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Again {
    /// apt's decisions, and what follows from them.
    Packages,
    /// pip's.
    Virtualenv,
}
use Again::{Packages, Virtualenv};

/// A field, a change of it (the only such text in the recipe, and what takes its
/// place), the steps that it changes by itself, and what is resolved again; what
/// that brings changes steps through the lock.
type Row = (
    &'static str,
    (&'static str, &'static str),
    &'static [&'static str],
    &'static [Again],
);

#[rustfmt::skip] // a row a line
const ROWS: &[Row] = &[
    // The step's text has the image's name: it names a file of apt's.
    ("name", ("name = \"all\"", "name = \"new\""), &["apt preferences"], &[]),
    ("description", ("every field", "new"), &[], &[]),
    ("bootstrap.suite", ("suite = \"bookworm\"", "suite = \"trixie\""), &["bootstrap"], &[Packages]),
    ("bootstrap.variant", ("\"minbase\"", "\"buildd\""), &["bootstrap"], &[Packages]),
    ("bootstrap.architecture", ("\"amd64\"", "\"arm64\""), &[], &[Packages]),
    ("bootstrap.components", ("[\"main\"]\ninclude", "[\"main\", \"contrib\"]\ninclude"), &[], &[Packages]),
    ("bootstrap.include", ("[\"locales\"]", "[\"locales\", \"less\"]"), &[], &[Packages]),
    ("bootstrap.exclude", ("[\"nano\"]", "[\"vim\"]"), &[], &[Packages]),
    // It takes the place of what debootstrap would be told.
    ("bootstrap.base", ("include = [\"locales\"]\nexclude = [\"nano\"]", "base = \"prod/debian\""), &[], &[Packages]),
    ("bootstrap.snapshot", ("20260901T000000Z", "20250901T000000Z"), &[], &[Packages]),
    ("bootstrap.release", ("sha256:11", "sha256:12"), &[], &[Packages]),
    ("source.snapshot", ("20260902T000000Z", "20250902T000000Z"), &[], &[Packages]),
    ("source.release", ("sha256:22", "sha256:21"), &[], &[Packages]),
    ("source.name", ("name = \"ours\"", "name = \"new\""), &[], &[Packages]),
    ("source.archive", ("archive = \"ours\"", "archive = \"new\""), &[], &[Packages]),
    ("source.suite", ("suite = \"ours-suite\"", "suite = \"new\""), &["apt preferences"], &[Packages]),
    ("source.components", ("[\"main\"]\nkey", "[\"contrib\"]\nkey"), &[], &[Packages]),
    ("source.key", ("key = \"one.txt\"", "key = \"two.txt\""), &[], &[Packages]),
    ("source.priority", ("priority = 100", "priority = 200"), &["apt preferences"], &[Packages]),
    ("apt.preferences", ("Pin-Priority: 990", "Pin-Priority: 991"), &["apt preferences"], &[Packages]),
    ("packages.install", ("[\"git\"]", "[\"git\", \"less\"]"), &["packages 1"], &[Packages]),
    ("packages.recommends", ("recommends = false", "recommends = true"), &["packages 1"], &[Packages]),
    ("packages.debconf", ("boolean true", "boolean false"), &["packages 1"], &[Packages]),
    ("packages.target-release", ("release = \"spare-suite\"", "release = \"ours-suite\""), &[], &[Packages]),
    ("packages.debs", ("[\"one.deb\"]", "[\"two.deb\"]"), &[], &[Packages]),
    ("packages.hold", ("[\"held\"]", "[\"new\"]"), &["packages 1"], &[Packages]),
    ("packages.purge", ("[\"purged\"]", "[\"new\"]"), &["packages 1"], &[Packages]),
    ("system.locale", ("\"en_US.UTF-8\"", "\"de_DE.UTF-8\""), &["locale and time zone"], &[]),
    ("system.locales", ("\"it_IT.UTF-8\"", "\"fr_FR.UTF-8\""), &["locale and time zone"], &[]),
    ("system.timezone", ("\"Europe/Rome\"", "\"Europe/Paris\""), &["locale and time zone"], &[]),
    ("user.name", ("name = \"spare\"\nuid", "name = \"new\"\nuid"), &["users"], &[]),
    // Directories on the way to a file in a home belong to its user, by number.
    ("user.uid", ("uid = 1000", "uid = 1002"), &["users", "files"], &[]),
    ("user.gid", ("gid = 1000", "gid = 1002"), &["users", "files"], &[]),
    ("user.shell", ("\"/bin/sh\"", "\"/bin/bash\""), &["users", AS_OP[0], AS_OP[1], AS_OP[2], AS_OP[3]], &[]),
    ("user.home", ("home = \"/home/op\"", "home = \"/home/new\""), &["users", "files", AS_OP[0], AS_OP[1], AS_OP[2], AS_OP[3]], &[]),
    ("user.skeleton", ("skeleton = \"one\"", "skeleton = \"two\""), &["users"], &[]),
    ("user.groups", ("[\"adm\"]", "[\"sudo\"]"), &["users"], &[]),
    ("user.comment", ("runs it", "new"), &["users"], &[]),
    // The bytes are what counts.
    ("download.url", ("example/one", "example/new"), &[], &[]),
    ("download.sha256", ("2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a", "4444444444444444444444444444444444444444444444444444444444444444"), &["downloads"], &[]),
    ("download.path", ("/opt/two", "/opt/new"), &["downloads"], &[]),
    ("download.unpack", ("unpack = false", "unpack = true"), &["downloads"], &[]),
    ("download.strip", ("strip = 1", "strip = 2"), &["downloads"], &[]),
    ("download.mode", ("mode = \"0755\"", "mode = \"0700\""), &["downloads"], &[]),
    ("download.owner", ("owner = \"op\"\n\n[[download]]", "owner = \"op:adm\"\n\n[[download]]"), &["downloads", "owners"], &[]),
    ("file.path", ("/etc/link", "/etc/new"), &["files"], &[]),
    ("file.source", ("source = \"one.txt\"", "source = \"two.txt\""), &["files"], &[]),
    // The lock's digest of the source says what was left out.
    ("file.exclude", ("[\".git\"]", "[\".hg\"]"), &[], &[]),
    ("file.content", ("content = \"content\"", "content = \"new\""), &["files"], &[]),
    ("file.symlink", ("symlink = \"/tmp\"", "symlink = \"/new\""), &["files"], &[]),
    ("file.append", ("append = false", "append = true"), &["files"], &[]),
    ("file.mode", ("\"0600\"", "\"0640\""), &["files"], &[]),
    ("file.owner", ("owner = \"op\"\n\n[[file]]", "owner = \"op:adm\"\n\n[[file]]"), &["files", "owners"], &[]),
    ("virtualenv.path", ("path = \"/home/op/v\"", "path = \"/home/op/new\""), &[AS_OP[0], AS_OP[1], "clean and normalise", "virtualenv /home/op/new", "virtualenv /home/op/new: own packages"], &[Virtualenv]),
    ("virtualenv.owner", ("owner = \"op\"\npython", "owner = \"op:adm\"\npython"), &["owners", AS_OP[0], AS_OP[1]], &[Virtualenv]),
    ("virtualenv.python", ("\"python3\"", "\"python2\""), BOTH_VIRTUALENV, &[Virtualenv]),
    // It brings a package of its own.
    ("virtualenv.wrapper", ("wrapper = true", "wrapper = false"), &["packages 2", AS_OP[0]], &[Packages, Virtualenv]),
    ("virtualenv.system-site-packages", ("packages = false", "packages = true"), &[AS_OP[0]], &[Virtualenv]),
    ("virtualenv.requirements", ("app==1", "app==2"), &[], &[Virtualenv]),
    ("virtualenv.requirements-files", ("requirements-files = [\"one", "requirements-files = [\"two"), &[], &[Virtualenv]),
    ("virtualenv.constraints", ("dep<2", "dep<3"), &[], &[Virtualenv]),
    ("virtualenv.extras", ("postgres", "mysql"), &[], &[Virtualenv]),
    ("virtualenv.groups", ("production", "testing"), &[], &[Virtualenv]),
    ("virtualenv.index", ("torch = \"extra\"", "torch = \"main\""), &[], &[Virtualenv]),
    ("virtualenv.build-constraints", ("tool<2", "tool<3"), &[], &[Virtualenv]),
    ("virtualenv.constraints-files", ("constraints-files = [\"one", "constraints-files = [\"two"), &[], &[Virtualenv]),
    ("virtualenv.environment", ("-O1", "-O2"), BOTH_VIRTUALENV, &[Virtualenv]),
    ("virtualenv.distributions", ("one-1.tar.gz", "two-1.tar.gz"), &[], &[Virtualenv]),
    ("virtualenv.local", ("local = [\"one\"]", "local = [\"two\"]"), &[AS_OP[1]], &[Virtualenv]),
    // The lock names the commit; which repository had it is not part of a step.
    ("virtualenv.git.url", ("org/it.git", "org/new.git"), &[], &[Virtualenv]),
    ("virtualenv.git.tag", ("tag = \"v1\"", "tag = \"v2\""), &[], &[Virtualenv]),
    ("virtualenv.git.commit", ("tag = \"v1\"", "commit = \"3b18e512dba79e4c8300dd08aeb37f8e728b8dad\""), &[], &[Virtualenv]),
    ("virtualenv.git.subdirectory", ("\"sub\"", "\"new\""), &[AS_OP[1]], &[Virtualenv]),
    ("run.script", ("script = \"true\"", "script = \"new\""), &["run: it"], &[]),
    ("run.name", ("name = \"it\"", "name = \"new\""), &["run: it", "run: new"], &[]),
    ("run.user", ("user = \"op\"\ndirectory = \"/srv\"", "user = \"root\"\ndirectory = \"/srv\""), &["run: it"], &[]),
    ("run.directory", ("\"/srv\"", "\"/new\""), &["run: it"], &[]),
    ("run.environment", ("\"run\"", "\"new\""), &["run: it"], &[]),
    // How long a step may take is nothing of what it makes.
    ("run.timeout", ("\"30m\"", "\"31m\""), &[], &[]),
    ("test.name", ("name = \"script\"", "name = \"new\""), &["test: script", "test: new"], &[]),
    ("test.command", ("\"word\"", "\"new\""), &["test: command"], &[]),
    ("test.script", ("exit 0", "exit 1"), &["test: script"], &[]),
    ("test.user", ("user = \"op\"\ndirectory = \"/var\"", "user = \"root\"\ndirectory = \"/var\""), &["test: command"], &[]),
    ("test.directory", ("\"/var\"", "\"/new\""), &["test: command"], &[]),
    ("test.environment", ("\"test\"", "\"new\""), &["test: command"], &[]),
    ("test.timeout", ("\"9m\"", "\"8m\""), &[], &[]),
    // The manifest says how a session is run, no file of the tree does.
    ("service.user", ("user = \"op\"\nstart", "user = \"root\"\nstart"), &[], &[]),
    ("service.start", ("/bin/start", "/bin/new"), &[], &[]),
    ("service.stop", ("/bin/stop", "/bin/new"), &[], &[]),
    ("service.reload", ("/bin/reload", "/bin/new"), &[], &[]),
    ("service.directory", ("directory = \"/home\"", "directory = \"/new\""), &[], &[]),
    ("service.environment", ("\"serve\"", "\"new\""), &[], &[]),
    ("service.state", ("/var/lib/op", "/var/lib/new"), &[], &[]),
    ("service.cache", ("/var/cache/op", "/var/cache/new"), &[], &[]),
    ("service.logs", ("/var/log/op", "/var/log/new"), &[], &[]),
    ("service.secrets", ("\"key\", \"other\"", "\"key\""), &[], &[]),
    ("service.secret-environment", ("KEY = \"key\"", "KEY = \"other\""), &[], &[]),
    ("service.settings", ("\"SITE\"", "\"HOST\""), &[], &[]),
    ("service.resolver", ("resolver = \"image\"", "resolver = \"node\""), &[], &[]),
    ("service.before-switch", ("/bin/prepare", "/bin/new"), &[], &[]),
    ("service.health.http", ("/up?now", "/new"), &[], &[]),
    ("service.health.headers", ("Asked: before", "Asked: after"), &[], &[]),
    ("service.health.command", (
        "http = \"/up?now\"\nheaders = [\"Asked: before\"]", "command = [\"/bin/new\"]",
    ), &[], &[]),
    ("service.health.within", ("\"7m\"", "\"6m\""), &[], &[]),
    ("service.health.timeout", ("\"7s\"", "\"6s\""), &[], &[]),
    ("service.health.bake", ("bake = \"9h\"", "bake = \"8h\""), &[], &[]),
    ("service.fences.memory", ("\"512M\"", "\"1G\""), &[], &[]),
    ("service.fences.cpu", ("\"150%\"", "\"50%\""), &[], &[]),
    ("service.fences.tasks", ("tasks = 64", "tasks = 65"), &[], &[]),
    ("service.fences.open-files", ("open-files = 4096", "open-files = 512"), &[], &[]),
    ("service.fences.no-new-privileges", ("no-new-privileges = true", "no-new-privileges = false"), &[], &[]),
    ("service.fences.private-network", ("private-network = true", "private-network = false"), &[], &[]),
    ("service.fences.read-only", ("read-only = true", "read-only = false"), &[], &[]),
    ("process.name", ("name = \"worker\"", "name = \"new\""), &[], &[]),
    ("process.command", ("/bin/worker", "/bin/new"), &[], &[]),
    ("process.user", ("user = \"op\"\ndirectory = \"/opt\"", "user = \"root\"\ndirectory = \"/opt\""), &[], &[]),
    ("process.directory", ("directory = \"/opt\"", "directory = \"/new\""), &[], &[]),
    ("process.environment", ("\"work\"", "\"new\""), &[], &[]),
    ("process.count", ("count = 2", "count = 3"), &[], &[]),
    ("process.stop-signal", ("\"INT\"", "\"QUIT\""), &[], &[]),
    ("process.reload-signal", ("\"USR1\"", "\"USR2\""), &[], &[]),
    ("process.overlap", ("overlap = true", "overlap = false"), &[], &[]),
    ("timer.name", ("name = \"hourly\"", "name = \"new\""), &[], &[]),
    ("timer.command", ("/bin/hourly", "/bin/new"), &[], &[]),
    ("timer.user", ("user = \"op\"\ndirectory = \"/media\"", "user = \"root\"\ndirectory = \"/media\""), &[], &[]),
    ("timer.directory", ("directory = \"/media\"", "directory = \"/new\""), &[], &[]),
    ("timer.environment", ("\"tick\"", "\"new\""), &[], &[]),
    ("timer.every", ("every = \"1h\"", "every = \"2h\""), &[], &[]),
    ("timer.at", ("\"03:30\"", "\"04:30\""), &[], &[]),
    ("timer.limit", ("limit = \"20m\"", "limit = \"30m\""), &[], &[]),
    ("clean.remove", ("/usr/share/doc/**", "/new"), &["clean and normalise"], &[]),
    ("clean.keep", ("/var/log/kept", "/new"), &["clean and normalise"], &[]),
    ("clean.autoremove", ("autoremove = true", "autoremove = false"), &["clean and normalise"], &[]),
];

/// Every field, as `section.key`.
fn fields() -> BTreeSet<String> {
    let name = |section: &Section, key: &Key| match section.path.as_str() {
        "" => key.name.clone(),
        path => format!("{path}.{}", key.name),
    };
    let of = |section: Section| {
        let keys = section.keys.iter().filter(|key| !key.is_section);
        keys.map(|key| name(&section, key)).collect::<Vec<_>>()
    };
    sections().into_iter().flat_map(of).collect()
}

fn resolved_again(old: &Recipe, new: &Recipe, lock: &Lock) -> Vec<Again> {
    let nowhere = Path::new("/nonexistent");
    let from = |recipe: &Recipe| {
        let virtualenv = virtualenv_from(&recipe.virtualenvs[0], nowhere, &lock.files);
        (packages_from(recipe, &lock.files), virtualenv.unwrap())
    };
    let ((packages, virtualenv), (packages_now, virtualenv_now)) = (from(old), from(new));
    let again = [
        (packages != packages_now, Packages),
        (virtualenv != virtualenv_now, Virtualenv),
    ];
    again
        .into_iter()
        .filter_map(|(is, what)| is.then_some(what))
        .collect()
}

#[test]
fn each_field_changes_exactly_the_steps_that_it_can_influence() {
    let (recipe, lock) = (parse(RECIPE), lock());
    let base = planned(&recipe, &lock);
    assert_eq!(base.iter().map(role).collect::<Vec<_>>(), STEPS);

    let known = fields();
    let rows: BTreeSet<String> = ROWS.iter().map(|row| row.0.to_owned()).collect();
    assert_eq!(known, rows, "fields and rows");
    assert_eq!(rows.len(), ROWS.len(), "a field has one row");

    let mut wrong = Vec::new();
    for (field, (from, to), expected, again) in ROWS {
        assert_eq!(RECIPE.matches(from).count(), 1, "{field}: {from:?}");
        let new = match Recipe::parse(&RECIPE.replace(from, to), Path::new("all.toml")) {
            Ok(new) => new,
            Err(error) => {
                wrong.push(format!("{field}: {error}"));
                continue;
            }
        };
        assert_ne!(recipe.canonical_json(), new.canonical_json(), "{field}");
        let now = planned(&new, &lock);
        let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
        let found = changed(&base, &now);
        if found != expected {
            wrong.push(format!("{field}: changes {found:?}, expected {expected:?}"));
        }
        let resolved = resolved_again(&recipe, &new, &lock);
        if resolved != *again {
            wrong.push(format!(
                "{field}: resolves {resolved:?}, expected {again:?}"
            ));
        }
        if base.len() == now.len() {
            assert_keys_follow(&base, &now, field);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
