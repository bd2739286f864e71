//! Exports of releases that several people sign for.

use std::fs;

use crate::team::{Team, at, says};

/// A release of an environment that takes two signatures is exported as it was released: by
/// two people, each with a passphrase, who compare the file with the store.
#[test]
fn an_export_collects_signatures() {
    let team = Team::new();
    fs::write(team.path("word"), "open up\n").unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(team.path("word"), private).unwrap();
    let secret = ["--passphrase-file", "word"];
    let with = |words: &[&'static str]| [words, &secret[..]].concat();
    team.import(&team.tree("one", "1.0"));
    let ann = team
        .run("ann", &with(&["key", "new", "ann"]))
        .expect(0)
        .stdout;
    let bob = team
        .run("bob", &with(&["key", "new", "bob"]))
        .expect(0)
        .stdout;
    let (ann, bob) = (ann.trim(), bob.trim());
    let mut init = with(&["env", "init", "prod", "--plain", "--root", "ann"]);
    init.extend([
        "--targets",
        ann,
        "--targets",
        bob,
        "--targets-threshold",
        "2",
    ]);
    team.run("ann", &init).expect(0);
    team.run("bob", &with(&["env", "root", "sign", "prod-root-1.json"]))
        .expect(0);
    team.run("ann", &["env", "root", "publish", "prod-root-1.json"])
        .expect(0);
    for env in ["dev", "prod"] {
        let saved = ["env", "root", "save", env, "-o", "saved"];
        let note = team.run("ann", &saved).expect(0).stderr;
        let root = note.trim().rsplit(' ').next().unwrap();
        team.run("bob", &["env", "trust", env, root]).expect(0);
    }
    let promote = with(&["promote", "dev/web", "--to", "prod", "-o", "release.json"]);
    team.run("ann", &promote).expect(0);
    // A release is not signed without a look at its image and the policy.
    let blind = ["env", "root", "sign", "release.json"];
    says(
        &team.run("bob", &with(&blind)).expect(3),
        &["release.json releases or revokes images", "promote --sign"],
    );
    team.run("bob", &with(&["promote", "--sign", "release.json"]))
        .expect(0);
    team.run("ann", &["env", "root", "publish", "release.json"])
        .expect(0);

    // Who only looks writes nothing.
    let export = ["export", "prod/web", "-o", "web.tar.zst"];
    let shown = team
        .run("ann", &[&export[..], &["--show"]].concat())
        .expect(0);
    says(
        &shown,
        &[
            "prod/web/1",
            "signed as targets: 0 of 2",
            "nothing was signed",
        ],
    );
    assert!(!team.path("web.tar.zst").exists());
    let made = team.run("ann", &with(&export)).expect(0);
    says(
        &made,
        &[
            "1 of 2 signatures",
            "imgbuild export --sign web.tar.zst.dsse.json",
        ],
    );
    let read = |name: &str| fs::read(team.path(name)).unwrap();
    let signers = |keys: u64| {
        let envelope = store::dsse::Envelope::from_json(&read("web.tar.zst.dsse.json")).unwrap();
        let known = [ann.parse().unwrap(), bob.parse().unwrap()];
        store::export::Export::verify(&envelope, &"prod".parse().unwrap(), &known, keys).is_ok()
    };
    assert!(signers(1) && !signers(2));

    // A statement about another file is not signed, whoever else has.
    let sign = with(&["export", "--sign", "web.tar.zst.dsse.json"]);
    let good = read("web.tar.zst.dsse.json");
    let envelope = store::dsse::Envelope::from_json(&good).unwrap();
    let text = String::from_utf8(envelope.payload().to_vec()).unwrap();
    let digest = store::Sha256::of(&read("web.tar.zst")).hex();
    let other = text.replace(&digest, &store::Sha256::of(b"other").hex());
    assert_ne!(text, other);
    let forged = store::dsse::Envelope::new(envelope.kind(), other.into_bytes());
    fs::write(team.path("web.tar.zst.dsse.json"), forged.to_json()).unwrap();
    let refused = team.run("bob", &sign).expect(3);
    says(
        &refused,
        &["exporting that release again gives another file"],
    );
    fs::write(team.path("web.tar.zst.dsse.json"), &good).unwrap();
    // Nor by somebody whose key has no say.
    team.key("eve", "eve");
    let root = fs::read_to_string(team.path("bob/prod.trust")).unwrap();
    team.run("eve", &["env", "trust", "prod", root.trim()])
        .expect(0);
    let refused = team.run("eve", &sign).expect(3);
    says(
        &refused,
        &["none of the keys that sign its releases is here"],
    );
    assert_eq!(read("web.tar.zst.dsse.json"), good);

    // The second signature needs the store and this one file.
    team.run("bob", &sign).expect(0);
    assert!(signers(2));
    // Exporting the same once more keeps what others have signed.
    team.run("ann", &with(&export)).expect(0);
    assert!(signers(2));

    // Metadata that runs out in a while takes the same two, and no release.
    let late = |who: &str, words: &[&str]| at(&team, "+70d", who, words);
    let renew = with(&["env", "refresh", "prod", "--all"]);
    let file = "prod-targets-3.json";
    says(
        &late("bob", &renew).expect(0),
        &["signed as targets: 1 of 2", file],
    );
    // Somebody who only looks, and who has no key of it.
    let looked = [&renew[..], &["--show"]].concat();
    let stamp = || read("store/env/prod/metadata/timestamp.json");
    let before = stamp();
    says(
        &late("ann", &looked).expect(0),
        &["targets 3 run out at", "nothing was signed"],
    );
    assert_eq!(stamp(), before);
    // Another change under that name is not what was asked for.
    let renewal = read(file);
    fs::copy(team.path("release.json"), team.path(file)).unwrap();
    says(
        &late("ann", &renew).expect(3),
        &["prod-targets-3.json is no renewal of prod"],
    );
    fs::write(team.path(file), renewal).unwrap();
    says(
        &late("ann", &renew).expect(0),
        &["the renewal of prod: published"],
    );
    says(&late("ann", &renew).expect(0), &["prod: nothing is due"]);
    let status = late("ann", &["env", "status", "prod", "--json"])
        .expect(0)
        .stdout;
    assert!(
        status.contains("\"role\":\"targets\",\"version\":3"),
        "{status}"
    );
}
