//! The tree before any Python: bootstrap, archives, packages, system, users, files.

use super::section::section;
use super::value::{Id, Mode, Owner, Priority, Variant};
use super::word::{
    Architecture, Beside, Component, Digest, Label, Locale, Login, Moment, PackageName,
    PackageSpec, Script, Suite, TimeZone, TreePath,
};

section! {
    /// The first tree, made by debootstrap.
    pub struct Bootstrap "[bootstrap]" {
        /// The Debian suite, by code name.
        ///
        /// Example: `suite = "bookworm"`
        suite: Suite = "suite" required;
        /// How much debootstrap installs by itself: `minbase` (essential
        /// packages and apt), `buildd` (and what builds packages) or
        /// `standard`.
        ///
        /// Example: `variant = "minbase"`
        variant: Variant = "variant" default(Variant::Minbase) "minbase";
        /// dpkg's name of the architecture.
        ///
        /// Example: `architecture = "amd64"`
        architecture: Architecture = "architecture"
            default(Architecture::of_this_machine()) "this machine's";
        /// Components of the archive, also for apt in the tree.
        ///
        /// Example: `components = ["main", "contrib"]`
        components: Vec<Component> = "components" default(Component::main()) "[\"main\"]";
        /// Packages that debootstrap installs besides.
        ///
        /// Example: `include = ["locales"]`
        include: Vec<PackageName> = "include" optional;
        /// Packages that debootstrap leaves out.
        ///
        /// Example: `exclude = ["nano"]`
        exclude: Vec<PackageName> = "exclude" optional;
        /// Take the archive as it was then, from the machine's address for dated
        /// archives; its `Valid-Until` is not asked for.
        ///
        /// Example: `snapshot = "20260901T000000Z"`
        snapshot: Option<Moment> = "snapshot" optional;
        /// Take no other Release file than this; its `Valid-Until` is not asked for.
        ///
        /// Example: `release = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
        release: Option<Digest> = "release" optional;
    }
}

section! {
    /// A further archive for apt. The bootstrap's own is always there. No
    /// addresses: an archive is named here and its mirror on the machine.
    pub struct Source "[[source]]" {
        /// A name for it within the recipe.
        ///
        /// Example: `name = "security"`
        name: Label = "name" required;
        /// Which archive: `debian`, `debian-security`, or another name whose
        /// address the machine knows.
        ///
        /// Example: `archive = "debian-security"`
        archive: Label = "archive" default(Label::known("debian")) "debian";
        /// Suite or pocket of it.
        ///
        /// Example: `suite = "bullseye-security"`
        suite: Suite = "suite" required;
        /// Components of it.
        ///
        /// Example: `components = ["main"]`
        components: Vec<Component> = "components" default(Component::main()) "[\"main\"]";
        /// The public key that signs it (`OpenPGP`, armored or not): a file beside the recipe.
        ///
        /// Example: `key = "files/archive.asc"`
        key: Option<Beside> = "key" optional;
        /// apt's pin priority for everything in it, and for nothing else.
        ///
        /// Example: `priority = 100`
        priority: Option<Priority> = "priority" optional;
        /// Take the archive as it was then, from the machine's address for dated
        /// archives; its `Valid-Until` is not asked for.
        ///
        /// Example: `snapshot = "20260901T000000Z"`
        snapshot: Option<Moment> = "snapshot" optional;
        /// Take no other Release file than this; its `Valid-Until` is not asked for.
        ///
        /// Example: `release = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
        release: Option<Digest> = "release" optional;
    }
}

section! {
    /// Settings of apt in the tree.
    pub struct Apt "[apt]" {
        /// What to put into apt's preferences: pins in `apt_preferences(5)` form.
        /// While locking, `Pin: origin NAME` is a source of that name.
        ///
        /// Example: `preferences = "Package: git\nPin: release n=bullseye-backports\nPin-Priority: 990"`
        preferences: Option<Script> = "preferences" optional;
    }
}

