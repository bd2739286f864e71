//! The tree before any Python: bootstrap, archives, packages, system, users, files.

use serde::{Deserialize, Serialize};
use store::Sha256;

use super::requirement::DownloadUrl;
use super::value::{Id, Mode, Owner, Priority, Strip, Variant};
use super::word::{
    Architecture, BaseImage, Beside, Checksum, Component, Digest, Label, Locale, Login, Moment,
    PackageName, PackageSpec, Script, Suite, TimeZone, TreePath,
};

/// The base system, installed by debootstrap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bootstrap {
    /// The image that the tree begins with, in place of debootstrap: `ENVIRONMENT/NAME`, its
    /// newest release when it is locked, `ENVIRONMENT/NAME/NUMBER`, or its digest
    /// (`docs/bases.md`).
    ///
    /// Example: `base = "prod/debian"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseImage>,
    /// The Debian suite, by code name. A base is of the same one.
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
    /// Additional packages that debootstrap installs.
    ///
    /// Example: `include = ["locales"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<PackageName>,
    /// Packages that debootstrap leaves out.
    ///
    /// Example: `exclude = ["nano"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<PackageName>,
    /// Use the archive as it was at this time, from the address that this machine has
    /// for dated archives (`docs/archives.md`). `Valid-Until` is not checked.
    ///
    /// Example: `snapshot = "20260901T000000Z"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Moment>,
    /// Accept only the Release file with this digest. `Valid-Until` is not checked.
    ///
    /// Example: `release = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Digest>,
}

/// An additional archive for apt; that of `[bootstrap]` is always used. A recipe only
/// names archives; the machine's settings say at which address each is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Source {
    /// A name for this source, used only within the recipe.
    ///
    /// Example: `name = "security"`
    pub name: Label,
    /// Which archive: `debian`, `debian-security`, or another name whose
    /// address the machine knows. Default: debian.
    ///
    /// Example: `archive = "debian-security"`
    #[serde(default = "Label::debian")]
    pub archive: Label,
    /// Its suite, or a pocket such as `bullseye-security`.
    ///
    /// Example: `suite = "bullseye-security"`
    pub suite: Suite,
    /// Its components. Default: `["main"]`.
    ///
    /// Example: `components = ["main"]`
    #[serde(default = "Component::main", skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
    /// The public key that signs it (`OpenPGP`, armored or not): a file beside the recipe.
    ///
    /// Example: `key = "files/archive.asc"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Beside>,
    /// apt's pin priority for the packages of this suite. Without it, apt decides.
    ///
    /// Example: `priority = 100`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Use the archive as it was at this time, from the address that this machine has
    /// for dated archives (`docs/archives.md`). `Valid-Until` is not checked.
    ///
    /// Example: `snapshot = "20260901T000000Z"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Moment>,
    /// Accept only the Release file with this digest. `Valid-Until` is not checked.
    ///
    /// Example: `release = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Digest>,
}

/// Settings of apt in the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Apt {
    /// Pins in the format of `apt_preferences(5)`. `Pin: origin NAME` means the
    /// `[[source]]` of that name.
    ///
    /// Example: `preferences = "Package: git\nPin: release n=bullseye-backports\nPin-Priority: 990"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferences: Option<Script>,
}

/// Packages to install, hold and purge in one step. Sections are processed in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Packages {
    /// Packages to install; `name=version` asks for one version.
    ///
    /// Example: `install = ["git", "libsodium-dev=1.0.18-1"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub install: Vec<PackageSpec>,
    /// Whether to install recommended packages too. Default: false.
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
    /// Answers to what packages of this group ask when they are configured, in the
    /// form of `debconf-set-selections(1)`: package, question, type and answer.
    /// Passwords are refused: a recipe holds no secrets.
    ///
    /// Example: `debconf = ["wireshark-common wireshark-common/install-setuid boolean true"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub debconf: Vec<Answer>,
    /// Packages to hold: later `apt-get upgrade` leaves them alone.
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

