//! What was typed, and what it means.
//!
//! [`LowArgs`] is the command line as clap sees it. [`HiArgs`] is what the commands work with: every
//! name parsed, every default filled in. A word that cannot mean anything ends here with exit code 2
//! and the reason.

use std::borrow::Cow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use store::StoreUrl;
use store::name::{EnvName, ImageName, NodeName};
use verify::error::{Error, Result};
use verify::install::SwitchTo;
use verify::session::sockets;
use verify::session::{Address, ExecRequest, Timeouts};
use verify::storage::Target;
use verify::system::SystemName;

use super::typed::{LowArgs, LowCommand, LowNames, LowReceipts, LowTraffic};

/// What the command line means.
#[derive(Debug)]
pub(crate) struct HiArgs {
    pub state: PathBuf,
    pub verbose: bool,
    pub quiet: bool,
    pub mode: Mode,
}

/// How `status` answers.
#[derive(Debug)]
pub(crate) struct StatusForm {
    pub(crate) json: bool,
    /// The file for metrics.
    pub(crate) prometheus: Option<PathBuf>,
    /// Whether the exit code says if all works.
    pub(crate) check: bool,
}

/// The command and its values.
#[derive(Debug)]
pub(crate) enum Mode {
    Init {
        environment: EnvName,
        repository: StoreUrl,
        root: PathBuf,
        reset: bool,
        receipts: Option<StoreUrl>,
        names: Names,
    },
    Install {
        name: ImageName,
        system: SystemName,
        target: Option<Target>,
        ahead: bool,
        json: bool,
    },
    Upgrade {
        system: SystemName,
        timeouts: Option<Timeouts>,
        again: bool,
        ahead: bool,
        json: bool,
    },
    BuildSchroot {
        tarball: PathBuf,
        system: SystemName,
        target: Target,
        json: bool,
    },
    Switch {
        system: SystemName,
        to: SwitchTo,
        timeouts: Option<Timeouts>,
        json: bool,
    },
    Gc {
        system: Option<SystemName>,
        keep: usize,
        json: bool,
    },
    Start {
        system: SystemName,
        listen: Vec<Address>,
        words: Vec<String>,
        timeouts: Timeouts,
    },
    Run {
        system: SystemName,
        listen: Vec<Address>,
        words: Vec<String>,
        timeouts: Timeouts,
    },
    Stop {
        system: SystemName,
        timeouts: Timeouts,
        force: bool,
    },
    Reload {
        system: SystemName,
        timeouts: Timeouts,
    },
    Status {
        system: Option<SystemName>,
        form: StatusForm,
    },
    Verify {
        system: SystemName,
        generation: Option<u64>,
        json: bool,
    },
    Logs {
        system: SystemName,
        lines: Option<usize>,
        follow: bool,
    },
    Exec {
        system: SystemName,
        request: ExecRequest,
    },
    Access {
        system: SystemName,
        users: Option<Vec<String>>,
        root_users: Option<Vec<String>>,
    },
    Name {
        names: Names,
        json: bool,
    },
    Receipts(ReceiptsMode),
    Uninstall {
        system: SystemName,
    },
}

/// What `receipts` is to do.
#[derive(Debug)]
pub(crate) enum ReceiptsMode {
    Set(StoreUrl, Names),
    Off,
    Key { names: Names, new: bool },
    Send,
    Show { json: bool },
}

/// What a node is called.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) name: Option<NodeName>,
    pub(crate) group: Option<NodeName>,
}

impl Names {
    /// Whether anything is to be set.
    pub(crate) fn are_given(&self) -> bool {
        self.name.is_some() || self.group.is_some()
    }

    fn from_low(low: LowNames) -> Result<Self> {
        Ok(Self {
            name: low.name.map(|text| name(&text, "a node")).transpose()?,
            group: low.group.map(|text| name(&text, "a group")).transpose()?,
        })
    }
}

/// How long a session that runs may take to hand over; `None` when it is to be left alone.
fn handover_timeouts(typed: &LowTraffic) -> Result<Option<Timeouts>> {
    let timeout = seconds(typed.timeout)?;
    let timeouts = Timeouts {
        command: timeout,
        end: timeout,
        ..Timeouts::default()
    };
    Ok((!typed.keep_session).then_some(timeouts))
}

/// Each address once, each with a port that can be found again.
fn check_addresses(addresses: &[Address]) -> Result<()> {
    if addresses.len() > sockets::MOST {
        let what = format!("a system listens on at most {} addresses", sockets::MOST);
        return Err(Error::usage(what));
    }
    for (number, address) in addresses.iter().enumerate() {
        if address.tcp().is_some_and(|tcp| tcp.port() == 0) {
            return Err(Error::usage(format!("--listen {address} names no port")));
        }
        if addresses[..number].contains(address) {
            return Err(Error::usage(format!("--listen {address} stands twice")));
        }
    }
    Ok(())
}

