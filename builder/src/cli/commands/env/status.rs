//! `imgbuild env status [ENV]`

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use store::keys::PublicKey;
use store::tuf::waves::Waves;
use store::tuf::{Environment, KeyGroup, Release};
use store::{EnvName, Store};

use super::super::base::ShownBase;
use super::environment;
use crate::error::{Error, ErrorKind, Result};
use crate::release::ceremony::{self, failed};
use crate::release::keyring::{Keyring, Passphrase};
use crate::settings::Settings;
use crate::stores::{self, environments};
use crate::ui::{self, Ui};

#[derive(Serialize)]
struct Shown {
    schema: u32,
    environments: Vec<ShownEnv>,
}

#[derive(Serialize)]
struct ShownEnv {
    environment: EnvName,
    /// The digest of the first root.
    fingerprint: String,
    roles: Vec<ShownRole>,
    releases: Vec<ShownRelease>,
    policy: Vec<String>,
    log: ShownLog,
    witnesses: Vec<ShownWitness>,
    /// Whether a role has run out.
    expired: bool,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct ShownRole {
    role: &'static str,
    version: u64,
    expires: String,
    days_left: i64,
    threshold: u64,
    keys: Vec<ShownKey>,
}

#[derive(Serialize)]
struct ShownKey {
    id: String,
    /// Its public half, as `key list` shows it.
    public: String,
    /// What it is called here.
    name: Option<String>,
    signed: bool,
}

#[derive(Serialize)]
struct ShownRelease {
    name: String,
    seq: u64,
    image: String,
    min_seq: u64,
    revoked: Vec<String>,
    /// How many releases of that name there are.
    releases: usize,
    /// The stages in which it reaches nodes, where it has some.
    waves: Option<Waves>,
    /// The image that it begins with; null for most.
    base: Option<ShownBase>,
}

impl ShownRelease {
    fn warning(&self) -> Option<String> {
        let base = self.base.as_ref().filter(|base| base.revoked)?;
        Some(format!(
            "{}/{} stands on {}: imgbuild lock --upgrade=base, build and release it again",
            self.name,
            self.seq,
            base.line()
        ))
    }
}

/// Where the log ends.
#[derive(Serialize)]
struct ShownLog {
    length: u64,
    sha256: String,
}

/// How far somebody else has seen the log.
#[derive(Serialize)]
struct ShownWitness {
    public: String,
    name: Option<String>,
    length: u64,
    time: String,
    /// Whether that is where the log ends.
    current: bool,
}

pub(super) fn run(env: Option<&str>, settings: &Settings, ui: &Ui) -> Result<()> {
    let store = stores::open(settings)?;
    let names = match env {
        Some(name) => vec![environment(name)?],
        None => names(&store)?,
    };
    let keyring = Keyring::new(settings, Passphrase::Terminal, None);
    let mut environments = Vec::new();
    for name in names {
        let env = ceremony::open(&store, &name)?;
        environments.push(look(&store, &env, &keyring)?);
    }
    let out = |env: &ShownEnv| env.expired.then(|| env.environment.to_string());
    let out: Vec<_> = environments.iter().filter_map(out).collect();
    if ui.is_json() {
        ui.result_json(&Shown {
            schema: ui::SCHEMA,
            environments,
        });
    } else {
        for env in environments {
            show(&env, ui);
        }
    }
    if out.is_empty() {
        return Ok(());
    }
    let text = format!("metadata of {} ran out: nodes refuse it", out.join(", "));
    Err(Error::new(ErrorKind::Refused, text).hint("the warnings name the command that renews it"))
}

/// What somebody who looks after a store has to hear of its environments; of those that cannot be
/// read, others tell.
pub(in crate::cli::commands) fn all_warnings(store: &Store) -> Vec<String> {
    let opened = names(store).unwrap_or_default().into_iter();
    let opened = opened.filter_map(|name| Environment::open(store, &name).ok());
    opened
        .flat_map(|env| warnings(&env, Timestamp::now()))
        .collect()
}

/// The environments of a store that can be listed.
fn names(store: &Store) -> Result<Vec<EnvName>> {
    environments::listed(store)?.ok_or_else(|| {
        Error::usage("this store cannot list its environments")
            .hint("name one: imgbuild env status ENV")
    })
}

fn look(store: &Store, env: &Environment<'_>, keyring: &Keyring) -> Result<ShownEnv> {
    let names = keyring.names(env.policy())?;
    let what = || format!("cannot read the environment {}", env.name());
    let now = Timestamp::now();
    let mut roles = Vec::new();
    let signers = env.role_keys().map_err(|e| failed(what(), &e))?;
    for ((role, version, signed), (_, expires)) in signers.into_iter().zip(env.expiries()) {
        let group = match role {
            "root" => KeyGroup::Root,
            "targets" => KeyGroup::Targets,
            _ => KeyGroup::Online,
        };
        let holders = env.key_set(group).map_err(|e| failed(what(), &e))?;
        let key = |key: &PublicKey| ShownKey {
            id: key.id(),
            public: key.hex(),
            name: names.of(key).map(str::to_owned),
            signed: signed.contains(key),
        };
        roles.push(ShownRole {
            role,
            version,
            expires: expires.to_string(),
            days_left: expires.duration_since(now).as_hours().div_euclid(24),
            threshold: holders.threshold,
            keys: holders.keys.iter().map(key).collect(),
        });
    }
    let all = ceremony::releases(env)?;
    let last = |release: &&Release| {
        !all.iter()
            .any(|other| other.name == release.name && other.seq > release.seq)
    };
    let releases = all.iter().filter(last).map(|release| ShownRelease {
        name: release.name.to_string(),
        seq: release.seq,
        image: release.image.to_string(),
        min_seq: release.custom.min_seq,
        revoked: release
            .custom
            .revoked
            .iter()
            .map(ToString::to_string)
            .collect(),
        releases: all
            .iter()
            .filter(|other| other.name == release.name)
            .count(),
        waves: release.custom.waves.clone(),
        // What cannot be read of an image, fsck says.
        base: store
            .manifest(&release.image)
            .ok()
            .and_then(|manifest| ShownBase::of(store, &manifest).ok()?),
    });
    let releases: Vec<ShownRelease> = releases.collect();
    let end = env.checkpoint(now);
    let mut warnings = warnings(env, now);
    warnings.extend(releases.iter().filter_map(ShownRelease::warning));
    let mut witnesses = Vec::new();
    let known = keyring.names(env.policy())?.keys();
    let current = env
        .witnesses(&known, &mut |e| warnings.push(e.to_string()))
        .map_err(|e| failed(what(), &e))?;
    for key in known {
        let Ok(Some(said)) = env.testimony(&key) else {
            continue;
        };
        if let Err(e) = env.since(Some(&said.checkpoint)) {
            warnings.push(e.to_string());
        }
        witnesses.push(ShownWitness {
            public: key.hex(),
            name: names.of(&key).map(str::to_owned),
            length: said.checkpoint.length,
            time: said.checkpoint.time.to_string(),
            current: current.contains(&key),
        });
    }
    Ok(ShownEnv {
        log: ShownLog {
            length: end.length,
            sha256: end.sha256.to_string(),
        },
        witnesses,
        environment: env.name().clone(),
        fingerprint: env.fingerprint().to_string(),
        roles,
        releases,
        policy: env
            .policy()
            .map(store::tuf::Policy::sentences)
            .unwrap_or_default(),
        expired: env.expiries().iter().any(|(_, expires)| *expires <= now),
        warnings,
    })
}

/// What runs out soon, or has: in the last third of its time.
pub(super) fn warnings(env: &Environment<'_>, now: Timestamp) -> Vec<String> {
    let days = env.lifetimes();
    let mut lines = Vec::new();
    for (role, expires) in env.expiries() {
        let name = env.name();
        let (life, command) = match role {
            "root" => (
                days.root,
                format!("imgbuild env root propose {name}, then sign and publish"),
            ),
            "targets" => (
                days.targets,
                format!("imgbuild env refresh --all {name}, or the next release"),
            ),
            "snapshot" => (days.snapshot, format!("imgbuild env refresh {name}")),
            _ => (days.timestamp, format!("imgbuild env refresh {name}")),
        };
        let left = expires.duration_since(now).as_hours();
        // A day more than it can be when it was signed just now.
        if left > 24 * (i64::from(life) + 1) {
            lines.push(format!(
                "{role} of {} runs out at {expires}, later than a signature of {life} days can: \
                 this clock is behind, or its key was used by somebody else",
                env.name()
            ));
        }
        if left <= 0 {
            lines.push(format!(
                "{role} of {} ran out at {expires}: nodes refuse it; {command}",
                env.name()
            ));
        } else if left < 8 * i64::from(life) {
            lines.push(format!(
                "{role} of {} runs out {}: {command}",
                env.name(),
                when(left / 24)
            ));
        }
    }
    lines
}

fn when(days: i64) -> String {
    match days {
        0 => "within a day".to_owned(),
        1 => "in 1 day".to_owned(),
        days => format!("in {days} days"),
    }
}

fn left(days: i64) -> String {
    match days {
        1 => "1 day left".to_owned(),
        0.. => format!("{days} days left"),
        _ => "ran out".to_owned(),
    }
}

fn show(env: &ShownEnv, ui: &Ui) {
    ui.result(&format!(
        "{}  first root {}",
        env.environment, env.fingerprint
    ));
    for role in &env.roles {
        let keys = role.keys.iter().map(|key| {
            let name = key.name.as_deref().unwrap_or("not known here");
            let signed = if key.signed { "  signed" } else { "" };
            format!("    {}  {name}{signed}", key.public)
        });
        ui.result(&format!(
            "  {:<10} {:>4}  {}, {}  {} of {}:\n{}",
            role.role,
            role.version,
            role.expires,
            left(role.days_left),
            role.threshold,
            role.keys.len(),
            keys.collect::<Vec<_>>().join("\n")
        ));
    }
    for line in &env.policy {
        ui.result(&format!("  policy     {line}"));
    }
    ui.result(&format!(
        "  log        {} entries, the last of them {}",
        env.log.length, env.log.sha256
    ));
    for witness in &env.witnesses {
        ui.result(&format!(
            "  witness    {}  entry {}{}, {}",
            witness.name.as_deref().unwrap_or(&witness.public),
            witness.length,
            if witness.current {
                ""
            } else {
                ", not the last"
            },
            witness.time
        ));
    }
    for release in &env.releases {
        let floor = if release.min_seq > 1 {
            format!("  not below {}", release.min_seq)
        } else {
            String::new()
        };
        ui.result(&format!(
            "  release    {}/{}  {}{floor}",
            release.name, release.seq, release.image
        ));
        if let Some(waves) = &release.waves {
            let mut line = format!("  waves      {} since {}", waves.standing(), waves.since());
            if let Some(reason) = waves.halted() {
                // Writing to a String cannot fail.
                let _ = write!(line, "; {reason}");
            }
            ui.result(&line);
        }
        if let Some(base) = &release.base {
            ui.result(&format!("  base       {}", base.line()));
        }
        for image in &release.revoked {
            ui.result(&format!("  revoked    {}  {image}", release.name));
        }
    }
    for line in &env.warnings {
        ui.note(&format!("warning: {line}"));
    }
}
