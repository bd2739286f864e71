//! What is unpacked side by side for debootstrap is what debootstrap unpacks by itself, also of
//! packages that nobody should write.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::archive::{SigningKey, architecture, sha256, sign};
use tests::binaries::{Ran, imgbuild};

use super::{Place, ground};

/// Makes packages whose entries, owners and scripts dpkg-deb(1) would not make.
const PACKAGES: &str = r#"
# package NAME: of ./NAME.control, ./NAME.scripts and ./NAME.tree, owners by ./NAME.owners
package() {
    name=$1
    mkdir -p "$name.scripts" "$name.tree"
    printf 'Package: %s\nVersion: 1-1\nArchitecture: all\nPriority: required\nSection: misc\n' \
        "$name" > "$name.scripts/control"
    printf 'Maintainer: A <a@a.example>\nDescription: a\n b\nX-Own: kept\n' >> "$name.scripts/control"
    cat >> "$name.scripts/control"
    find "$name.tree" -exec touch -h -d '2001-02-03 04:05:06' {} +
    find "$name.scripts" -exec touch -d '2002-02-03 04:05:06' {} +
    [ "$name" = zz-odd ] || (cd "$name.tree" && find . -type f -exec md5sum {} +) \
        > "$name.scripts/md5sums"
    tar --format=gnu --sort=name --owner=root:0 --group=root:0 -C "$name.scripts" -cf control.tar .
    tar --format=gnu --sort=name --numeric-owner -C "$name.tree" -cf data.tar .
    [ ! -e "$name.named" ] || tar --format=gnu --owner=root:0 --group=tape:4242 \
        -C "$name.named" -rf data.tar ./srv/tape
    xz control.tar
    zstd -q --rm data.tar
    echo 2.0 > debian-binary
    ar rc "$name.deb" debian-binary control.tar.xz data.tar.zst
    rm debian-binary control.tar.xz data.tar.zst
}

# Directories with groups, times and ids of their own; links of all kinds; configuration files.
mkdir -p odd-a.tree/srv/shared/below odd-a.tree/srv/empty odd-a.tree/srv/filled \
    odd-a.tree/etc/odd odd-a.tree/usr/share/odd odd-a.scripts odd-a.named/srv
echo shared > odd-a.tree/srv/shared/file
echo below > odd-a.tree/srv/shared/below/file
echo once > odd-a.tree/usr/share/odd/one
echo tool > odd-a.tree/usr/share/odd/suid
ln odd-a.tree/usr/share/odd/one odd-a.tree/usr/share/odd/two
ln -s /srv/shared odd-a.tree/srv/link
ln -s ../nowhere 'odd-a.tree/usr/share/odd/dangling link'
echo setting > odd-a.tree/etc/odd/a.conf
echo secret > odd-a.tree/etc/odd/b.conf
echo tape > odd-a.named/srv/tape
chown 0:50 odd-a.tree/srv/shared odd-a.tree/etc/odd/b.conf
chown 54321:54321 odd-a.tree/srv/shared/below/file
chown 1:1 odd-a.tree/usr/share/odd/suid
chmod 2775 odd-a.tree/srv/shared
chmod 1777 odd-a.tree/srv/empty
chmod 4755 odd-a.tree/usr/share/odd/suid
chmod 600 odd-a.tree/etc/odd/b.conf
touch -d 2001-02-03 odd-a.named/srv/tape
printf '/etc/odd/a.conf\n/etc/odd/b.conf\n' > odd-a.scripts/conffiles
package odd-a < /dev/null

