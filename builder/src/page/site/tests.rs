use super::*;

const IMAGE: &str = "image/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.html";

fn put(dir: &Path, pages: &[(&str, &str)]) -> Result<Outcome> {
    let mut site = Site::open(dir)?;
    for (path, text) in pages {
        site.put(path, text, None)?;
    }
    site.finish(&mut |_| {})
}

#[test]
fn what_did_not_change_stays_and_what_is_gone_goes() {
    let room = tempfile::tempdir().unwrap();
    let dir = room.path().join("made/for/it");
    let counts = |pages, written, removed| Outcome {
        pages,
        written,
        removed,
    };
    let both = [(INDEX, "one"), (IMAGE, "two")];
    assert_eq!(put(&dir, &both).unwrap(), counts(2, 2, 0));
    let before = dir.join(IMAGE).metadata().unwrap();
    let changed = [(INDEX, "other"), (IMAGE, "two")];
    assert_eq!(put(&dir, &changed).unwrap(), counts(2, 1, 0));
    let after = dir.join(IMAGE).metadata().unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    // What somebody else put beside the pages stays.
    fs::write(dir.join("robots.txt"), "ours").unwrap();
    assert_eq!(put(&dir, &changed[..1]).unwrap(), counts(1, 0, 1));
    assert!(!dir.join(IMAGE).exists() && dir.join("robots.txt").exists());
    // And so does a page that is not as it was written.
    put(&dir, &both).unwrap();
    fs::write(dir.join(IMAGE), "changed by hand").unwrap();
    let mut notes = Vec::new();
    let mut site = Site::open(&dir).unwrap();
    site.put(INDEX, "one", None).unwrap();
    site.finish(&mut |note| notes.push(note)).unwrap();
    assert!(
        notes[0].contains("is not as imgbuild wrote it"),
        "{notes:?}"
    );
    assert_eq!(fs::read(dir.join(IMAGE)).unwrap(), b"changed by hand");
    // It is a page of ours by its name, and written again when there is one.
    put(&dir, &both).unwrap();
    assert_eq!(fs::read(dir.join(IMAGE)).unwrap(), b"two");
}

#[test]
fn a_directory_of_others_is_refused() {
    let room = tempfile::tempdir().unwrap();
    let dir = room.path();
    fs::write(dir.join(INDEX), "mine").unwrap();
    let error = put(dir, &[(INDEX, "ours")]).unwrap_err();
    assert!(error.to_string().contains("did not write"), "{error}");
    fs::remove_file(dir.join(INDEX)).unwrap();
    put(dir, &[(INDEX, "ours")]).unwrap();
    fs::write(dir.join(IMAGE), "mine").unwrap();
    let error = put(dir, &[(INDEX, "new"), (IMAGE, "ours")]).unwrap_err();
    assert!(error.to_string().contains("did not write it"), "{error}");
    assert_eq!(fs::read(dir.join(INDEX)).unwrap(), b"ours");
    assert_eq!(fs::read(dir.join(IMAGE)).unwrap(), b"mine");
    // A link could lead anywhere.
    fs::remove_file(dir.join(IMAGE)).unwrap();
    fs::remove_dir(dir.join("image")).unwrap();
    std::os::unix::fs::symlink("/", dir.join("image")).unwrap();
    let error = put(dir, &[(INDEX, "new")]).unwrap_err();
    assert!(error.to_string().ends_with("is no directory"), "{error}");
}

#[test]
fn a_list_names_pages_and_nothing_else() {
    let room = tempfile::tempdir().unwrap();
    let dir = room.path();
    put(dir, &[(INDEX, "one")]).unwrap();
    let list = dir.join(OWN).join("pages.json");
    let good = fs::read_to_string(&list).unwrap();
    for wrong in [
        good.replace(INDEX, "../victim"),
        good.replace(INDEX, "image/../../victim.html"),
        good.replace(INDEX, "node/prod~..html"),
        good.replace(INDEX, "node/prod.html"),
        good.replace(INDEX, "fleet/prod~eu.html"),
        good.replace(INDEX, "fleet/prod~eu~01.html"),
        good.replace(INDEX, "fleet/prod~eu~1/x.html"),
        good.replace("\"schema\":1", "\"schema\":2"),
        good.replace("\"pages\"", "\"more\":1,\"pages\""),
        good.replace(':', ": "),
        String::new(),
    ] {
        fs::write(&list, &wrong).unwrap();
        let error = put(dir, &[(INDEX, "two")]).unwrap_err();
        let said = error.to_string();
        assert!(
            said.ends_with("is not the list of pages"),
            "{wrong}: {said}"
        );
    }
    fs::write(&list, good).unwrap();
    put(dir, &[(INDEX, "two")]).unwrap();
}

#[test]
fn whoever_is_killed_leaves_the_old_pages_and_can_go_on() {
    let room = tempfile::tempdir().unwrap();
    let dir = room.path();
    // Before the first list was written.
    let mut site = Site::open(dir).unwrap();
    site.put(IMAGE, "half of the pages", None).unwrap();
    drop(site);
    assert!(!dir.join(IMAGE).exists());
    put(dir, &[(INDEX, "one")]).unwrap();
    let mut site = Site::open(dir).unwrap();
    site.put(INDEX, "two", None).unwrap();
    drop(site);
    assert_eq!(fs::read(dir.join(INDEX)).unwrap(), b"one");
    // What is not made twice is kept, and so is the first page as it was.
    let mut site = Site::open(dir).unwrap();
    site.put(INDEX, "two", None).unwrap();
    site.put(IMAGE, "compared", Some(("edition", "said")))
        .unwrap();
    site.keep_finished().unwrap();
    assert_eq!(fs::read(dir.join(INDEX)).unwrap(), b"one");
    let mut site = Site::open(dir).unwrap();
    assert_eq!(site.reuse(IMAGE, "edition").as_deref(), Some("said"));
    drop(site);
    // Between the list and the last page.
    let mut site = Site::open(dir).unwrap();
    site.put(INDEX, "three", Some(("edition", "said"))).unwrap();
    let both = List {
        schema: SCHEMA,
        pages: site.after.pages.clone(),
    };
    site.write_list(&both).unwrap();
    drop(site);
    let mut site = Site::open(dir).unwrap();
    assert_eq!(
        site.reuse(INDEX, "edition"),
        None,
        "its bytes are not those"
    );
    site.put(INDEX, "three", Some(("edition", "said"))).unwrap();
    site.finish(&mut |_| {}).unwrap();
    let mut site = Site::open(dir).unwrap();
    assert_eq!(site.reuse(INDEX, "edition").as_deref(), Some("said"));
    assert_eq!(site.reuse(INDEX, "another"), None);
}
