//! `[[download]]` through the real binary: a program, an archive, and what goes wrong with them.

use std::fs;
use std::path::Path;

use tests::archive::sha256;
use tests::bench::{Bench, bench};
use tests::server::{Answer, Server};

/// What the server has, made by the programs that people use.
const MAKE: &str = "umask 022
    mkdir -p tool-1.0/bin tool-1.0/lib shared/bin shared/share/shared
    printf '#!/bin/sh\\necho the tool\\n' >tool-1.0/bin/tool; chmod 4775 tool-1.0/bin/tool
    echo library >tool-1.0/lib/it.so.1; ln -s it.so.1 tool-1.0/lib/it.so
    ln tool-1.0/lib/it.so.1 tool-1.0/lib/same
    tar -cJf tool.tar.xz tool-1.0
    echo shared >shared/share/shared/text; echo '#!/bin/sh' >shared/bin/shared
    chmod 777 shared/bin/shared; tar --owner=1234 -C shared -czf shared.tar.gz .
    mkdir hostile; ln -s /etc hostile/way; tar -cf hostile.tar hostile
    rm hostile/way; mkdir hostile/way; echo hostile >hostile/way/issue; tar -rf hostile.tar hostile/way/issue
    zstd -q --rm hostile.tar; printf 'PK\\3\\4 and more' >it.zip
    printf '#!/bin/sh\\necho the program\\n' >program";

struct Place {
    bench: Bench,
    server: Server,
}

impl Place {
    fn new() -> Self {
        let bench = bench();
        let made = bench.path("made");
        fs::create_dir(&made).unwrap();
        tests::binaries::run(
            Path::new("sh"),
            ["-ec", &format!("cd {}; {MAKE}", made.display())],
        )
        .expect(0);
        let server = Server::start(move |request| match request.path.as_str() {
            "/latest?of=program" => Answer::Redirect("/program".to_owned()),
            path => match fs::read(made.join(path.trim_start_matches('/'))) {
                Ok(bytes) => Answer::Bytes(bytes),
                Err(_) => Answer::Status(404),
            },
        });
        Self { bench, server }
    }

    fn sha256(&self, name: &str) -> String {
        sha256(&fs::read(self.bench.path("made").join(name)).unwrap())
    }

    /// A section for one file of the server, under this address.
    fn section(&self, url: &str, name: &str, more: &str) -> String {
        format!(
            "[[download]]\nurl = \"{}/{url}\"\nsha256 = \"{}\"\n{more}\n",
            self.server.url(),
            self.sha256(name)
        )
    }
}

