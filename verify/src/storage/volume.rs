//! Logical volumes: what is there, whose it is, making and removing.
//!
//! A volume of ours has three tags, set by the command that creates it, so that there is no moment
//! at which it exists without them:
//!
//! ```text
//! imgnode                    some imgnode made it
//! imgnode.system=NAME        for this system
//! imgnode.state=HEX          of the node with this state directory (blake3 of its path, 16 digits)
//! imgnode.staging            it is not finished; taken away when it becomes a generation
//! ```

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, unlinkat};
use rustix::io::Errno;
use serde::Deserialize;
use store::digest::Blake3;

use super::driver::SystemContext;
use super::mount::{self, FileSystem};
use crate::error::{Context, Error, Result};
use crate::host::commands::HostCommand;
use crate::tree::open::OpenTree;

const STAGING: &str = "imgnode.staging";
/// How long a command may take: LVM and mkfs wait for udev and for disks.
const TIMEOUT: Duration = Duration::from_secs(300);
/// How long a volume may stay in use after its last process: the kernel closes files in its own
/// time.
const LET_GO: Duration = Duration::from_secs(10);

/// A size as LVM writes it: a number and M, G or T, powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    number: u64,
    unit: char,
}

impl Size {
    /// The size in bytes.
    pub(super) fn bytes(self) -> u64 {
        self.number << shift(self.unit)
    }
}

fn shift(unit: char) -> u32 {
    match unit {
        'T' => 40,
        'G' => 30,
        _ => 20,
    }
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::usage(format!("`{}` is no size of a volume", text.escape_debug()))
                .hint("a whole number and M, G or T, as in 10G")
        };
        let unit = text.chars().last().ok_or_else(wrong)?.to_ascii_uppercase();
        let digits = text.get(..text.len() - 1).ok_or_else(wrong)?;
        if !"MGT".contains(unit) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        // More than an exabyte is a typing mistake.
        if number == 0 || number > (1 << 60) >> shift(unit) {
            return Err(wrong());
        }
        Ok(Self { number, unit })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.number, self.unit)
    }
}

/// Refuses a further part of a target that has this form.
pub(super) fn no_more(part: Option<&str>, form: &str) -> Result<()> {
    let Some(more) = part else { return Ok(()) };
    let text = format!("`{}` is too much for a target", more.escape_debug());
    Err(Error::usage(text).hint(form))
}

/// Splits `A/B`, both names of LVM (lvm(8), "Valid names").
pub(super) fn names(text: &str) -> Result<(String, String)> {
    let good = |name: &str| {
        !name.is_empty()
            && name.len() <= 100
            && !name.starts_with('-')
            && !matches!(name, "." | "..")
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+_.-".contains(&byte))
    };
    match text.split_once('/') {
        Some((group, volume)) if good(group) && good(volume) => {
            Ok((group.to_owned(), volume.to_owned()))
        }
        _ => Err(Error::usage(format!(
            "`{}` is not VG/LV, a volume group and a volume",
            text.escape_debug()
        ))
        .hint("as in lvm:vg0/web:10G; `vgs` lists the volume groups")),
    }
}

/// A volume, as LVM lists it.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    pub(super) name: String,
    tags: Vec<String>,
    size: u64,
    /// The volume of which it is a snapshot.
    pub(super) origin: String,
    /// How full it is in hundredths of a percent, for pools and snapshots.
    used: u64,
}

impl Volume {
    fn is_ours(&self, context: &SystemContext<'_>) -> bool {
        let wanted = tags(context);
        wanted.iter().all(|tag| self.tags.contains(tag))
    }

    /// Whether it is a generation under construction.
    pub(super) fn is_staging(&self) -> bool {
        self.tags.iter().any(|tag| tag == STAGING)
    }

    /// Bytes of a pool that nothing was written to yet.
    pub(super) fn unused(&self) -> u64 {
        self.size / 10_000 * 10_000_u64.saturating_sub(self.used)
    }
}

/// Hundredths of a percent: `12.34` as 1234; LVM writes two decimals.
fn hundredths(percent: &str) -> u64 {
    let (whole, part) = percent.split_once('.').unwrap_or((percent, "0"));
    let part = format!("{part:0<2}");
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    number(whole) * 100 + part.get(..2).map_or(0, number)
}

fn tags(context: &SystemContext<'_>) -> [String; 3] {
    let state = Blake3::of(context.state.as_os_str().as_encoded_bytes()).hex();
    [
        "imgnode".to_owned(),
        format!("imgnode.system={}", context.system),
        format!("imgnode.state={}", &state[..16]),
    ]
}

/// The device of a volume.
pub(super) fn device(group: &str, name: &str) -> PathBuf {
    Path::new("/dev").join(group).join(name)
}

#[derive(Deserialize)]
struct Listing<R> {
    report: Vec<R>,
}

#[derive(Deserialize)]
struct Volumes {
    lv: Vec<Row>,
}

