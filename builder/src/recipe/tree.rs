//! The tree before any Python: bootstrap, archives, packages, system, users, files.

use serde::{Deserialize, Serialize};

use super::value::{Id, Mode, Owner, Priority, Variant};
use super::word::{
    Architecture, Beside, Component, Digest, Label, Locale, Login, Moment, PackageName,
    PackageSpec, Script, Suite, TimeZone, TreePath,
};

/// The first tree, made by debootstrap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bootstrap {
    /// The Debian suite, by code name.
    ///
    /// Example: `suite = "bookworm"`
    pub suite: Suite,
    /// How much debootstrap installs by itself: `minbase` (essential
    /// packages and apt), `buildd` (and what builds packages) or
    /// `standard`. Default: minbase.
    ///
    /// Example: `variant = "minbase"`
    #[serde(default)]
    pub variant: Variant,
    /// dpkg's name of the architecture. Default: this machine's.
    ///
    /// Example: `architecture = "amd64"`
    #[serde(default = "Architecture::of_this_machine")]
    pub architecture: Architecture,
    /// Components of the archive, also for apt in the tree. Default: `["main"]`.
    ///
    /// Example: `components = ["main", "contrib"]`
    #[serde(default = "Component::main", skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
    /// Packages that debootstrap installs besides.
    ///
    /// Example: `include = ["locales"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<PackageName>,
    /// Packages that debootstrap leaves out.
    ///
    /// Example: `exclude = ["nano"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<PackageName>,
    /// Take the archive as it was then, from the machine's address for dated
    /// archives; its `Valid-Until` is not asked for.
    ///
    /// Example: `snapshot = "20260901T000000Z"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Moment>,
    /// Take no other Release file than this; its `Valid-Until` is not asked for.
    ///
    /// Example: `release = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Digest>,
}

/// A further archive for apt. The bootstrap's own is always there. No
/// addresses: an archive is named here and its mirror on the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Source {
    /// A name for it within the recipe.
    ///
    /// Example: `name = "security"`
    pub name: Label,
    /// Which archive: `debian`, `debian-security`, or another name whose
    /// address the machine knows. Default: debian.
    ///
    /// Example: `archive = "debian-security"`
    #[serde(default = "Label::debian")]
    pub archive: Label,
    /// Suite or pocket of it.
    ///
    /// Example: `suite = "bullseye-security"`
    pub suite: Suite,
    /// Components of it. Default: `["main"]`.
    ///
    /// Example: `components = ["main"]`
    #[serde(default = "Component::main", skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
    /// The public key that signs it (`OpenPGP`, armored or not): a file beside the recipe.
    ///
    /// Example: `key = "files/archive.asc"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Beside>,
    /// apt's pin priority for everything in it, and for nothing else.
    ///
    /// Example: `priority = 100`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Take the archive as it was then, from the machine's address for dated
    /// archives; its `Valid-Until` is not asked for.
    ///
    /// Example: `snapshot = "20260901T000000Z"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Moment>,
    /// Take no other Release file than this; its `Valid-Until` is not asked for.
    ///
    /// Example: `release = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Digest>,
}

/// Settings of apt in the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Apt {
    /// What to put into apt's preferences: pins in `apt_preferences(5)` form.
    /// While locking, `Pin: origin NAME` is a source of that name.
    ///
    /// Example: `preferences = "Package: git\nPin: release n=bullseye-backports\nPin-Priority: 990"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferences: Option<Script>,
}

/// Packages installed, held and purged together. Any number, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Packages {
    /// Packages to install, perhaps in one version.
    ///
    /// Example: `install = ["git", "libsodium-dev=1.0.18-1"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub install: Vec<PackageSpec>,
    /// Whether recommended packages come along. Default: false.
    ///
    /// Example: `recommends = true`
    pub recommends: bool,
    /// The suite to prefer for these packages (`apt-get -t`).
    ///
    /// Example: `target-release = "bullseye-backports"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_release: Option<Suite>,
    /// Package files beside the recipe, installed with their dependencies.
    ///
    /// Example: `debs = ["files/libsodium_1.0.18-1_amd64.deb"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub debs: Vec<Beside>,
    /// Packages that later upgrades leave alone.
    ///
    /// Example: `hold = ["libsodium23"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hold: Vec<PackageName>,
    /// Packages to remove with their configuration.
    ///
    /// Example: `purge = ["nano"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub purge: Vec<PackageName>,
}