#[test]
fn what_was_fetched_once_is_in_the_image_and_needs_no_network_again() {
    let place = Place::new();
    let recipe = [
        place.section(
            "tool.tar.xz",
            "tool.tar.xz",
            "path = \"/opt/tool\"\nunpack = true\nstrip = 1\nowner = \"www-data\"",
        ),
        place.section("shared.tar.gz", "shared.tar.gz", "path = \"/usr/local\"\nunpack = true"),
        place.section(
            "latest?of=program",
            "program",
            "path = \"/srv/new/program\"\nmode = \"0755\"",
        ),
        "[[run]]\nname = \"use them\"\nscript = \"/opt/tool/bin/tool >/opt/said; /srv/new/program >>/opt/said\"\n\
         [[test]]\nname = \"it\"\nscript = '''set -eu\n\
         is() { [ \"$1\" = \"$2\" ] || { echo \"$1 is not $2\"; exit 1; }; }\n\
         is \"$(cat /opt/said)\" \"the tool\nthe program\"\n\
         is \"$(cd /opt/tool && stat -c '%a %h %U %G %n' . bin bin/tool lib/*)\" \"755 4 www-data www-data .\n\
         755 2 www-data www-data bin\n755 1 www-data www-data bin/tool\n777 1 www-data www-data lib/it.so\n\
         644 2 www-data www-data lib/it.so.1\n644 2 www-data www-data lib/same\"\n\
         is \"$(cd /usr/local && stat -c '%a %U %n' . bin/shared share/shared/text)\" \"755 root .\n\
         755 root bin/shared\n644 root share/shared/text\"\n\
         is \"$(ls -d /usr/local/sbin /usr/local*)\" \"/usr/local\n/usr/local/sbin\"\n\
         is \"$(stat -c '%a %U' /srv/new/program)\" \"755 root\"\n'''\n"
            .to_owned(),
    ];
    place.bench.write("downloads", &recipe.concat());
    let built = place.bench.imgbuild(&["downloads.toml"]).expect(0);
    assert!(
        built.stderr.contains("added    download http"),
        "{}",
        built.stderr
    );
    let asked = place.server.requests().len();
    let work = place.bench.copy_of_work("other").display().to_string();
    let again = place
        .bench
        .imgbuild(&["--frozen", "downloads.toml", "--work", &work])
        .expect(0);
    assert_eq!(again.stdout, built.stdout);
    assert_eq!(place.server.requests().len(), asked);
    place.bench.assert_store_is_whole();
    let bill = place
        .bench
        .imgbuild(&["show", "downloads", "--sbom"])
        .expect(0);
    assert!(bill.stdout.contains("/tool.tar.xz"), "{}", bill.stdout);

    // Nobody edits a size in a lock and is believed.
    let path = place.bench.path("downloads.lock");
    let text = fs::read_to_string(&path).unwrap();
    let (before, downloads) = text.split_at(text.find("[[download]]").unwrap());
    let edited = downloads.replacen("size = ", "size = 9", 1);
    fs::write(&path, format!("{before}{edited}")).unwrap();
    let refused = place.bench.imgbuild(&["lock", "downloads.toml"]);
    let said = refused.expect(3).stderr;
    assert!(said.contains("is not what the lock names"), "{said}");

    // Another file under the same address is another lock.
    let other = recipe[2].replace(&place.sha256("program"), &place.sha256("it.zip"));
    place.bench.write(
        "downloads",
        &[&recipe[0], &other].map(String::as_str).concat(),
    );
    fs::copy(
        place.bench.path("base.lock"),
        place.bench.path("downloads.lock"),
    )
    .unwrap();
    let refused = place.bench.imgbuild(&["--locked", "downloads.toml"]);
    let said = refused.expect(3).stderr;
    assert!(said.contains("changed since: downloads"), "{said}");
}

#[test]
fn what_cannot_be_fetched_or_unpacked_is_named() {
    let place = Place::new();
    let url = place.server.url();
    let zeros = "0".repeat(64);
    let wrong = place
        .section("program", "program", "path = \"/srv/program\"")
        .replace(&place.sha256("program"), &zeros);
    let program = place.sha256("program");
    let here = format!("file://{}", place.bench.path("made").display());
    let local = |url: &str, sha256: &str| {
        format!("[[download]]\nurl = \"{url}\"\nsha256 = \"{sha256}\"\npath = \"/srv/it\"\n")
    };
    let cases = [
        (
            local(&format!("{here}/program"), &zeros),
            3,
            format!(
                "error: {here}/program has other bytes than the recipe names\n  its sha256 is {program}"
            ),
        ),
        (
            local(&format!("{here}/absent"), &zeros),
            1,
            "correct `url` of [[download]]".to_owned(),
        ),
        (
            wrong,
            3,
            format!(
                "error: {url}/program has other bytes than the recipe names\n  its sha256 is {program}"
            ),
        ),
        (
            place.section("absent", "program", "path = \"/srv/program\""),
            1,
            format!("error: cannot fetch {url}/absent\n"),
        ),
        (
            place.section("it.zip", "it.zip", "path = \"/srv/it\"\nunpack = true"),
            2,
            format!("error: {url}/it.zip is a zip archive, which `unpack` does not read"),
        ),
        (
            place.section("program", "program", "path = \"/srv/it\"\nstrip = 1"),
            2,
            "`strip` means nothing without `unpack`".to_owned(),
        ),
        (
            place.section("program", "program", "path = \"/run/it\""),
            2,
            "`/run/it`".to_owned(),
        ),
        (
            place
                .section("program", "program", "path = \"/srv/it\"")
                .replace("//127", "//user:secret@127"),
            2,
            "it carries credentials".to_owned(),
        ),
    ];
    for (recipe, code, expected) in cases {
        place.bench.write("wrong", &recipe);
        let said = place
            .bench
            .imgbuild(&["lock", "wrong.toml"])
            .expect(code)
            .stderr;
        assert!(said.contains(&expected), "{expected}: {said}");
    }
    for (recipe, expected) in [
        (
            place.section(
                "tool.tar.xz",
                "tool.tar.xz",
                "path = \"/opt/tool\"\nunpack = true\nstrip = 9",
            ),
            "nothing is left of the archive for /opt/tool without its first 9".to_owned(),
        ),
        (
            place.section(
                "hostile.tar.zst",
                "hostile.tar.zst",
                "path = \"/opt/tool\"\nunpack = true",
            ),
            "tar: ".to_owned(),
        ),
        (
            place.section("program", "program", "path = \"/opt/tool\"\nunpack = true"),
            "This does not look like a tar archive".to_owned(),
        ),
    ] {
        place.bench.write("wrong", &recipe);
        let said = place.bench.imgbuild(&["wrong.toml"]).expect(1).stderr;
        assert!(said.contains(&expected), "{expected}: {said}");
    }
}