section! {
    /// Packages installed, held and purged together. Any number, in order.
    pub struct Packages "[[packages]]" {
        /// Packages to install, perhaps in one version.
        ///
        /// Example: `install = ["git", "libsodium-dev=1.0.18-1"]`
        install: Vec<PackageSpec> = "install" optional;
        /// Whether recommended packages come along.
        ///
        /// Example: `recommends = true`
        recommends: bool = "recommends" default(false) "false";
        /// The suite to prefer for these packages (`apt-get -t`).
        ///
        /// Example: `target-release = "bullseye-backports"`
        target_release: Option<Suite> = "target-release" optional;
        /// Package files beside the recipe, installed with their dependencies.
        ///
        /// Example: `debs = ["files/libsodium_1.0.18-1_amd64.deb"]`
        debs: Vec<Beside> = "debs" optional;
        /// Answers to what packages of this group ask when they are configured, in the
        /// form of `debconf-set-selections(1)`: package, question, type and answer.
        ///
        /// Example: `debconf = ["wireshark-common wireshark-common/install-setuid boolean true"]`
        debconf: Vec<Answer> = "debconf" optional;
        /// Packages that later upgrades leave alone.
        ///
        /// Example: `hold = ["libsodium23"]`
        hold: Vec<PackageName> = "hold" optional;
        /// Packages to remove with their configuration.
        ///
        /// Example: `purge = ["nano"]`
        purge: Vec<PackageName> = "purge" optional;
    }
}

section! {
    /// Language and time, set without any dialog.
    pub struct System "[system]" {
        /// The default locale (`LANG`).
        ///
        /// Example: `locale = "en_US.UTF-8"`
        locale: Locale = "locale" default(Locale::known("C.UTF-8")) "C.UTF-8";
        /// The locales to generate, besides the default one. `C.UTF-8` needs
        /// no generating; all others need the package `locales`.
        ///
        /// Example: `locales = ["en_US.UTF-8", "it_IT.UTF-8"]`
        locales: Vec<Locale> = "locales" optional;
        /// The time zone.
        ///
        /// Example: `timezone = "Europe/Rome"`
        timezone: TimeZone = "timezone" default(TimeZone::known("Etc/UTC")) "Etc/UTC";
    }
}

section! {
    /// A user of the image, with a group of the same name.
    /// Users that Debian or a package makes, such as `www-data` or `redis`, need no
    /// section: they own files, run steps and the service as they are.
    pub struct User "[[user]]" {
        /// The login name.
        ///
        /// Example: `name = "operador"`
        name: Login = "name" required;
        /// The numeric user id.
        ///
        /// Example: `uid = 1000`
        uid: Id = "uid" required;
        /// The numeric id of the user's own group.
        ///
        /// Example: `gid = 1000`
        gid: Id = "gid" default(uid) "the uid";
        /// The login shell.
        ///
        /// Example: `shell = "/bin/bash"`
        shell: TreePath = "shell" default(TreePath::known("/bin/sh")) "/bin/sh";
        /// The home directory.
        ///
        /// Example: `home = "/home/operador"`
        home: TreePath = "home"
            default(TreePath::known(&format!("/home/{name}"))) "/home/NAME";
        /// A directory beside the recipe whose content the home begins with.
        ///
        /// Example: `skeleton = "files/skel"`
        skeleton: Option<Beside> = "skeleton" default(None) "the tree's own /etc/skel";
        /// Further groups to be in. They exist in Debian or come with a package.
        ///
        /// Example: `groups = ["adm"]`
        groups: Vec<Login> = "groups" optional;
        /// The full name or purpose (the GECOS field).
        ///
        /// Example: `comment = "runs the web application"`
        comment: Option<Comment> = "comment" optional;
    }
}

