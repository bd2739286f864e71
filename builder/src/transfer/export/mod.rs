//! An image as a file: for plain tar(1), for scp, for a machine without a network.
//!
//! The bytes go through in one pass: chunks are verified, the tar is hashed and
//! compared with the image's name, and what comes out of the encoder is hashed
//! again. To a file everything is written beside it first and renamed when it is
//! durable, the tarball last: where a tarball has its name, all that belongs to it
//! is there. What lies beside it is on the page `store::format::export`.

mod beside;
mod encode;
mod signatures;

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use sha2::Digest as _;
use store::export::{Export, ExportInfo};
use store::{Blake3, EnvName, Manifest, Sha256, Store};

pub use self::encode::{Encode, Format};
pub use self::signatures::{Signed, Signing, sign};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::interrupt;
use crate::release::shared_files;
use crate::settings::Settings;
use crate::stores;
use crate::stores::find;
use crate::stores::released::{self, Released};
use crate::ui::{self, Phase, Ui, Unit};

/// What is asked of an export.
pub struct ExportRequest<'a> {
    /// The image, as typed.
    pub image: &'a str,
    /// In which form.
    pub format: Format,
    /// The file; standard output when there is none.
    pub to: Option<&'a Path>,
    /// The environment whose release is exported and whose key signs.
    pub env: EnvName,
    /// Who signs.
    pub signing: Signing,
}

/// Exports an image. What was signed about it is returned when it went to a file.
pub fn export(
    request: &ExportRequest<'_>,
    settings: &Settings,
    ui: &mut Ui,
) -> Result<Option<Signed>> {
    let store = stores::open(settings)?;
    let manifest = find::image(&store, request.image)?;
    let Some(to) = request.to else {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            return Err(
                Error::usage("standard output is a terminal, and this is a tar")
                    .hint("name a file with -o FILE, or pipe it to a program"),
            );
        }
        let mut output = stdout.lock();
        write(
            &store,
            &manifest,
            request.format,
            &mut output,
            "standard output",
            ui,
        )?;
        return Ok(None);
    };
    // Nothing is compressed for minutes that could not be signed at the end.
    let output = beside::OutputFile::check(to)?;
    let signing = &request.signing;
    let mut env = signatures::environment(&store, &request.env)?;
    signatures::admit(&mut env, &signing.keyring)?;
    let released = released::released_in(&store, &env, &manifest)?;
    let there = output.statement();
    signatures::keeps_others(&there, &released, &env, request.format, &signing.keyring)?;
    let Some(keys) = signatures::open_keys(&released, &env, output.name(), None, signing, ui)?
    else {
        return Ok(None);
    };
    let mut part = output.part()?;
    let written = write(
        &store,
        &released.manifest,
        request.format,
        part.file(),
        &to.display().to_string(),
        ui,
    )?;
    let name = output.name().to_owned();
    let export = describe(name, &request.env, &released, request.format, &written);
    let mut envelope = export.envelope();
    signatures::add(&mut envelope, &keys)?;
    let _alone = shared_files::lock(&there)?;
    // Others may have signed meanwhile, this file or the one that was there.
    signatures::keeps_others(&there, &released, &env, request.format, &signing.keyring)?;
    output.merge(&mut envelope);
    output.finish(part, &export, &released.json, &envelope)?;
    Ok(Some(Signed {
        needs: signatures::needs(&env, Some(&envelope))?,
        export,
    }))
}

/// What is signed about a release as a file.
fn describe(
    file: String,
    env: &EnvName,
    released: &Released,
    format: Format,
    written: &Written,
) -> Export {
    let manifest = &released.manifest;
    Export {
        file,
        file_sha256: written.sha256,
        file_blake3: written.blake3,
        manifest_sha256: Sha256::of(&released.json),
        about: ExportInfo {
            environment: env.clone(),
            name: released.name.clone(),
            seq: released.seq,
            arch: manifest.arch.clone(),
            image: manifest.image,
            sha256: manifest.sha256,
            size: manifest.size,
            format: format.as_str().to_owned(),
            file_size: written.size,
            encoder: format.encoder(),
        },
    }
}

/// What came out of an encoder.
struct Written {
    size: u64,
    sha256: Sha256,
    blake3: Blake3,
}

fn write(
    store: &Store,
    manifest: &Manifest,
    format: Format,
    output: &mut dyn Write,
    target: &str,
    ui: &mut Ui,
) -> Result<Written> {
    let failed = || format!("cannot export {}", manifest.image);
    let image = store.image(manifest).context(failed)?;
    let hashed = Hashed {
        output: Passed {
            output,
            failed: None,
        },
        sha256: sha2::Sha256::new(),
        blake3: blake3::Hasher::new(),
    };
    let encoder = Encode::new(format, manifest.size, hashed);
    let mut shown = Shown {
        encoder: encoder.context(failed)?,
        phase: ui.phase("export"),
        done: 0,
        total: manifest.size,
    };
    let copied = image.copy_tar(&mut shown);
    interrupt::check()?;
    let Shown { encoder, phase, .. } = shown;
    // What the output says is the better reason, whoever noticed it.
    if let Err(error) = copied {
        if let Some(why) = &encoder.output().output.failed {
            return Err(unwritable(target, why));
        }
        let kind = match error.kind() {
            store::ErrorKind::Corrupt | store::ErrorKind::NotCanonical => ErrorKind::Refused,
            _ => ErrorKind::Failed,
        };
        let error = Error::new(kind, failed()).because(&error);
        return Err(error.hint("`imgbuild store fsck` says what is damaged"));
    }
    let mut hashed = encoder.finish().map_err(|e| unwritable(target, &e))?;
    hashed.flush().map_err(|e| unwritable(target, &e))?;
    let written = Written {
        size: hashed.blake3.count(),
        sha256: Sha256::finish(hashed.sha256),
        blake3: hashed.blake3.finalize().into(),
    };
    phase.finish(&format!(
        "{} as {}: {}",
        ui::size(manifest.size),
        format.as_str(),
        ui::size(written.size)
    ));
    Ok(written)
}

fn unwritable(target: &str, error: &io::Error) -> Error {
    let full = error.kind() == io::ErrorKind::StorageFull;
    let error = Error::failed(format!("cannot write to {target}")).because(error);
    if full {
        return error.hint("make room, or export to another disk");
    }
    error
}

/// Writes to the output, and remembers why that failed.
struct Passed<'o> {
    output: &'o mut dyn Write,
    failed: Option<io::Error>,
}

impl Passed<'_> {
    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.failed = Some(match error.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::from(error.kind()),
                });
            }
        })
    }
}

impl Write for Passed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.output.write(bytes);
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.output.flush();
        self.note(result)
    }
}

/// Hashes what comes out.
struct Hashed<'o> {
    output: Passed<'o>,
    sha256: sha2::Sha256,
    blake3: blake3::Hasher,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.output.write(bytes)?;
        self.sha256.update(&bytes[..len]);
        self.blake3.update(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Shows how far the tar is, and ends when the process is to end.
struct Shown<'u, 'o> {
    encoder: Encode<Hashed<'o>>,
    phase: Phase<'u>,
    done: u64,
    total: u64,
}

impl Write for Shown<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if interrupt::check().is_err() {
            // Not `Interrupted`, which means: try again.
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "interrupted"));
        }
        let len = self.encoder.write(bytes)?;
        self.done += len as u64;
        self.phase.progress(self.done, self.total, Unit::Bytes);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}
