//! What maintainer scripts do in a tree: users that they make, and what they ask.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use tests::archive::{Archive, Release};
use tests::fixtures::copy_places;

use super::{Place, ground};

/// Makes a user with what belongs to it, and programs that chown(2) would change.
fn makes_user(name: &str) -> String {
    format!(
        "#!/bin/sh\nset -e\nuseradd --system --user-group {name}\n\
         install -d -o {name} -g {name} -m 2770 /var/lib/{name}\n\
         install -o root -g {name} -m 2755 /bin/true /usr/bin/{name}-tool\n\
         ln /usr/bin/{name}-tool /usr/bin/{name}-link\n\
         ln -s /nowhere /var/lib/{name}/link\nchown -h {name}:{name} /var/lib/{name}/link\n"
    )
}

const TEMPLATES: &str = "Template: asks/colour\nType: string\nDefault: red\nDescription: Colour?\n";
const CONFIG: &str = "#!/bin/sh\nset -e\n. /usr/share/debconf/confmodule\n\
                      db_input high asks/colour || true\ndb_go || true\n";
const ASKS: &str = "#!/bin/sh\nset -e\n. /usr/share/debconf/confmodule\n\
                    db_get asks/colour\necho \"$RET\" > /etc/colour\n";

/// An archive whose packages have scripts, at `ours` of the place.
fn publish(place: &Place) -> String {
    let root: PathBuf = place.dir.join("ours");
    let mut archive = Archive::new(&root);
    for (name, user) in [("alpha", "alpha"), ("beta", "beta"), ("gamma", "_Gamma")] {
        archive.add_scripts(name, &[("postinst", &makes_user(user))]);
    }
    // What is random in a cluster is its identifier.
    let cluster = "#!/bin/sh\nset -e\nfor dir in etc/postgresql var/lib/postgresql; do\n\
                   mkdir -p /$dir/15/main\ncat /proc/sys/kernel/random/uuid > /$dir/15/main/id\ndone\n";
    archive.add_scripts("postgresql-common", &[("postinst", cluster)]);
    let scripts = [
        ("templates", TEMPLATES),
        ("config", CONFIG),
        ("postinst", ASKS),
    ];
    archive.add_scripts("asks", &scripts);
    archive.publish(&Release::good(&ground().key));
    format!("ours=file:{}", root.display())
}

fn write(place: &Place, name: &str, rest: &str) {
    place.write(
        name,
        &format!(
            "[[source]]\nname = \"ours\"\narchive = \"ours\"\nsuite = \"stable\"\n\
             key = \"ours.asc\"\n{rest}"
        ),
    );
}

fn build(place: &Place, ours: &str, arguments: &[&str], code: i32) -> String {
    let debian = ground().debian();
    let mut words = vec!["--archive", &debian, "--archive", ours];
    words.extend(arguments);
    place.imgbuild(&words).expect(code).stderr
}

/// The ids that a lock has recorded: users, then groups.
fn recorded(place: &Place, name: &str) -> [BTreeMap<String, String>; 2] {
    let lock = fs::read_to_string(place.dir.join(format!("{name}.lock"))).unwrap();
    ["system_users", "system_groups"].map(|table| {
        let (_, rest) = lock.split_once(&format!("[{table}]\n")).unwrap_or_default();
        let lines = rest.lines().map_while(|line| line.split_once(" = "));
        lines
            .map(|(name, id)| (name.to_owned(), id.to_owned()))
            .collect()
    })
}

