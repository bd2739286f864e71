//! What the files of a package say about its version, where the tools themselves look.

use std::fmt;

use toml::Value;

use super::script::{Piece, Script, is_version};

/// A tool that makes versions from Git.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// Of `setuptools_scm` or built on it.
    Scm,
    /// Of dunamai or built on it, with the variable that it hears, if any.
    Dunamai(Option<&'static str>),
    Pdm,
    /// Its variable is heard by all packages of its kind.
    Pbr,
    /// It reads what `git archive` fills in.
    Versioneer,
    /// It asks git itself and believes nobody else.
    Stubborn(&'static str),
}

impl Maker {
    /// What tells a version to it in its place.
    pub(super) fn variable(self) -> Option<&'static str> {
        match self {
            Self::Scm => Some("SETUPTOOLS_SCM_PRETEND_VERSION"),
            Self::Dunamai(variable) => variable,
            Self::Pdm => Some("PDM_BUILD_SCM_VERSION"),
            Self::Pbr => Some("PBR_VERSION"),
            Self::Versioneer | Self::Stubborn(_) => None,
        }
    }
}

/// How much a sign says, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// The tool is named, which alone does nothing.
    Named,
    /// It is set up, and leaves a version alone that setup.py states.
    SetUp,
    /// It makes the version, whatever else is stated.
    Ordered,
}

/// A word that says that a version comes from Git.
#[derive(Clone, Debug)]
pub(super) struct Sign {
    pub(super) maker: Maker,
    pub(super) weight: Weight,
    pub(super) file: &'static str,
    pub(super) line: Option<usize>,
    pub(super) word: String,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, word, .. } = self;
        match self.line {
            Some(line) => write!(f, "line {line} of {file} has `{word}`"),
            None => write!(f, "{file} has `{word}`"),
        }
    }
}

/// All that the files say.
#[derive(Debug, Default)]
pub(super) struct Signs {
    /// The sign that says most.
    pub(super) sign: Option<Sign>,
    /// The heaviest signs that a version which stands in the files overrules.
    pub(super) stated: Option<Weight>,
    /// Which tags count.
    pub(super) tags: Vec<String>,
    /// Where setup.py asks git by itself.
    pub(super) calls_git: Option<usize>,
}

const UV: Maker = Maker::Dunamai(Some("UV_DYNAMIC_VERSIONING_BYPASS"));
const POETRY: Maker = Maker::Dunamai(Some("POETRY_DYNAMIC_VERSIONING_BYPASS"));
const VERSIONINGIT: Maker = Maker::Stubborn("versioningit");
const GIT_VERSIONING: Maker = Maker::Stubborn("setuptools-git-versioning");

/// Packages by what is in their names, the special ones first.
const PACKAGES: [(&str, Maker); 10] = [
    ("versioningit", VERSIONINGIT),
    ("setuptools-git-versioning", GIT_VERSIONING),
    ("versioneer", Maker::Versioneer),
    ("setuptools-scm", Maker::Scm),
    ("vcs-versioning", Maker::Scm),
    ("hatch-vcs", Maker::Scm),
    ("flit-scm", Maker::Scm),
    ("uv-dynamic-versioning", UV),
    ("dynamic-versioning", POETRY),
    ("dunamai", Maker::Dunamai(None)),
];

/// Tables of `tool` that only a tool of this kind reads.
const TABLES: [(&str, Maker, Weight); 9] = [
    ("setuptools_scm", Maker::Scm, Weight::SetUp),
    ("setuptools-scm", Maker::Scm, Weight::SetUp),
    ("vcs-versioning", Maker::Scm, Weight::SetUp),
    // What reads it is in setup.py, which imports versioneer.
    ("versioneer", Maker::Versioneer, Weight::Named),
    ("versioningit", VERSIONINGIT, Weight::Ordered),
    ("setuptools-git-versioning", GIT_VERSIONING, Weight::Ordered),
    // A source of hatch, and nothing without it.
    ("uv-dynamic-versioning", UV, Weight::Named),
    // Puts its own in place of the version in `tool.poetry`.
    ("poetry-dynamic-versioning", POETRY, Weight::Ordered),
    ("dunamai", Maker::Dunamai(None), Weight::Named),
];

/// Where backends have the source of a version: what names a tool there may bring it in.
const SOURCES: [&[&str]; 7] = [
    &["build-system", "build-backend"],
    &["tool", "hatch", "version"],
    &["tool", "hatch", "metadata", "hooks"],
    &["tool", "pdm", "version"],
    &["tool", "scikit-build", "metadata"],
    &["tool", "dynamic-metadata"],
    &["tool", "setuptools"],
];

