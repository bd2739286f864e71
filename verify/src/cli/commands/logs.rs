//! `imgnode logs`: what the processes of a system wrote.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::process::ExitCode;

use ::verify::error::{Context, Result};
use ::verify::node::Node;
use ::verify::system::SystemName;

use crate::cli::ui::Ui;

pub(crate) fn run(
    node: &Node<'_>,
    ui: &Ui,
    system: &SystemName,
    lines: Option<usize>,
) -> Result<ExitCode> {
    let path = node.state.log_file(system);
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            node.state.installed(system)?;
            ui.note(&format!("{system} has written nothing yet"));
            return Ok(ExitCode::SUCCESS);
        }
        file => file.context(|| format!("cannot open {}", path.display()))?,
    };
    match lines {
        None => copy(file, ui).context(|| format!("cannot read {}", path.display()))?,
        Some(count) => {
            tail(file, count, ui).context(|| format!("cannot read {}", path.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn copy(mut file: File, ui: &Ui) -> std::io::Result<()> {
    let mut block = vec![0; 64 << 10];
    loop {
        let count = file.read(&mut block)?;
        if count == 0 || !ui.bytes(&block[..count]) {
            return Ok(());
        }
    }
}

fn tail(file: File, count: usize, ui: &Ui) -> std::io::Result<()> {
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
