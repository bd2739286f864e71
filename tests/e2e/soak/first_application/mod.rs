//! `docs/first-application.md`: typed from top to bottom on a machine of its own, and under load, with another database.

use std::fs;
use std::path::Path;
use std::process::Command;

use tests::binaries::{Ran, imgbuild, imgnode, repository};
use tests::fixtures::{self, scratch};

/// Makes the places of both programs empty ones, then reads a script.
const MACHINE: &str = r#"
for place in /etc/imgnode /var/lib/imgbuild /var/cache/imgbuild /etc/imgbuild /var/lib/imgnode \
    /usr/share/doc/imgbuild; do
    mkdir -p "$place"
    mount --bind "$(mktemp -d "$PWD/place.XXXXXX")" "$place"
done
mkdir -p /srv/imgnode
mount --bind "$(mktemp -d "$PWD/place.XXXXXX")" /srv/imgnode
mkdir /usr/share/doc/imgbuild/examples
cp -R "$RECIPES" /usr/share/doc/imgbuild/examples/recipes
rm -f /usr/share/doc/imgbuild/examples/recipes/*.lock
trap 'imgnode stop Notes > /dev/null 2>&1 || :' EXIT
. "./$0"
"#;

/// A shell on a machine of its own that reads a script of this directory.
fn machine(dir: &Path, script: &str, namespaces: &[&str]) -> Command {
    for program in [imgbuild(), imgnode()] {
        let to = dir.join(program.file_name().unwrap());
        if !to.exists() {
            std::os::unix::fs::symlink(program, to).unwrap();
        }
    }
    let path = std::env::var("PATH").unwrap();
    let mut typed = Command::new("unshare");
    typed
        .args(namespaces)
        .args(["sh", "-euc", MACHINE, script])
        .current_dir(dir)
        .env("PATH", format!("{}:{path}", dir.display()))
        .env("RECIPES", repository().join("recipes"));
    typed
}

#[test]
fn its_page_can_be_typed() {
    let dir = scratch();
    let page = repository().join("docs/first-application.md");
    let text = fs::read_to_string(&page).unwrap();
    let mut commands = String::new();
    let mut is_command = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(language) => is_command = language == "sh",
            None if is_command => {
                commands.push_str(line);
                commands.push('\n');
            }
            None => {}
        }
    }
    fs::write(dir.path().join("page.sh"), format!("set -x\n{commands}")).unwrap();
    let mut typed = machine(dir.path(), "page.sh", &["--mount"]);
    let ran = Ran::of(&mut typed).expect(0);
    // The new version once; the attachment before the upgrade and after the way back.
    let name = fs::read_to_string("/etc/hostname").unwrap();
    assert_eq!(ran.stdout.matches("1.1").count(), 1, "{}", ran.stdout);
    assert_eq!(ran.stdout.matches(name.trim()).count(), 2, "{}", ran.stdout);
    assert!(ran.stdout.contains("<li>first"), "{}", ran.stdout);
}

/// With the database in `PostgreSQL`: twenty switches under load, with none of 20,000 requests failed, no
/// upload lost, and the password nowhere but where it was given.
#[test]
fn on_postgresql_under_load() {
    let dir = scratch();
    let recipes = dir.path().join("recipes");
    fixtures::copy(&repository().join("recipes"), &recipes);
    let recipe = recipes.join("django.toml");
    let replace = |file: &Path, pairs: &[(&str, &str)]| {
        let mut text = fs::read_to_string(file).unwrap();
        for (old, new) in pairs {
            assert!(text.contains(old), "{old} is not in {}", file.display());
            text = text.replace(old, new);
        }
        fs::write(file, text).unwrap();
    };
    let secrets = "secrets = [\"django-secret-key\", \"database-password\"]";
    let settings = "settings = [\"ALLOWED_HOSTS\", \"DATABASE_HOST\"]";
    replace(
        &recipe,
        &[
            ("secrets = [\"django-secret-key\"]", secrets),
            ("settings = [\"ALLOWED_HOSTS\"]", settings),
            ("[service.health]\n", "[service.health]\nwithin = \"10m\"\n"),
        ],
    );
    let build = |store: &str| {
        let mut build = Command::new(imgbuild());
        build.arg(&recipe).current_dir(dir.path());
        for (name, place) in [("STORE", store), ("WORK", "work"), ("KEYS", "keys")] {
            build.env(format!("IMGBUILD_{name}"), dir.path().join(place));
        }
        Ran::of(&mut build).expect(0);
    };
    build("first");
    fixtures::copy(&dir.path().join("first"), &dir.path().join("second"));
    let source = recipes.join("django/src/notes/__init__.py");
    replace(&source, &[("1.0", "1.1")]);
    replace(&recipes.join("django/pyproject.toml"), &[("1.0", "1.1")]);
    build("second");
    let script = dir.path().join("postgresql.sh");
    fs::write(&script, include_str!("postgresql.sh")).unwrap();
    let mut run = machine(dir.path(), "postgresql.sh", &["--mount", "--net"]);
    run.env("ACTS", "20").env("REQUESTS", "20000");
    let ran = Ran::of(&mut run).expect(0);
    let last = ran.stdout.lines().last().unwrap_or_default();
    assert!(last.starts_with("20 switches, "), "{}", ran.stdout);
}
