//! `docs/first-application.md`, typed from top to bottom on a machine of its own.

use std::fs;
use std::process::Command;

use tests::binaries::{Ran, imgbuild, imgnode, repository};
use tests::fixtures::scratch;

/// Makes the places of both programs empty ones, then reads the page's commands.
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
. ./page.sh
"#;

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
    for program in [imgbuild(), imgnode()] {
        let to = dir.path().join(program.file_name().unwrap());
        std::os::unix::fs::symlink(program, to).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    let mut typed = Command::new("unshare");
    typed
        .args(["--mount", "sh", "-euc"])
        .arg(MACHINE)
        .current_dir(dir.path())
        .env("PATH", format!("{}:{path}", dir.path().display()))
        .env("RECIPES", repository().join("recipes"));
    let ran = Ran::of(&mut typed).expect(0);
    // The new version once; the attachment before the upgrade and after the way back.
    let name = fs::read_to_string("/etc/hostname").unwrap();
    assert_eq!(ran.stdout.matches("1.1").count(), 1, "{}", ran.stdout);
    assert_eq!(ran.stdout.matches(name.trim()).count(), 2, "{}", ran.stdout);
    assert!(ran.stdout.contains("<li>first"), "{}", ran.stdout);
}