# A script that looks around before it is unpacked, something for a directory of another package,
# triggers of both kinds and versions of them.
mkdir -p odd-b.tree/srv/filled/deep odd-b.scripts
echo more > odd-b.tree/srv/filled/file
cat > odd-b.scripts/preinst <<'END'
#!/bin/sh
set -e
{
    echo "$0" "$@"
    pwd
    umask
    env | grep -E '^(DPKG_MAINTSCRIPT|DPKG_ROOT|DPKG_RUNNING|DEB|PATH=|IMGBUILD)' | sort
    dpkg-query -W -f '${Package} ${Version} ${Status}\n' odd-a base-files
    dpkg-query -L odd-a
    ls "${0%/*}" /srv
} > /var/lib/odd-b
END
printf '#!/bin/sh\nset -e\necho "$@" >> /var/lib/odd-b-configured\n' > odd-b.scripts/postinst
chmod 755 odd-b.scripts/preinst odd-b.scripts/postinst
printf 'interest-noawait /srv/later\n# of nobody\n interest odd-call\ninterest-await odd-other\n' > odd-b.scripts/triggers
package odd-b <<'END'
Depends: odd-a (>= 1)
Multi-Arch: foreign
Breaks: odd-a (<< 1)
END

# What only dpkg can do: a file of a package that comes later goes elsewhere.
mkdir -p odd-c.scripts odd-d.tree/usr/share/odd-d
cat > odd-c.scripts/preinst <<'END'
#!/bin/sh
set -e
echo "$@" >> /var/lib/odd-c
dpkg-divert --package odd-c --divert /usr/share/odd-d/tool.other --rename --add /usr/share/odd-d/tool
END
chmod 755 odd-c.scripts/preinst
package odd-c < /dev/null
echo tool > odd-d.tree/usr/share/odd-d/tool
package odd-d < /dev/null

# Without the digests of its files, which dpkg computes.
mkdir -p zz-odd.tree/etc zz-odd.tree/usr/share/zz-odd zz-odd.scripts
echo setting > zz-odd.tree/etc/zz-odd
echo /etc/zz-odd > zz-odd.scripts/conffiles
echo file > zz-odd.tree/usr/share/zz-odd/file
package zz-odd < /dev/null
"#;

/// Adds packages to the part of Debian that bootstraps here begin with, as another archive.
fn archive(place: &Place, debs: &[PathBuf]) -> String {
    let root = place.dir.join("archive");
    let mut copy = Command::new("cp");
    Ran::of(copy.arg("-al").arg(ground().dir.join("debian")).arg(&root)).expect(0);
    let dists = root.join("dists/bookworm");
    let index = format!("main/binary-{}/Packages", architecture());
    let mut text = fs::read_to_string(dists.join(&index)).unwrap();
    for deb in debs {
        let bytes = fs::read(deb).unwrap();
        let name = deb.file_name().unwrap().to_str().unwrap();
        fs::copy(deb, root.join(name)).unwrap();
        let control = Ran::of(Command::new("dpkg-deb").arg("--field").arg(deb));
        text.push_str(&control.expect(0).stdout);
        let more = format!(
            "Filename: {name}\nSize: {}\nSHA256: {}\n\n",
            bytes.len(),
            sha256(&bytes)
        );
        text.push_str(&more);
    }
    let key = SigningKey::new(&place.dir.join("gpg"));
    sign(&dists, &text, &key);
    let keyring = place.dir.join("archive.gpg");
    fs::write(&keyring, SigningKey::dearmored(&key.public())).unwrap();
    SigningKey::pass_for_debian(&keyring);
    format!("debian=file:{}", root.display())
}

/// Runs a script in the directory.
fn sh(dir: &Path, script: &str) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-euc", script]).current_dir(dir);
    Ran::of(&mut shell).expect(0).stdout
}

/// debootstrap(8) without the script of ours that it is given, which is its last word.
fn own_debootstrap(dir: &Path) -> PathBuf {
    let original = sh(dir, "command -v debootstrap");
    let copy = dir.join("debootstrap.original");
    fs::copy(original.trim(), &copy).unwrap();
    let wrapper = dir.join("debootstrap.own");
    let text = format!(
        "#!/bin/sh\nunset IMGBUILD_PROGRAM\n[ $# -eq 1 ] || {{\n    words=$#\n    while [ $words -gt 1 ]; do\n        \
         set -- \"$@\" \"$1\"\n        shift\n        words=$((words - 1))\n    done\n    \
         shift\n}}\nexec sh {} \"$@\"\n",
        copy.display()
    );
    fs::write(&wrapper, text).unwrap();
    sh(dir, "chmod 755 debootstrap.own");
    wrapper
}