/// Language and time zone. On a base whose recipe set them, the defaults change nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct System {
    /// The default locale (`LANG`). Default: C.UTF-8.
    ///
    /// Example: `locale = "en_US.UTF-8"`
    pub locale: Locale,
    /// Locales to generate, in addition to the default one. All but `C.UTF-8`
    /// need the package `locales`.
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
/// Users that Debian or a package creates, such as `www-data` or `redis`, need no
/// section: use their names directly.
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
    /// A directory beside the recipe whose content is copied into the new home.
    /// Default: the tree's own /etc/skel.
    ///
    /// Example: `skeleton = "files/skel"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skeleton: Option<Beside>,
    /// Additional groups of the user, which Debian or a package creates.
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

/// A file, a directory or a symbolic link to create, after packages and users
/// and before virtualenvs. Give exactly one of `source`, `content` and
/// `symlink`. Missing parent directories are created: in the home of a user
/// they belong to that user, elsewhere to root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct File {
    /// Its path in the image. What is removed or emptied at the end, such as /tmp and
    /// /etc/hostname, is refused, unless `keep` of `[clean]` names it.
    ///
    /// Example: `path = "/home/operador/bin/project"`
    pub path: TreePath,
    /// A file or directory beside the recipe to copy.
    ///
    /// Example: `source = "files/project"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Beside>,
    /// What of a source directory is left out:
    /// names at any depth, or paths in it; `*` and `?` match within a name. All else is copied
    /// unchanged, except owners and extended attributes.
    ///
    /// Example: `exclude = [".git", "*.pyc", "docs/build"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Exclusion>,
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
    /// Whether to append to a file that exists; one that does not is created. Default: false.
    ///
    /// Example: `append = true`
    #[serde(default)]
    pub append: bool,
    /// The mode of a file in octal. In a directory each keeps its own; one that
    /// comes from the umask alone is 0755 if executable, else 0644.
    /// Default: 0755 if the source is executable, else 0644; unchanged when appending.
    ///
    /// Example: `mode = "0500"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Its owner and group. Default: root:root; unchanged when appending.
    ///
    /// Example: `owner = "operador:operador"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

/// A file from the network: a program, an archive of sources, a model. It is fetched
/// while locking, retained in the store, and put into the tree before each `[[file]]`.
/// The recipe names its bytes; nothing else is ever taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Download {
    /// Where it is. The machine's apt fetches it, with its proxies, certificates and
    /// credentials.
    ///
    /// Example: `url = "https://downloads.example.org/tool-1.2.tar.gz"`
    pub url: DownloadUrl,
    /// Its SHA-256, as `sha256sum` prints it.
    ///
    /// Example: `sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
    pub sha256: Checksum,
    /// Its path in the image; with `unpack`, the directory into which it is unpacked.
    ///
    /// Example: `path = "/opt/tool"`
    pub path: TreePath,
    /// Whether it is a tar archive to unpack: plain, or compressed with gzip, xz or zstd.
    /// What is in it belongs to `owner`, and has its mode in the archive under a umask of
    /// 022, without set-user-ID and set-group-ID. Default: false.
    ///
    /// Example: `unpack = true`
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unpack: bool,
    /// How many leading directories of the names in the archive are left out. Default: 0.
    ///
    /// Example: `strip = 1`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip: Option<Strip>,
    /// The mode of a file in octal. Default: 0644.
    ///
    /// Example: `mode = "0755"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Its owner and group. Default: root:root.
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

impl Download {
    /// The digest of its bytes.
    pub fn digest(&self) -> Sha256 {
        match Sha256::from_hex(self.sha256.as_str()) {
            Ok(digest) => digest,
            // A checksum is checked when it is read.
            Err(error) => unreachable!("{error}"),
        }
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
    /// An answer for debconf: package, question, type and value.
    pub struct Answer: "an answer for debconf",
        "package, question, type and answer, such as `postfix postfix/mailname string web.example`",
        super::grammar::answer;
    /// A GECOS comment.
    pub struct Comment: "a comment",
        "one line without `:` and `,`",
        |text| super::grammar::fits(!text.contains([':', ',']) && !text.contains(char::is_control) && !text.is_empty());
    /// What is left out of a directory beside the recipe.
    pub struct Exclusion: "a pattern",
        "a name such as `.git` or `*.pyc`, or a path such as `docs/build`",
        |text| super::grammar::relative(text);
    /// The target of a symbolic link, absolute or relative.
    pub struct LinkTarget: "a link target",
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
        Architecture::known(common::machine::architecture())
    }
}