/// Reads one file of a package by its path.
pub(super) type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Signs {
    pub(super) fn of(read: Read<'_>) -> Self {
        let mut signs = Self::default();
        let project = read("pyproject.toml").unwrap_or_default();
        // What is no TOML is refused by whoever builds it.
        let table = Value::Table(project.parse().unwrap_or_default());
        signs.read_project(&table, &project);
        signs.state_by_backend(&table);
        let backend = text_at(&table, &["build-system", "build-backend"]);
        // No other backend looks into setup.py and setup.cfg.
        let is_setuptools = backend.is_none_or(|backend| {
            backend.starts_with("setuptools.") || backend.starts_with("pbr.")
        });
        if let Some(text) = read("setup.cfg") {
            let version = signs.read_settings(&text);
            if is_setuptools && version.is_some_and(|version| is_stated(&version, read)) {
                signs.state(Weight::Named);
            }
        }
        let version = table
            .get("tool")
            .and_then(|tool| tool.get("setuptools")?.get("dynamic")?.get("version"));
        if let Some(Value::Table(version)) = version.filter(|_| is_setuptools) {
            let of = |kind: &str| {
                let said = version.get(kind)?;
                let first = said.as_array().map_or(Some(said), |all| all.first())?;
                Some(format!("{kind}: {}", first.as_str()?))
            };
            let mut kinds = ["attr", "file"].into_iter().filter_map(of);
            if kinds.any(|version| is_stated(&version, read)) {
                signs.state(Weight::Named);
            }
        }
        if let Some(text) = read("setup.py") {
            let script = Script::new(&text);
            signs.read_script(&script);
            if is_setuptools && script.states_version() {
                signs.state(Weight::SetUp);
            } else {
                signs.calls_git = script.calls_git();
            }
        }
        if read(".git_archival.txt").is_some_and(|text| text.contains("describe-name")) {
            signs.add(Sign {
                maker: Maker::Scm,
                weight: Weight::Named,
                file: ".git_archival.txt",
                line: None,
                word: "describe-name".to_owned(),
            });
        }
        signs
    }

    /// Retains what says most; of two that say the same, the first.
    fn add(&mut self, sign: Sign) {
        let rank = |sign: &Sign| {
            let is_special = matches!(
                sign.maker,
                Maker::Stubborn(_) | Maker::Versioneer | Maker::Pbr
            );
            (sign.weight, is_special)
        };
        if self.sign.as_ref().is_none_or(|old| rank(old) < rank(&sign)) {
            self.sign = Some(sign);
        }
    }

    fn state(&mut self, weight: Weight) {
        self.stated = self.stated.max(Some(weight));
    }

    /// What pyproject.toml sets up.
    fn read_project(&mut self, table: &Value, text: &str) {
        let mut add = |maker, weight, word: String, key: &str| {
            self.add(Sign {
                maker,
                weight,
                file: "pyproject.toml",
                line: line_of(text, &word).or_else(|| line_of(text, key)),
                word,
            });
        };
        let tool = table.get("tool");
        let orders = [
            (
                &["tool", "hatch", "version", "source"][..],
                "vcs",
                Maker::Scm,
            ),
            (
                &["tool", "hatch", "version", "source"],
                "uv-dynamic-versioning",
                UV,
            ),
            (
                &["tool", "hatch", "version", "source"],
                "versioningit",
                VERSIONINGIT,
            ),
            (&["tool", "pdm", "version", "source"], "scm", Maker::Pdm),
            (
                &["tool", "scikit-build", "metadata", "version", "provider"],
                "scikit_build_core.metadata.setuptools_scm",
                Maker::Scm,
            ),
            (&["build-system", "build-backend"], "pbr.build", Maker::Pbr),
        ];
        for (path, value, maker) in orders {
            if text_at(table, path) == Some(value) {
                let key = path.last().copied().unwrap_or_default();
                let found = text
                    .lines()
                    .find(|line| line.contains(value) && line.trim_start().starts_with(key));
                let word = found.map_or(value.to_owned(), |line| line.trim().to_owned());
                add(maker, Weight::Ordered, word, value);
            }
        }
        // Of pdm-pep517, which pdm-backend took over from.
        for path in [
            &["tool", "pdm", "version", "use_scm"][..],
            &["project", "version", "use_scm"],
        ] {
            if at(table, path).is_some_and(|value| value.as_bool() != Some(false)) {
                add(Maker::Pdm, Weight::Ordered, "use_scm".to_owned(), "scm");
            }
        }
        for (name, maker, weight) in TABLES {
            let own = tool.and_then(|tool| tool.get(name));
            let is_off = |own: &Value| {
                let switches = ["enable", "enabled"].into_iter();
                let mut switches = switches.filter_map(|key| own.get(key)?.as_bool());
                switches.any(|is_on| !is_on)
            };
            if own.is_some_and(|own| !is_off(own)) {
                add(maker, weight, format!("[tool.{name}]"), name);
            }
        }
        let requires = at(table, &["build-system", "requires"]).and_then(Value::as_array);
        for requirement in requires.into_iter().flatten().filter_map(Value::as_str) {
            if let Some(maker) = package(requirement) {
                add(maker, Weight::Named, requirement.to_owned(), requirement);
            }
        }
        for path in SOURCES {
            for word in at(table, path).map(words).unwrap_or_default() {
                if let Some(maker) = mentioned(word) {
                    add(maker, Weight::Named, word.to_owned(), word);
                }
            }
        }
        for path in [
            &["tool", "setuptools_scm", "git_describe_command"][..],
            &[
                "tool",
                "hatch",
                "version",
                "raw-options",
                "git_describe_command",
            ],
            &["tool", "setuptools_scm", "scm", "git", "describe_command"],
        ] {
            self.tags.extend(matched(at(table, path)));
        }
    }

    /// What a backend takes from pyproject.toml or from where this says, and from nowhere else.
    fn state_by_backend(&mut self, table: &Value) {
        let backend = text_at(table, &["build-system", "build-backend"]).unwrap_or_default();
        let is = |path: &[&str], wanted: &str| text_at(table, path) == Some(wanted);
        let has = |path: &[&str]| text_at(table, path).is_some();
        let is_stated = has(&["project", "version"])
            || backend.starts_with("hatchling.")
                && has(&["tool", "hatch", "version", "path"])
                && (!has(&["tool", "hatch", "version", "source"])
                    || is(&["tool", "hatch", "version", "source"], "regex"))
            || backend.starts_with("pdm.") && is(&["tool", "pdm", "version", "source"], "file")
            || backend.starts_with("scikit_build_core.")
                && is(
                    &["tool", "scikit-build", "metadata", "version", "provider"],
                    "scikit_build_core.metadata.regex",
                );
        if is_stated {
            self.state(Weight::Ordered);
        } else if backend.starts_with("poetry") && has(&["tool", "poetry", "version"]) {
            self.state(Weight::SetUp);
        }
    }

    /// What setup.cfg sets up; the version in it.
    fn read_settings(&mut self, text: &str) -> Option<String> {
        let (mut section, mut key, mut version) = ("", "", None);
        for (index, line) in text.lines().enumerate() {
            let is_comment = line.trim_start().starts_with(['#', ';']);
            if line.trim().is_empty() || is_comment {
                continue;
            }
            let mut add = |maker, weight, word: &str| {
                self.add(Sign {
                    maker,
                    weight,
                    file: "setup.cfg",
                    line: Some(index + 1),
                    word: word.to_owned(),
                });
            };
            if let Some(name) = line.strip_prefix('[') {
                section = name.split(']').next().unwrap_or_default().trim();
                key = "";
                match section {
                    "versioneer" => add(Maker::Versioneer, Weight::Named, "[versioneer]"),
                    "pbr" => add(Maker::Pbr, Weight::Named, "[pbr]"),
                    _ => {}
                }
                continue;
            }
            let mut value = line.trim();
            if !line.starts_with([' ', '\t']) {
                let cut = line.find(['=', ':']).unwrap_or(line.len());
                key = line[..cut].trim();
                value = line.get(cut + 1..).unwrap_or_default().trim();
            }
            match key.replace('-', "_").as_str() {
                "setup_requires" => {
                    for requirement in value.split(';') {
                        if let Some(maker) = package(requirement) {
                            add(maker, Weight::Named, requirement.trim());
                        }
                    }
                }
                "use_scm_version" => add(Maker::Scm, Weight::SetUp, key),
                "version" if section == "metadata" && !value.is_empty() => {
                    version = Some(value.to_owned());
                }
                _ => {}
            }
        }
        version
    }

    /// What setup.py uses.
    fn read_script(&mut self, script: &Script<'_>) {
        for (placed, [before, after]) in script.telling() {
            let is_import = matches!(before, Some(Piece::Word("import" | "from")));
            let (word, found) = match placed.piece {
                Piece::Word(word) | Piece::Text(word) if word == "use_scm_version" => {
                    (word, Some((Maker::Scm, Weight::Ordered)))
                }
                Piece::Word(word) if word == "setuptools_git_versioning" => {
                    (word, Some((GIT_VERSIONING, Weight::Ordered)))
                }
                Piece::Word("pbr") if is_import => ("pbr", Some((Maker::Pbr, Weight::SetUp))),
                Piece::Word("pbr") if after == Some(Piece::Mark('=')) => {
                    ("pbr=", Some((Maker::Pbr, Weight::Ordered)))
                }
                Piece::Text("pbr") if after == Some(Piece::Mark(':')) => {
                    ("pbr", Some((Maker::Pbr, Weight::Ordered)))
                }
                Piece::Word(word) => (word, mentioned(word).map(|maker| (maker, Weight::SetUp))),
                Piece::Text(text) => (text, package(text).map(|maker| (maker, Weight::Named))),
                Piece::Made(_) | Piece::Mark(_) => continue,
            };
            if let Some((maker, weight)) = found {
                self.add(Sign {
                    maker,
                    weight,
                    file: "setup.py",
                    line: Some(placed.line),
                    word: word.to_owned(),
                });
            }
        }
    }
}