/// Language and time, set without any dialog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct System {
    /// The default locale (`LANG`). Default: C.UTF-8.
    ///
    /// Example: `locale = "en_US.UTF-8"`
    pub locale: Locale,
    /// The locales to generate, besides the default one. `C.UTF-8` needs
    /// no generating; all others need the package `locales`.
    ///
    /// Example: `locales = ["en_US.UTF-8", "it_IT.UTF-8"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locales: Vec<Locale>,
    /// The time zone. Default: Etc/UTC.
    ///
    /// Example: `timezone = "Europe/Rome"`
    pub timezone: TimeZone,
}

/// A user of the image, with a group of the same name.
/// Users that Debian or a package makes, such as `www-data` or `redis`, need no
/// section: they own files, run steps and the service as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct User {
    /// The login name.
    ///
    /// Example: `name = "operador"`
    pub name: Login,
    /// The numeric user id.
    ///
    /// Example: `uid = 1000`
    pub uid: Id,
    /// The numeric id of the user's own group. Default: the uid.
    ///
    /// Example: `gid = 1000`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<Id>,
    /// The login shell. Default: /bin/sh.
    ///
    /// Example: `shell = "/bin/bash"`
    #[serde(default = "TreePath::sh")]
    pub shell: TreePath,
    /// The home directory. Default: /home/NAME.
    ///
    /// Example: `home = "/home/operador"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<TreePath>,
    /// A directory beside the recipe whose content the home begins with.
    /// Default: the tree's own /etc/skel.
    ///
    /// Example: `skeleton = "files/skel"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skeleton: Option<Beside>,
    /// Further groups to be in. They exist in Debian or come with a package.
    ///
    /// Example: `groups = ["adm"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Login>,
    /// The full name or purpose (the GECOS field).
    ///
    /// Example: `comment = "runs the web application"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<Comment>,
}

/// A file, a directory or a symbolic link put into the tree, after packages
/// and users and before virtualenvs. Exactly one of `source`, `content`
/// and `symlink` says what it is. Missing parent directories are made: in
/// the home of a user they belong to that user, elsewhere to root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct File {
    /// Where it goes.
    ///
    /// Example: `path = "/home/operador/bin/project"`
    pub path: TreePath,
    /// A file or directory beside the recipe to copy.
    ///
    /// Example: `source = "files/project"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Beside>,
    /// The content itself.
    ///
    /// Example: `content = "hello\n"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// What a symbolic link points to.
    ///
    /// Example: `symlink = "/tmp"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symlink: Option<LinkTarget>,
    /// Whether to add to the end of an existing file, which is made if
    /// there is none. Default: false.
    ///
    /// Example: `append = true`
    #[serde(default)]
    pub append: bool,
    /// The mode of a file in octal. The files of a directory keep the
    /// default. Default: 0755 if the source is executable, else 0644; as it is when appending.
    ///
    /// Example: `mode = "0500"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Who owns it. Default: root:root; as it is when appending.
    ///
    /// Example: `owner = "operador:operador"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
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

impl Default for System {
    fn default() -> Self {
        System {
            locale: Locale::known("C.UTF-8"),
            locales: Vec::new(),
            timezone: TimeZone::known("Etc/UTC"),
        }
    }
}

impl User {
    /// The numeric id of the user's own group.
    pub fn gid(&self) -> Id {
        self.gid.unwrap_or(self.uid)
    }

    /// The home directory.
    pub fn home(&self) -> TreePath {
        let home = || TreePath::known(&format!("/home/{}", self.name));
        self.home.clone().unwrap_or_else(home)
    }
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
    /// A GECOS comment.
    pub struct Comment: "a comment",
        "one line without `:` and `,`",
        |text| super::grammar::fits(!text.contains([':', ',']) && !text.contains(char::is_control) && !text.is_empty());
    /// The target of a symbolic link, absolute or relative.
    pub struct LinkTarget: "a link target",
        "a path, such as `/tmp` or `../share/app`",
        |text| super::grammar::fits(!text.is_empty() && text.len() < 4096 && !text.contains(char::is_control));
}

impl Label {
    fn debian() -> Self {
        Label::known("debian")
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