/// A line of LVM's report, in which every value is text.
#[derive(Deserialize)]
struct Row {
    lv_name: String,
    lv_tags: String,
    lv_size: String,
    origin: String,
    data_percent: String,
}

#[derive(Deserialize)]
struct Groups {
    vg: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    vg_free: String,
}

fn report<T: serde::de::DeserializeOwned>(
    program: &str,
    columns: &str,
    group: &str,
    context: &SystemContext<'_>,
) -> Result<T> {
    let ended = HostCommand::new(program)
        .args(["--reportformat", "json", "--units", "b", "--nosuffix", "-o"])
        .args([columns, group])
        .timeout(TIMEOUT)
        .finish(context.observer)?;
    if !ended.success() {
        let missing = ended.stderr.contains("not found");
        let error = ended.error();
        return Err(if missing {
            Error::usage(format!("there is no volume group {group}"))
                .cause(error.what())
                .hint("`vgs` lists the volume groups of this machine")
        } else {
            error
        });
    }
    serde_json::from_str(&ended.stdout)
        .context(|| format!("{program} printed something that is not its JSON report"))
}

/// The volumes of a group.
pub(super) fn list(group: &str, context: &SystemContext<'_>) -> Result<Vec<Volume>> {
    let columns = "lv_name,lv_tags,lv_size,origin,data_percent";
    let listing: Listing<Volumes> = report("lvs", columns, group, context)?;
    let rows = listing.report.into_iter().flat_map(|part| part.lv);
    let volume = |row: Row| Volume {
        name: row.lv_name,
        tags: row.lv_tags.split(',').map(str::to_owned).collect(),
        size: row.lv_size.parse().unwrap_or(0),
        origin: row.origin,
        used: hundredths(&row.data_percent),
    };
    Ok(rows.map(volume).collect())
}

/// Bytes of a group that belong to no volume.
pub(super) fn free(group: &str, context: &SystemContext<'_>) -> Result<u64> {
    let listing: Listing<Groups> = report("vgs", "vg_free", group, context)?;
    let groups = listing.report.into_iter().flat_map(|part| part.vg);
    Ok(groups
        .filter_map(|found| found.vg_free.parse::<u64>().ok())
        .sum())
}

/// The volume of that name, if it is there and ours; refuses one that is not ours.
pub(super) fn find(group: &str, name: &str, context: &SystemContext<'_>) -> Result<Option<Volume>> {
    let found = list(group, context)?
        .into_iter()
        .find(|volume| volume.name == name);
    match found {
        Some(volume) if !volume.is_ours(context) => Err(Error::refused(format!(
            "the volume {group}/{name} is not one of this system"
        ))
        .cause(if volume.tags.iter().any(|tag| tag == "imgnode") {
            format!("its tags are {}", volume.tags.join(", "))
        } else {
            "imgnode did not make it".to_owned()
        })
        .hint("choose another name in --target, or remove the volume yourself")),
        found => Ok(found),
    }
}

/// The volume of that name, if it is there and ours. One that is not ours counts as missing: for
/// whoever clears away.
pub(super) fn own(group: &str, name: &str, context: &SystemContext<'_>) -> Result<Option<Volume>> {
    let mut volumes = list(group, context)?.into_iter();
    Ok(volumes.find(|volume| volume.name == name && volume.is_ours(context)))
}

/// Refuses a name that is taken, whoever has it; our own unfinished volume does not count.
pub(super) fn refuse_taken(group: &str, name: &str, context: &SystemContext<'_>) -> Result<()> {
    match find(group, name, context)? {
        Some(volume) if !volume.is_staging() => Err(Error::failed(format!(
            "the volume {group}/{name} is there already"
        ))
        .hint("it is one of this system that its record does not name; remove it with lvremove")),
        _ => Ok(()),
    }
}

/// Runs a command of LVM.
fn lvm(words: Vec<String>, context: &SystemContext<'_>) -> Result<()> {
    let mut words = words.into_iter();
    HostCommand::new(words.next().unwrap_or_default())
        .args(words)
        .timeout(TIMEOUT)
        .run(context.observer)
        .map(|_| ())
}

/// Activates a volume that has no device yet.
pub(super) fn activate(group: &str, name: &str, context: &SystemContext<'_>) -> Result<()> {
    if device(group, name).exists() {
        return Ok(());
    }
    let words = ["lvchange", "--activate", "y", "--ignoreactivationskip"];
    let mut words: Vec<String> = words.map(str::to_owned).into();
    words.push(format!("{group}/{name}"));
    lvm(words, context)
}

/// `lvcreate` with our tags and `more` words.
pub(super) fn create(name: &str, more: &[&str], context: &SystemContext<'_>) -> Result<()> {
    let mut words: Vec<String> = ["lvcreate", "--yes", "--name", name]
        .map(str::to_owned)
        .to_vec();
    for tag in tags(context).into_iter().chain([STAGING.to_owned()]) {
        words.extend(["--addtag".to_owned(), tag]);
    }
    words.extend(more.iter().map(|word| (*word).to_owned()));
    lvm(words, context)
}