/// Whether a version of setup.cfg, with `attr:` and `file:`, is written down.
fn is_stated(version: &str, read: Read<'_>) -> bool {
    let is_inside = |path: &str| {
        let mut parts = path.split('/');
        parts.all(|part| !part.is_empty() && part != "..")
    };
    if let Some(path) = version.strip_prefix("file:") {
        let text = Some(path.trim()).filter(|path| is_inside(path));
        return text.and_then(read).is_some_and(|text| is_version(&text));
    }
    let Some(attribute) = version.strip_prefix("attr:") else {
        return is_version(version);
    };
    let Some((module, name)) = attribute.trim().rsplit_once('.') else {
        return false;
    };
    let module = module.replace('.', "/");
    if !is_inside(&module) {
        return false;
    }
    let places = [
        format!("{module}.py"),
        format!("{module}/__init__.py"),
        format!("src/{module}.py"),
        format!("src/{module}/__init__.py"),
    ];
    let text = places.iter().find_map(|path| read(path));
    text.is_some_and(|text| Script::new(&text).assigns_version(name))
}

/// The tool whose package a requirement asks for; nothing for other texts.
fn package(requirement: &str) -> Option<Maker> {
    let requirement = requirement.trim();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name = requirement.trim_start_matches(is_name);
    let (name, rest) = requirement.split_at(requirement.len() - name.len());
    if !rest.is_empty()
        && !rest
            .trim_start()
            .starts_with(['[', '<', '>', '=', '!', '~', ';', '@', '('])
    {
        return None;
    }
    if name.eq_ignore_ascii_case("pbr") {
        return Some(Maker::Pbr);
    }
    mentioned(name)
}