section! {
    /// A file, a directory or a symbolic link put into the tree, after packages
    /// and users and before virtualenvs. Exactly one of `source`, `content`
    /// and `symlink` says what it is. Missing parent directories are made: in
    /// the home of a user they belong to that user, elsewhere to root.
    pub struct File "[[file]]" {
        /// Where it goes. What is removed or emptied at the end, such as /tmp and
        /// /etc/hostname, is refused, unless `keep` of `[clean]` names it.
        ///
        /// Example: `path = "/home/operador/bin/project"`
        path: TreePath = "path" required;
        /// A file or directory beside the recipe to copy.
        ///
        /// Example: `source = "files/project"`
        source: Option<Beside> = "source" optional;
        /// The content itself.
        ///
        /// Example: `content = "hello\n"`
        content: Option<String> = "content" optional;
        /// What of a source directory is left out, which is copied as it is otherwise:
        /// names at any depth, or paths in it; `*` and `?` match within a name.
        ///
        /// Example: `exclude = [".git", "*.pyc", "docs/build"]`
        exclude: Vec<Exclusion> = "exclude" optional;
        /// What a symbolic link points to.
        ///
        /// Example: `symlink = "/tmp"`
        symlink: Option<LinkTarget> = "symlink" optional;
        /// Whether to add to the end of an existing file, which is made if
        /// there is none.
        ///
        /// Example: `append = true`
        append: bool = "append" default(false) "false";
        /// The mode of a file in octal. In a directory each keeps its own; one that
        /// comes from the umask alone is 0755 if executable, else 0644.
        ///
        /// Example: `mode = "0500"`
        mode: Option<Mode> = "mode"
            default(None) "0755 if the source is executable, else 0644; as it is when appending";
        /// Who owns it.
        ///
        /// Example: `owner = "operador:operador"`
        owner: Option<Owner> = "owner"
            default((!append).then(Owner::root)) "root:root; as it is when appending";
    }
}

/// What a [`File`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind<'r> {
    /// A copy of a file or directory beside the recipe.
    Source(&'r Beside),
    /// A file with this content.
    Content(&'r str),
    /// A symbolic link with this target.
    Symlink(&'r LinkTarget),
}

impl File {
    /// What it is: the one of `source`, `content` and `symlink` that is there.
    pub fn kind(&self) -> FileKind<'_> {
        match (&self.source, &self.symlink) {
            (Some(source), _) => FileKind::Source(source),
            (None, Some(target)) => FileKind::Symlink(target),
            (None, None) => FileKind::Content(self.content.as_deref().unwrap_or_default()),
        }
    }
}

super::word::word! {
    /// An answer for debconf: package, question, type and value.
    pub struct Answer: "an answer for debconf", "a list of answers for debconf",
        "package, question, type and answer, such as `postfix postfix/mailname string web.example`",
        super::grammar::answer;
    /// A GECOS comment.
    pub struct Comment: "a comment", "a list of comments",
        "one line without `:` and `,`",
        |text| super::grammar::fits(!text.contains([':', ',']) && !text.contains(char::is_control) && !text.is_empty());
    /// What is left out of a directory beside the recipe.
    pub struct Exclusion: "a pattern", "a list of patterns",
        "a name such as `.git` or `*.pyc`, or a path such as `docs/build`",
        |text| super::grammar::relative(text);
    /// The target of a symbolic link, absolute or relative.
    pub struct LinkTarget: "a link target", "a list of link targets",
        "a path, such as `/tmp` or `../share/app`",
        |text| super::grammar::fits(!text.is_empty() && text.len() < 4096 && !text.contains(char::is_control));
}

impl Answer {
    /// The package that asks, without an architecture.
    pub fn package(&self) -> &str {
        self.words().0
    }

    /// What it asks.
    pub fn question(&self) -> &str {
        self.words().1
    }

    fn words(&self) -> (&str, &str) {
        let mut words = self.as_str().split_whitespace();
        (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        )
    }
}

impl Component {
    fn main() -> Vec<Self> {
        vec![Component::known("main")]
    }
}

impl Architecture {
    /// dpkg's name for the architecture that this program was built for.
    pub fn of_this_machine() -> Self {
        Architecture::known(match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "i386",
            "arm" => "armhf",
            "powerpc64" => "ppc64el",
            other => other,
        })
    }
}