/// Addresses as a line of an environment file has them: none of them may be left out.
fn addresses(listen: &[String]) -> Result<Vec<Address>> {
    let given = listen.iter().map(|text| text.trim());
    let parse = |text: &str| {
        text.parse()
            .map_err(|why: String| Error::usage(why).hint("several are separated by commas"))
    };
    given.filter(|text| !text.is_empty()).map(parse).collect()
}

/// Reads the command line; the exit code when there is nothing to run.
pub(crate) fn parse() -> Result<HiArgs, ExitCode> {
    let low = LowArgs::try_parse().map_err(|error| {
        // Help and version go to stdout with 0, mistakes to stderr with 2.
        let text = error.render().to_string();
        match common::display::escape(&text) {
            // What was typed may hold what a terminal obeys.
            Cow::Owned(escaped) => eprint!("{escaped}"),
            Cow::Borrowed(_) => drop(error.print()),
        }
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })?;
    HiArgs::from_low(low).map_err(|error| super::ui::Ui::new(false, false).fail(&error))
}

impl HiArgs {
    fn from_low(low: LowArgs) -> Result<Self> {
        let state = std::path::absolute(&low.state).map_err(|error| {
            Error::usage("the state directory has no absolute path").source(&error)
        })?;
        let mode = Mode::from_low(low.command)?;
        Ok(Self {
            state,
            verbose: low.verbose,
            quiet: low.quiet,
            mode,
        })
    }
}

impl Mode {
    fn from_low(low: LowCommand) -> Result<Self> {
        Ok(match low {
            LowCommand::Init {
                env,
                repo,
                root,
                reset,
                receipts,
                names,
            } => Self::Init {
                environment: name(&env, "an environment")?,
                repository: repository(&repo)?,
                root,
                reset,
                receipts: receipts.map(|to| repository(&to)).transpose()?,
                names: Names::from_low(names)?,
            },
            LowCommand::Install {
                name: image,
                system,
                target,
                ahead,
                output,
            } => Self::Install {
                system: system.as_deref().unwrap_or(&image).parse()?,
                name: name(&image, "an image")?,
                target: target.map(|text| text.parse()).transpose()?,
                ahead,
                json: output.json,
            },
            LowCommand::Upgrade {
                system,
                again,
                ahead,
                traffic,
                output,
            } => Self::Upgrade {
                system: system.parse()?,
                timeouts: handover_timeouts(&traffic)?,
                again,
                ahead,
                json: output.json,
            },
            LowCommand::BuildSchroot {
                tarball,
                system,
                vg,
                lv,
                size,
                fstype,
                output,
            } => Self::BuildSchroot {
                tarball,
                system: system.parse()?,
                target: format!("lvm:{vg}/{lv}:{size}:{fstype}").parse()?,
                json: output.json,
            },
            LowCommand::Switch {
                system,
                generation,
                traffic,
                output,
            } => Self::Switch {
                system: system.parse()?,
                to: SwitchTo::Number(generation),
                timeouts: handover_timeouts(&traffic)?,
                json: output.json,
            },
            LowCommand::Rollback {
                system,
                traffic,
                output,
            } => Self::Switch {
                system: system.parse()?,
                to: SwitchTo::Previous,
                timeouts: handover_timeouts(&traffic)?,
                json: output.json,
            },
            LowCommand::Gc {
                system,
                keep,
                output,
            } => Self::Gc {
                system: system.map(|name| name.parse()).transpose()?,
                keep,
                json: output.json,
            },
            LowCommand::Start {
                system,
                listen,
                words,
                settle,
            } => {
                let timeouts = Timeouts {
                    settle: seconds(settle)?,
                    ..Timeouts::default()
                };
                check_addresses(&listen)?;
                Self::Start {
                    system: system.parse()?,
                    listen,
                    words,
                    timeouts,
                }
            }
            LowCommand::Run {
                system,
                listen,
                words,
                settle,
                timeout,
            } => {
                let timeout = seconds(timeout)?;
                let timeouts = Timeouts {
                    settle: seconds(settle)?,
                    command: timeout,
                    end: timeout,
                };
                let listen = addresses(&listen)?;
                check_addresses(&listen)?;
                Self::Run {
                    system: system.parse()?,
                    listen,
                    words,
                    timeouts,
                }
            }
            LowCommand::Stop {
                force,
                system,
                timeout,
            } => {
                let timeout = seconds(timeout)?;
                let timeouts = Timeouts {
                    command: timeout,
                    end: timeout,
                    ..Timeouts::default()
                };
                Self::Stop {
                    system: system.parse()?,
                    timeouts,
                    force,
                }
            }
            LowCommand::Reload { system, timeout } => {
                let timeouts = Timeouts {
                    command: seconds(timeout)?,
                    ..Timeouts::default()
                };
                Self::Reload {
                    system: system.parse()?,
                    timeouts,
                }
            }
            LowCommand::Status {
                system,
                output,
                prometheus,
                check,
            } => Self::Status {
                system: system.map(|name| name.parse()).transpose()?,
                form: StatusForm {
                    json: output.json,
                    prometheus,
                    check,
                },
            },
            LowCommand::Verify {
                system,
                generation,
                output,
            } => Self::Verify {
                system: system.parse()?,
                generation,
                json: output.json,
            },
            LowCommand::Logs {
                system,
                lines,
                follow,
            } => Self::Logs {
                system: system.parse()?,
                lines,
                follow,
            },
            LowCommand::Exec {
                system,
                user,
                fresh,
                timer,
                command,
            } => Self::Exec {
                system: system.parse()?,
                request: ExecRequest {
                    user,
                    fresh,
                    timer,
                    // A program at the terminal is to know what kind it is.
                    environment: std::env::var("TERM")
                        .map(|term| ("TERM".to_owned(), term))
                        .into_iter()
                        .collect(),
                    command,
                },
            },
            LowCommand::Access {
                system,
                users,
                root_users,
            } => Self::Access {
                system: system.parse()?,
                users,
                root_users,
            },
            LowCommand::Name { names, output } => Self::Name {
                names: Names::from_low(names)?,
                json: output.json,
            },
            LowCommand::Receipts { command } => Self::Receipts(match command {
                LowReceipts::Set { to, names } => {
                    ReceiptsMode::Set(repository(&to)?, Names::from_low(names)?)
                }
                LowReceipts::Off => ReceiptsMode::Off,
                LowReceipts::Key { names, new } => ReceiptsMode::Key {
                    names: Names::from_low(names)?,
                    new,
                },
                LowReceipts::Send => ReceiptsMode::Send,
                LowReceipts::Show { output } => ReceiptsMode::Show { json: output.json },
            }),
            LowCommand::Uninstall { system } => Self::Uninstall {
                system: system.parse()?,
            },
        })
    }
}