/// The tool whose name is part of a word.
fn mentioned(word: &str) -> Option<Maker> {
    let word = word.to_ascii_lowercase().replace(['_', '.'], "-");
    let (_, maker) = PACKAGES.iter().find(|(name, _)| word.contains(name))?;
    Some(*maker)
}

fn at<'v>(table: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(table, |value, key| value.get(key))
}

fn text_at<'v>(table: &'v Value, path: &[&str]) -> Option<&'v str> {
    at(table, path).and_then(Value::as_str)
}

/// The keys and the texts in a value.
fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().flat_map(words).collect(),
        Value::Table(table) => {
            let inside = table.iter();
            inside
                .flat_map(|(key, value)| std::iter::once(key.as_str()).chain(words(value)))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The first line with a word that is no comment.
fn line_of(text: &str, word: &str) -> Option<usize> {
    let mut lines = text.lines();
    let at = lines.position(|line| line.contains(word) && !line.trim_start().starts_with('#'))?;
    Some(at + 1)
}

/// The patterns after `--match` in a command for `git describe`.
fn matched(command: Option<&Value>) -> Vec<String> {
    let words: Vec<String> = match command {
        Some(Value::String(line)) => line.split_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(words)) => words
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    };
    let mut patterns = Vec::new();
    let mut words = words.iter().map(|word| word.trim_matches(['"', '\'']));
    while let Some(word) = words.next() {
        let pattern = match word.strip_prefix("--match") {
            Some("") => words.next(),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        };
        patterns.extend(pattern.map(str::to_owned));
    }
    patterns
}