/// Builds the recipe in a work directory of its own; returns the image and the logs.
fn build(place: &Place, work: &str, wrapper: Option<&Path>) -> (String, String) {
    let work = place.dir.join(work);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-euc"]);
    command.arg(
        "[ -z \"$1\" ] || mount --bind \"$1\" \"$(command -v debootstrap)\"\nshift\nexec \"$@\"",
    );
    command.arg("sh").arg(wrapper.unwrap_or(Path::new("")));
    command
        .arg(imgbuild())
        .args(["odd.toml", "--locked"])
        .current_dir(&place.dir)
        .env("IMGBUILD_STORE", place.store())
        .env("IMGBUILD_WORK", &work)
        .env("IMGBUILD_KEYS", place.dir.join("keys"));
    let built = Ran::of(&mut command);
    let layers = fs::read_dir(work.join("layers")).unwrap().flatten();
    let logs = layers.map(|layer| fs::read_to_string(layer.path().join("log")).unwrap_or_default());
    let logs: String = logs.collect();
    assert_eq!(built.code, 0, "{}\n{logs}", built.stderr);
    (built.stdout, logs)
}

/// The image of a bootstrap with these packages is that of debootstrap alone; returns the log.
fn assert_same(name: &str, packages: &[&str]) -> String {
    let place = ground().place(name);
    sh(&place.dir, PACKAGES);
    let debs = packages
        .iter()
        .map(|deb| place.dir.join(format!("{deb}.deb")));
    let debian = archive(&place, &debs.collect::<Vec<_>>());
    let test = "[[test]]\nname = \"what is there\"\nscript = \"grep -q preinst /var/lib/odd-b\"\n";
    place.write("odd", test);
    place
        .imgbuild(&["lock", "odd.toml", "--archive", &debian])
        .expect(0);
    assert_same_builds(&place)
}

/// Builds the locked recipe in both ways; returns the log of ours.
fn assert_same_builds(place: &Place) -> String {
    let (ours, log) = build(place, "work", None);
    let (theirs, their_log) = build(place, "other", Some(&own_debootstrap(&place.dir)));
    assert!(
        log.contains(" packages...\n") && !log.contains("Unpacking adduser..."),
        "{log}"
    );
    assert!(their_log.contains("Unpacking adduser..."), "{their_log}");
    let differ = || place.imgbuild(&["diff", "--text", ours.trim(), theirs.trim()]);
    assert!(ours == theirs, "{}", differ().stdout);
    log
}

#[test]
fn odd_packages_are_what_debootstrap_makes_of_them() {
    let log = assert_same("odd", &["odd-a", "odd-b", "zz-odd"]);
    assert!(!log.contains("I: Unpacking odd"), "{log}");
    assert!(log.contains("I: Unpacking zz-odd..."), "{log}");
}

#[test]
fn what_is_diverted_is_left_to_dpkg() {
    let log = assert_same("diverted", &["odd-a", "odd-b", "odd-c", "odd-d"]);
    assert!(log.contains("I: Unpacking odd-d..."), "{log}");
}

mod soak {
    use super::*;

    #[test]
    fn every_suite_and_variant_is_what_debootstrap_makes_of_it() {
        let scratch = tests::fixtures::scratch();
        for suite in ["bullseye", "bookworm", "trixie"] {
            for variant in ["minbase", "standard", "buildd"] {
                let place = Place::at(scratch.path().join(format!("{suite}-{variant}")));
                let recipe = format!(
                    "name = \"odd\"\n[bootstrap]\nsuite = \"{suite}\"\nvariant = \"{variant}\"\n"
                );
                fs::write(place.dir.join("odd.toml"), recipe).unwrap();
                place.imgbuild(&["lock", "odd.toml"]).expect(0);
                assert_same_builds(&place);
                fs::remove_dir_all(&place.dir).unwrap();
            }
        }
    }
}
