//! Watches a download by what it writes: a server must not send next to nothing
//! for ever, nor without end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Less than this is next to nothing.
const BYTES_A_SECOND: u64 = 1024;

/// A directory into which a program downloads.
#[derive(Debug)]
pub struct Watch {
    dir: PathBuf,
    patience: Duration,
    most: u64,
    marked: Option<(Instant, u64)>,
}

impl Watch {
    /// Its files, also those one directory below, must grow by a kibibyte for
    /// each second of `patience`, and to no more than `most` bytes together.
    pub fn new(dir: &Path, patience: Duration, most: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            patience,
            most,
            marked: None,
        }
    }

    /// Looks at it now; says why the program must end.
    pub(crate) fn look(&mut self) -> Option<String> {
        self.judge(Instant::now(), size(&self.dir, 1))
    }

    fn judge(&mut self, now: Instant, size: u64) -> Option<String> {
        if size > self.most {
            return Some(format!(
                "the server sends more than the {} bytes that were to come",
                self.most
            ));
        }
        let seconds = self.patience.as_secs();
        let (since, before) = *self.marked.get_or_insert((now, size));
        // A file that is moved or tried again counts as movement.
        if size < before || size - before >= seconds * BYTES_A_SECOND {
            self.marked = Some((now, size));
        } else if now.duration_since(since) >= self.patience {
            let came = size - before;
            return Some(format!(
                "in {seconds} s only {came} bytes arrived: the server is too slow or silent"
            ));
        }
        None
    }
}

fn size(dir: &Path, below: u32) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() && below > 0 => size(&entry.path(), below - 1),
        Ok(meta) if meta.is_file() => meta.len(),
        _ => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_endlessness_are_ended() {
        let at = Instant::now();
        let after = |seconds| at + Duration::from_secs(seconds);
        let mut watch = Watch::new(Path::new("/"), Duration::from_secs(10), 50_000);
        assert_eq!(watch.judge(at, 0), None);
        assert_eq!(watch.judge(after(9), 10_000), None);
        assert_eq!(watch.judge(after(9), 10_240), None);
        // From here on a byte a second.
        assert_eq!(watch.judge(after(18), 10_249), None);
        let why = watch.judge(after(19), 10_250).unwrap();
        assert!(why.contains("in 10 s only 10 bytes"), "{why}");
        assert!(watch.judge(after(19), 50_001).unwrap().contains("50000"));
    }

    #[test]
    fn files_count_wherever_they_are() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("partial")).unwrap();
        fs::write(dir.path().join("one"), "123").unwrap();
        fs::write(dir.path().join("partial/two"), "4567").unwrap();
        assert_eq!(size(dir.path(), 1), 7);
    }
}