#[test]
fn system_users_keep_their_ids_whatever_comes_before_them() {
    let place = ground().bootstrapped("ids");
    let ours = publish(&place);
    let recipe = |packages: &[&str]| {
        let group = |name: &&str| format!("[[packages]]\ninstall = [\"{name}\"]\n");
        let groups: String = packages.iter().map(group).collect();
        let tests = "[[test]]\nname = \"it\"\nscript = '''set -x; for name in alpha beta; do\n\
                     [ -e /var/lib/$name ] || continue\n\
                     [ \"$(stat -c '%a %U %G' /var/lib/$name)\" = \"2770 $name $name\" ]\n\
                     [ \"$(stat -c '%U %G' /var/lib/$name/link)\" = \"$name $name\" ]\n\
                     [ \"$(stat -c '%a %h %U %G' /usr/bin/$name-tool)\" = \"2755 2 root $name\" ]\n\
                     [ \"$(id -g $name)\" = \"$(getent group $name | cut -d: -f3)\" ]\n\
                     done'''\n";
        write(&place, "ids", &(groups + tests));
    };
    recipe(&["alpha"]);
    let said = build(&place, &ours, &["ids.toml"], 0);
    assert!(said.contains("recorded in ids.lock: user alpha "), "{said}");
    let [users, groups] = recorded(&place, "ids");
    assert_eq!((users.len(), groups.len()), (1, 1));

    // By itself, beta would get alpha's number now.
    recipe(&["beta", "alpha"]);
    build(&place, &ours, &["ids.toml"], 0);
    let [more_users, more_groups] = recorded(&place, "ids");
    assert_eq!((more_users.len(), more_groups.len()), (2, 2));
    assert_eq!(more_users["alpha"], users["alpha"]);
    assert_eq!(more_groups["alpha"], groups["alpha"]);
    assert_ne!(more_users["beta"], users["alpha"]);
    let text = fs::read(place.dir.join("ids.lock")).unwrap();
    build(&place, &ours, &["--frozen", "ids.toml"], 0);
    assert_eq!(fs::read(place.dir.join("ids.lock")).unwrap(), text);

    // A number stays reserved when its user is gone; a strict build says what is not recorded.
    recipe(&["gamma", "beta"]);
    build(&place, &ours, &["lock", "ids.toml"], 0);
    let said = build(&place, &ours, &["--locked", "ids.toml"], 0);
    assert!(
        said.contains("does not record the ids of user _Gamma "),
        "{said}"
    );
    let said = build(&place, &ours, &["lock", "ids.toml"], 0);
    assert!(
        said.contains("recorded in ids.lock: user _Gamma "),
        "{said}"
    );
    let [all, _] = recorded(&place, "ids");
    assert_eq!(
        (all.len(), &all["alpha"], &all["beta"]),
        (3, &users["alpha"], &more_users["beta"])
    );

    // Names are used as packages write them; a group may only purge.
    let rest = "[[packages]]\ninstall = [\"gamma\", \"beta\"]\n[[packages]]\npurge = [\"beta\"]\n\
                [[file]]\npath = \"/srv/own\"\ncontent = \"own\"\nowner = \"_Gamma\"\n\
                [[test]]\nname = \"it\"\nuser = \"_Gamma\"\nscript = \"\"\"set -eu\n\
                [ -O /srv/own ]; [ ! -e /usr/share/beta/noise ]\"\"\"\n";
    write(&place, "ids", rest);
    build(&place, &ours, &["ids.toml"], 0);
    build(&place, &ours, &["--frozen", "ids.toml"], 0);
}

#[test]
fn a_database_cluster_of_an_installation_is_not_in_the_image() {
    let place = ground().bootstrapped("clusters");
    let ours = publish(&place);
    let rest = "[[packages]]\ninstall = [\"postgresql-common=1.0\"]\n\
                [[run]]\nscript = '[ -d /var/lib/postgresql/15 ] && [ ! -e /etc/postgresql/15/main ]'\n";
    write(&place, "clusters", rest);
    build(&place, &ours, &["clusters.toml"], 0);
    let image = |work: &str| {
        let built = place.imgbuild(&["--frozen", "clusters.toml", "--work", work]);
        built.expect(0).stdout
    };
    copy_places(&ground().base_work, &place.dir.join("work-2"));
    assert_eq!(image("work"), image("work-2"));
}

#[test]
fn answers_for_debconf_are_there_before_their_package_is_configured() {
    let place = ground().bootstrapped("debconf");
    let ours = publish(&place);
    let recipe = |answer: &str, groups: &str| {
        let rest = format!(
            "[[packages]]\ninstall = [\"asks\"]\ndebconf = [\"{answer}\"]\n{groups}\
             [[test]]\nname = \"it\"\nscript = '[ \"$(cat /etc/colour)\" = \"dark blue\" ]'\n"
        );
        write(&place, "asks", &rest);
    };
    recipe("asks asks/colour string dark blue", "");
    build(&place, &ours, &["asks.toml"], 0);
    recipe("asks asks/color string dark blue", "");
    let said = build(&place, &ours, &["asks.toml"], 1);
    let wanted = "the package `asks` does not ask asks/color: correct `debconf`";
    assert!(said.contains(wanted), "{said}");
    recipe(
        "asks asks/colour string dark blue",
        "[[packages]]\ninstall = [\"alpha\"]\ndebconf = [\"asks asks/colour string red\"]\n",
    );
    let said = build(&place, &ours, &["lock", "asks.toml"], 2);
    let wanted = "`packages 2` has an answer for `asks`, which it does not install";
    assert!(said.contains(wanted), "{said}");
}