mod soak {
    use super::*;

    /// What `npm ci --cache` leaves beside an application, made by npm itself, and the digest of its
    /// dependency.
    const FILL: &str = r#"set -e
mkdir -p /srv/five /srv/hello-js; cd /srv/five
echo '{ "name": "five", "version": "1.0.0" }' >package.json
echo 'module.exports = 5' >index.js
npm pack --cache /run/npm
npm cache add /srv/five/five-1.0.0.tgz --cache /srv/hello-js/npm-cache
rm -r /srv/hello-js/npm-cache/_logs
digest="sha512-$(openssl dgst -sha512 -binary five-1.0.0.tgz | base64 -w0)"
cd /srv/hello-js
cat >package.json <<END
{ "name": "hello-js", "version": "1.0.0", "dependencies": { "five": "1.0.0" },
  "scripts": { "build": "node -e \"require('fs').writeFileSync('said', String(require('five')))\"" } }
END
cat >package-lock.json <<END
{ "name": "hello-js", "version": "1.0.0", "lockfileVersion": 3, "requires": true, "packages": {
  "": { "name": "hello-js", "version": "1.0.0", "dependencies": { "five": "1.0.0" } },
  "node_modules/five": { "version": "1.0.0", "integrity": "$digest",
    "resolved": "https://registry.npmjs.org/five/-/five-1.0.0.tgz" } } }
END
"#;

    #[test]
    fn an_application_of_npm_is_built_without_network() {
        let place = Place::new();
        let bench = &place.bench;
        let page = fs::read_to_string(tests::binaries::repository().join("docs/downloads.md"));
        let page = page.unwrap();
        let section = page.split("## An application of npm").nth(1).unwrap();
        let recipe = section.split("```toml\n").nth(1).unwrap();
        let recipe = recipe.split("```").next().unwrap();
        let packages = recipe.split("[[download]]").next().unwrap();
        let packages = packages.replace("[\"npm\"]", "[\"npm\", \"openssl\"]");
        let fill = format!("{packages}[[run]]\nname = \"fill\"\nscript = '''\n{FILL}'''\n");
        bench.write("fill", &fill);
        bench.imgbuild(&["fill.toml"]).expect(0);
        let tar = bench.path("fill.tar").display().to_string();
        bench
            .imgbuild(&["export", "fill", "--output", &tar])
            .expect(0);
        let made = bench.path("made");
        let pack = format!(
            "cd {}; tar -xf {tar} ./srv/hello-js; tar -czf hello-js-1.0.tar.gz -C srv hello-js",
            made.display()
        );
        tests::binaries::run(Path::new("sh"), ["-ec", &pack]).expect(0);
        let placeholder = recipe.split("sha256 = \"").nth(1).unwrap();
        let placeholder = placeholder.split('"').next().unwrap();
        let recipe = recipe
            .replace("https://downloads.example.org", &place.server.url())
            .replace(placeholder, &place.sha256("hello-js-1.0.tar.gz"));
        let test = "[[test]]\nname = \"five\"\ncommand = [\"grep\", \"-qx\", \"5\", \"/srv/hello-js/said\"]\n";
        bench.write("hello", &format!("{recipe}\n{test}"));
        let built = bench.imgbuild(&["hello.toml"]).expect(0);
        let again = bench.imgbuild(&["rebuild", "hello"]).expect(0);
        assert_eq!(again.stdout, built.stdout);
    }
}
