//! `tuf-client`: the command line that TUF's public conformance suite drives.
//!
//! ```text
//! tuf-client --metadata-dir D init ROOT.json
//! tuf-client --metadata-dir D --metadata-url U refresh
//! tuf-client --metadata-dir D --metadata-url U --target-name T [--target-name T2 ...]
//!            --target-base-url B --target-dir DIR download
//! ```
//!
//! Exit code 0 or 1. What is trusted lies in D under names without versions. All of
//! it is `verify::trust::tuf`, the library that is in `imgnode`; here is only what belongs
//! to a command: arguments, the clock, and files in DIR.
//!
//! The clock is the C library's, so this binary must be linked dynamically: the
//! suite shifts the time with a library that is loaded before it.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use jiff::Timestamp;
use store::{ClientOptions, HttpUrl};
use verify::trust::tuf::{GenericClient, HttpRepository};

/// A TUF client for the conformance suite
#[derive(Parser)]
#[command(name = "tuf-client")]
struct Args {
    /// Where trusted metadata is kept
    #[arg(long, value_name = "DIR")]
    metadata_dir: PathBuf,
    /// Where the repository's metadata is
    #[arg(long, value_name = "URL")]
    metadata_url: Option<String>,
    /// A target to download; repeatable
    #[arg(long, value_name = "NAME")]
    target_name: Vec<String>,
    /// Where the repository's targets are
    #[arg(long, value_name = "URL")]
    target_base_url: Option<String>,
    /// Where downloaded targets are kept
    #[arg(long, value_name = "DIR")]
    target_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Trust a root
    Init {
        /// The root's metadata
        root: PathBuf,
    },
    /// Bring the metadata up to date
    Refresh,
    /// The same, then download the targets
    Download,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    if let Command::Init { root } = &args.command {
        GenericClient::init(&args.metadata_dir, &std::fs::read(root)?)?;
        return Ok(());
    }
    let metadata: HttpUrl = wanted(args.metadata_url.as_ref(), "--metadata-url")?.parse()?;
    let targets = args.target_base_url.as_ref().map(|url| url.parse());
    let access = ClientOptions::from_environment(&|name| std::env::var(name).ok())?;
    let repository = HttpRepository::open(&metadata, targets.transpose()?.as_ref(), &access)?;
    let mut client = GenericClient::open(&args.metadata_dir)?;
    client.refresh(&repository, Timestamp::now())?;
    if matches!(args.command, Command::Refresh) {
        return Ok(());
    }
    wanted(args.target_base_url.as_ref(), "--target-base-url")?;
    wanted(args.target_name.first(), "--target-name")?;
    let folder = wanted(args.target_dir.as_ref(), "--target-dir")?;
    for name in &args.target_name {
        let file = folder.join(file_name(name));
        let kept = std::fs::read(&file).ok();
        let known = kept.clone();
        let bytes = client.target(&repository, name, kept)?;
        if known.as_ref() != Some(&bytes) {
            replace(&file, &bytes)?;
        }
    }
    Ok(())
}

fn wanted<'a, T>(value: Option<&'a T>, flag: &str) -> Result<&'a T, String> {
    value.ok_or_else(|| format!("{flag} is missing"))
}

/// One plain file name for a target's name, whatever is in it.
fn file_name(target: &str) -> String {
    let mut out = String::new();
    for byte in target.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-.".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    // `.`, `..` and the empty name are none.
    if out.trim_matches('.').is_empty() {
        out.push('%');
    }
    out
}

/// Replaces a file as a whole.
fn replace(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, bytes)?;
    std::fs::rename(new, file)
}