fn name<N: std::str::FromStr<Err: std::fmt::Display>>(text: &str, what: &str) -> Result<N> {
    text.parse().map_err(|error: N::Err| {
        Error::usage(format!("`{}` cannot name {what}", text.escape_debug()))
            .cause(error.to_string())
    })
}

/// The place of a store; what this version cannot read is refused here and not half-way.
fn repository(text: &str) -> Result<StoreUrl> {
    let place: StoreUrl = text.parse()?;
    if place.directory().is_some_and(|path| !path.is_absolute()) {
        return Err(
            Error::usage(format!("`{text}` is not an absolute path")).hint(
                "give the store as /PATH, file:///PATH, https://HOST/PATH or s3://BUCKET/PREFIX",
            ),
        );
    }
    Ok(place)
}

fn seconds(value: f64) -> Result<Duration> {
    // Longer than a day is a typing mistake, and so is a negative time.
    if (0.0..=86_400.0).contains(&value) {
        return Ok(Duration::from_secs_f64(value));
    }
    Err(Error::usage(format!(
        "{value} is not a number of seconds between 0 and 86400"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(words: &[&str]) -> Result<HiArgs> {
        let words = std::iter::once("imgnode").chain(words.iter().copied());
        HiArgs::from_low(
            LowArgs::try_parse_from(words).map_err(|error| Error::usage(error.to_string()))?,
        )
    }

    #[test]
    fn the_command_line_is_consistent() {
        LowArgs::command().debug_assert();
    }

    #[test]
    fn a_system_is_named_after_its_image_unless_told_otherwise() {
        let Mode::Install { system, .. } = parse(&["install", "web", "--target", "dir:/srv"])
            .unwrap()
            .mode
        else {
            panic!()
        };
        assert_eq!(system.as_str(), "web");
        let Mode::Install { system, .. } =
            parse(&["install", "web", "--as", "MyWeb"]).unwrap().mode
        else {
            panic!()
        };
        assert_eq!(system.as_str(), "MyWeb");
    }

    #[test]
    fn words_for_the_app_are_not_ours() {
        let Mode::Start { words, .. } = parse(&["start", "web", "--", "--state", "-v"])
            .unwrap()
            .mode
        else {
            panic!()
        };
        assert_eq!(words, ["--state", "-v"]);
    }

    #[test]
    fn every_mistake_is_a_usage_error() {
        let init =
            |repo: &'static str| ["init", "--env", "dev", "--repo", repo, "--root", "r.json"];
        let cases: [&[&str]; 8] = [
            &init("https://user:pass@store.example/?query"),
            &init("s3://b/?region=x"),
            &init("relative/path"),
            &["init", "--env", "Dev!", "--repo", "/s", "--root", "r.json"],
            &["install", "web", "--target", "lvm:vg/lv"],
            &["install", "../web"],
            &["start", "a/b"],
            &["stop", "web", "--timeout=-1"],
        ];
        for words in cases {
            assert_eq!(parse(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
        assert!(parse(&init("file:///srv/store")).is_ok());
        assert!(parse(&init("https://store.example/images")).is_ok());
        assert!(parse(&init("s3://bucket/prefix")).is_ok());
    }
}