/// Formats a new volume and mounts it: an empty tree.
pub(super) fn format(
    device: &Path,
    kind: FileSystem,
    context: &SystemContext<'_>,
) -> Result<OpenTree> {
    // Forced: the volume was made a moment ago, whatever an old signature in its blocks says.
    let words: &[&str] = match kind {
        FileSystem::Xfs => &["-q", "-f"],
        FileSystem::Ext4 => &["-q", "-F", "-m", "0"],
    };
    let ended = HostCommand::new(format!("mkfs.{}", kind.name()))
        .args(words.iter().copied())
        .arg(device.to_string_lossy())
        .timeout(TIMEOUT)
        .finish(context.observer)?;
    if !ended.success() {
        return Err(ended.error());
    }
    let tree = mount::volume(device, kind, true)?;
    // ext4 begins with a directory that no image has; e2fsck makes it again when it needs it.
    match unlinkat(&tree.root, "lost+found", AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno).context(|| "cannot remove lost+found"),
    }
    let mut entries = Dir::read_from(&tree.root).context(|| "cannot list the new file system")?;
    let stray = entries.any(|entry| {
        entry.is_ok_and(|entry| !matches!(entry.file_name().to_bytes(), b"." | b".."))
    });
    if stray {
        return Err(Error::failed(format!(
            "the new file system on {} is not empty",
            device.display()
        )));
    }
    Ok(tree)
}

/// Makes a staging volume a generation: one change of LVM's metadata.
pub(super) fn publish(group: &str, name: &str, context: &SystemContext<'_>) -> Result<()> {
    let path = format!("{group}/{name}");
    match find(group, name, context)? {
        Some(volume) if volume.is_staging() => lvm(
            ["lvchange", "--deltag", STAGING, &path]
                .map(str::to_owned)
                .to_vec(),
            context,
        ),
        // Repeated after an interruption.
        Some(_) => Ok(()),
        None => Err(Error::failed(format!("the volume {path} is gone"))),
    }
}

/// Removes a volume of ours; none is no error, one with snapshots is busy.
pub(super) fn remove(group: &str, name: &str, context: &SystemContext<'_>) -> Result<()> {
    if own(group, name, context)?.is_none() {
        return Ok(());
    }
    let until = Instant::now() + LET_GO;
    let path = format!("{group}/{name}");
    loop {
        let removed = lvm(
            ["lvremove", "--yes", &path].map(str::to_owned).to_vec(),
            context,
        );
        match removed {
            Err(error) if Instant::now() < until && is_in_use(&error) => {
                thread::sleep(Duration::from_millis(200));
            }
            other => return other,
        }
    }
}

fn is_in_use(error: &Error) -> bool {
    error
        .causes()
        .iter()
        .any(|cause| cause.contains("in use") || cause.contains("open"))
}

/// The snapshots of a volume: `lvremove` would remove them with it, and sessions with them.
pub(super) fn snapshots(
    group: &str,
    name: &str,
    context: &SystemContext<'_>,
) -> Result<Vec<String>> {
    let volumes = list(group, context)?.into_iter();
    let snapshots = volumes.filter(|volume| volume.origin == name);
    Ok(snapshots.map(|volume| volume.name).collect())
}

/// Removes the snapshot that a session left: schroot's own script does not mind when it fails.
pub(super) fn remove_snapshot(
    group: &str,
    id: &str,
    context: &SystemContext<'_>,
    ours: &dyn Fn(&str) -> bool,
) -> Result<()> {
    let left = list(group, context)?;
    let Some(snapshot) = left.iter().find(|volume| volume.name == id) else {
        return Ok(());
    };
    if !ours(&snapshot.origin) {
        return Ok(());
    }
    let path = format!("{group}/{id}");
    lvm(
        ["lvremove", "--yes", &path].map(str::to_owned).to_vec(),
        context,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [("1M", 1 << 20), ("10G", 10 << 30), ("2t", 2 << 40)] {
            assert_eq!(text.parse::<Size>().unwrap().bytes(), bytes);
        }
        for text in [
            "",
            "G",
            "1",
            "1K",
            "-1G",
            "1.5G",
            "0M",
            "é",
            "1152921504606846976G",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_reports_of_lvm() {
        let text = r#"{"report":[{"lv":[{"lv_name":"web","lv_tags":"imgnode,imgnode.staging",
            "lv_size":"10737418240","origin":"","data_percent":""},{"lv_name":"pool",
            "lv_tags":"","lv_size":"1000000","origin":"","data_percent":"25.00"}]}],"log":[]}"#;
        let listing: Listing<Volumes> = serde_json::from_str(text).unwrap();
        assert_eq!(listing.report[0].lv[0].lv_name, "web");
        let pool = Volume {
            name: "pool".to_owned(),
            tags: vec![],
            size: 1_000_000,
            origin: String::new(),
            used: hundredths(&listing.report[0].lv[1].data_percent),
        };
        assert_eq!(pool.unused(), 750_000);
    }
}
