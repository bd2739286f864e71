//! `imgnode logs`: what the processes of a system wrote.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use ::verify::error::{Context, Result};
use ::verify::node::Node;
use ::verify::system::SystemName;

use crate::cli::ui::Ui;

/// The pause between two looks for more.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) fn run(
    node: &Node<'_>,
    ui: &Ui,
    system: &SystemName,
    lines: Option<usize>,
    follow: bool,
) -> Result<ExitCode> {
    let path = node.state.log_file(system);
    let failed = || format!("cannot read {}", path.display());
    let mut end = 0;
    match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            node.state.installed(system)?;
            ui.note(&format!("{system} has written nothing yet"));
        }
        file => {
            let mut file = file.context(|| format!("cannot open {}", path.display()))?;
            match lines {
                None => copy(&mut file, ui).context(failed)?,
                Some(count) => tail(&mut file, count, ui).context(failed)?,
            }
            end = file.stream_position().context(failed)?;
        }
    }
    if !follow {
        return Ok(ExitCode::SUCCESS);
    }
    let mut printed = true;
    while printed && !node.cancel.load(Ordering::Relaxed) {
        thread::sleep(PAUSE);
        printed = copy_more(&path, &mut end, ui).context(failed)?;
    }
    // Only that ends it.
    Ok(ExitCode::from(130))
}

/// Prints what the log has behind `end`. One that is shorter was set aside meanwhile. Says whether
/// anybody reads it.
fn copy_more(path: &Path, end: &mut u64, ui: &Ui) -> std::io::Result<bool> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        file => file?,
    };
    let length = file.metadata()?.len();
    if length < *end {
        *end = 0;
    }
    file.seek(SeekFrom::Start(*end))?;
    let mut rest = file.take(length - *end);
    let mut block = vec![0; 64 << 10];
    loop {
        let count = rest.read(&mut block)?;
        if count == 0 {
            return Ok(true);
        }
        *end += count as u64;
        if !ui.bytes(&block[..count]) {
            return Ok(false);
        }
    }
}

fn copy(file: &mut File, ui: &Ui) -> std::io::Result<()> {
    let mut block = vec![0; 64 << 10];
    loop {
        let count = file.read(&mut block)?;
        if count == 0 || !ui.bytes(&block[..count]) {
            return Ok(());
        }
    }
}

fn tail(file: &mut File, count: usize, ui: &Ui) -> std::io::Result<()> {
    let mut kept = VecDeque::new();
    for line in BufReader::new(file).split(b'\n') {
        kept.push_back(line?);
        if kept.len() > count {
            kept.pop_front();
        }
    }
    for line in kept {
        if !ui.bytes(&[line.as_slice(), b"\n"].concat()) {
            break;
        }
    }
    Ok(())
}
