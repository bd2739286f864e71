//! `imgbuild page` on a small store with two environments: what the pages say, that they are HTML which
//! a parser of others reads, that nothing of an image becomes markup, and that they are served.

mod content;
mod html;
mod nodes;
mod served;
mod soak;
mod writing;

pub(crate) use self::html::Pages;

use std::fs;

use tests::binaries::Ran;

use crate::team::Team;

/// What nobody may find as markup on a page, and no browser may obey.
const HOSTILE: &str = "<script>alert('x\"&')</script>\u{202e}\u{1b}[31m";

/// The same as it is shown.
const SHOWN: &str = "<script>alert('x\"&')</script>\\u{202e}\\u{1b}[31m";

/// Two environments: dev with two releases of `web`, prod with the first, which Ann approved.
struct Bench {
    team: Team,
}

impl Bench {
    fn new() -> Self {
        let team = Team::new();
        let bench = Self { team };
        bench.release("1.0");
        let ann = bench.team.key("ann", "ann");
        let policy = format!("from = [\"dev\"]\napprovals = {{}}\n[keys]\nann = \"{ann}\"\n");
        fs::write(bench.team.path("policy.toml"), policy).unwrap();
        bench.ann(&["env", "init", "prod", "--plain", "--policy", "policy.toml"]);
        let comment = format!("looks good {HOSTILE}");
        let approve = ["approve", "dev/web", "--for", "prod", "--key", "ann"];
        bench.ann(&[&approve[..], &["--comment", &comment]].concat());
        bench.ann(&["promote", "dev/web", "--to", "prod"]);
        bench.release("2.0");
        bench
    }

    fn ann(&self, words: &[&str]) -> Ran {
        self.team.run("ann", words).expect(0)
    }

    /// Releases an image whose every name is hostile, and one package has this version.
    fn release(&self, version: &str) -> String {
        let tree = self.team.tree("tree", version);
        let put = |path: &str, text: &str| {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let status = fs::read_to_string(tree.join("var/lib/dpkg/status")).unwrap();
        let long = "long".repeat(5000);
        let others = format!(
            "Package: {HOSTILE}\nSource: {HOSTILE} ({HOSTILE})\nStatus: install ok installed\n\
             Architecture: {HOSTILE}\nVersion: {HOSTILE}\n\n\
             Package: {long}\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n"
        );
        put("var/lib/dpkg/status", &(status + &others));
        put(
            "var/lib/dpkg/info/libfoo:amd64.list",
            "/.\n/usr/lib/libfoo.so\n/usr/lib/gone\n",
        );
        put("usr/lib/libfoo.so", &format!("{version} ").repeat(10_000));
        put(
            "etc/passwd",
            &format!("{HOSTILE}:x:7:7::/{HOSTILE}:{HOSTILE}\n"),
        );
        put("etc/group", &format!("{HOSTILE}:x:7:{HOSTILE}\n"));
        let name = HOSTILE.replace('/', "_");
        put(&format!("srv/{name}/file"), &"x".repeat(5000));
        put(&format!("srv/{name}/setuid-{version}"), "");
        let setuid = tree.join(format!("srv/{name}/setuid-{version}"));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
        fs::set_permissions(&setuid, mode).unwrap();
        let image = self.team.import(&tree);
        fs::remove_dir_all(&tree).unwrap();
        image
    }

    fn page(&self, dir: &str) -> Ran {
        self.team.run("ann", &["page", "--out", dir])
    }

    fn read(&self, dir: &str) -> Pages {
        Pages::read(&self.team.path(dir))
    }
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
}
