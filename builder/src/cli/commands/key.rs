//! `imgbuild key new|show|list`

use serde::Serialize;
use store::keys::{KeyFile, Signer as _};

use crate::cli::args::{KeyArgs, KeyCommand, KeyNewArgs, KeyShowArgs};
use crate::error::{Error, Result};
use crate::release::keyring::{self, Entry, KeyStorage, Keyring, Passphrase, new_passphrase};
use crate::settings::Settings;
use crate::ui::{self, Ui};

#[derive(Serialize)]
struct Shown {
    schema: u32,
    keys: Vec<ShownKey>,
}

#[derive(Serialize)]
struct ShownKey {
    name: String,
    /// The key id that TUF metadata uses.
    id: Option<String>,
    public: Option<String>,
    kept: &'static str,
    file: String,
    problem: Option<String>,
}

impl From<Entry> for ShownKey {
    fn from(entry: Entry) -> Self {
        Self {
            kept: match entry.kept {
                KeyStorage::Encrypted => "encrypted",
                KeyStorage::Plain => "plain",
                KeyStorage::Command => "command",
            },
            id: entry.public.as_ref().ok().map(store::keys::PublicKey::id),
            public: entry.public.as_ref().ok().map(store::keys::PublicKey::hex),
            problem: entry.public.err(),
            file: entry.path.display().to_string(),
            name: entry.name,
        }
    }
}

pub(super) fn run(args: &KeyArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    match &args.command {
        KeyCommand::New(args) => new(args, settings, ui),
        KeyCommand::Show(args) => show(args, settings, ui),
        KeyCommand::List(_) => list(settings, ui),
    }
}

fn new(args: &KeyNewArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    check_name(&args.name)?;
    let file = KeyFile::at(settings.keys.join(format!("{}.pem", args.name)));
    if file.exists() {
        let path = file.path().display();
        return Err(Error::failed(format!("there is a key {path} already"))
            .hint("keys are never overwritten: choose another name"));
    }
    let pair = if args.plain {
        file.create()
    } else {
        let from = Passphrase::find(args.secret.passphrase_file.as_ref(), settings)?;
        file.create_encrypted(&new_passphrase(&from, &args.name)?)
    };
    let pair = pair.map_err(|e| keyring::failed(&e))?;
    ui.note(&format!(
        "made {}{}; keep a copy of it: nobody can make it again",
        file.path().display(),
        if args.plain {
            ", without a passphrase"
        } else {
            ""
        }
    ));
    if ui.is_json() {
        let entry = Keyring::new(settings, Passphrase::Terminal, None).entry(&args.name)?;
        ui.result_json(&Shown {
            schema: ui::SCHEMA,
            keys: vec![entry.into()],
        });
    } else {
        ui.result(&pair.public().hex());
    }
    Ok(())
}

/// A name becomes a file's.
pub(super) fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "`{}` is not a name for a key",
        name.escape_default()
    ))
    .hint("1 to 64 letters, digits, `.`, `_` and `-`"))
}

fn show(args: &KeyShowArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    let key = Keyring::new(settings, Passphrase::Terminal, None).public(&args.key)?;
    if ui.is_json() {
        ui.result_json(&serde_json::json!({
            "schema": ui::SCHEMA, "id": key.id(), "public": key.hex(), "pem": key.to_pem(),
        }));
    } else if args.pem {
        ui.result(key.to_pem().trim_end());
    } else {
        ui.result(&format!("id      {}", key.id()));
        ui.result(&format!("public  {}", key.hex()));
    }
    Ok(())
}

fn list(settings: &Settings, ui: &Ui) -> Result<()> {
    let entries = Keyring::new(settings, Passphrase::Terminal, None).entries()?;
    let keys: Vec<ShownKey> = entries.into_iter().map(ShownKey::from).collect();
    if ui.is_json() {
        ui.result_json(&Shown {
            schema: ui::SCHEMA,
            keys,
        });
        return Ok(());
    }
    for key in keys {
        let public = key.public.or(key.problem).unwrap_or_default();
        ui.result(&format!("{:<24} {:<9} {public}", key.name, key.kept));
    }
    Ok(())
}
