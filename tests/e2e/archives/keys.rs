//! The recipe's keys of archives: known by what is in them, wherever they lie.

use std::fs;

use tests::archive::{Archive, Release, SUITE, SigningKey};

use super::{Place, ground, says};

fn recipe(place: &Place, key: &str) {
    let text = format!(
        "[[source]]\nname = \"ours\"\narchive = \"ours\"\nsuite = \"{SUITE}\"\n\
         key = \"{key}\"\n[[packages]]\ninstall = [\"tool\"]\n"
    );
    place.write("mine", &text);
}

#[test]
fn keys_are_known_by_what_is_in_them() {
    // A blank and an umlaut in the way to the recipe.
    let place = ground().place("schl\u{fc}ssel und keys");
    let root = place.dir.parent().unwrap().join("keys-archive");
    let mut archive = Archive::new(&root);
    archive.add("tool", "");
    archive.publish(&Release::good(&ground().key));
    let url = format!("file:{}", root.display());
    let work = place.dir.parent().unwrap().join("keys-work");
    let work = work.to_str().unwrap();
    let armored = ground().key.public();
    let text = String::from_utf8(armored.clone()).unwrap();
    for (name, bytes) in [
        ("armored.gpg", armored.clone()),
        ("binary.asc", SigningKey::dearmored(&armored)),
        ("crlf.asc", text.replace('\n', "\r\n").into_bytes()),
    ] {
        fs::write(place.dir.join(name), bytes).unwrap();
        recipe(&place, name);
        let _ = fs::remove_file(place.dir.join("mine.lock"));
        place.lock_at(work, "mine.toml", &url).expect(0);
    }
    for (name, bytes) in [("empty.asc", &b""[..]), ("junk.asc", b"-- not a key --")] {
        fs::write(place.dir.join(name), bytes).unwrap();
        recipe(&place, name);
        let said = place.lock_at(work, "mine.toml", &url).expect(2);
        let at = said.stderr.find("error: ").unwrap();
        let first = format!("error: the key {name} of the source `ours` cannot be used");
        says(
            &said.stderr[at..],
            &first,
            "it holds nothing that OpenPGP knows",
        );
    }
}
