//! Packages without their compression.
//!
//! dpkg unpacks one package after the other, and spends half of that time in xz.
//! Here they are decompressed on all cores; dpkg takes `control.tar` and `data.tar`
//! as they are (deb(5)).

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::deb::{self, NAME, SIZE, header, number, wrong};
use crate::error::{Context, Result};
use crate::interrupt;

/// Writes the package at `deb` to `plain`, its members decompressed. A member
/// of another compression than xz and zstd stays what it is.
pub(super) fn write(deb: &Path, plain: &Path) -> Result<()> {
    let input = File::open(deb).context(|| format!("cannot read {}", deb.display()))?;
    let output = File::create(plain).context(|| format!("cannot write {}", plain.display()))?;
    let mut output = BufWriter::with_capacity(1 << 18, output);
    let mut input = BufReader::with_capacity(1 << 18, Interruptible(input));
    let copied = copy(&mut input, &mut output).and_then(|()| output.flush());
    copied.context(|| format!("cannot unpack {} to {}", deb.display(), plain.display()))
}

/// A file that cannot be read on once the run has been interrupted.
struct Interruptible(File);

impl Read for Interruptible {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        interrupt::check().map_err(|_| io::Error::other("interrupted"))?;
        self.0.read(buffer)
    }
}

fn copy(input: &mut impl Read, output: &mut (impl Write + Seek)) -> io::Result<()> {
    deb::begin(input)?;
    output.write_all(deb::MAGIC)?;
    while let Some(mut header) = header(input)? {
        let packed = number(&header[SIZE])?;
        let start = output.stream_position()?;
        output.write_all(&header)?;
        let name = String::from_utf8_lossy(&header[NAME]).into_owned();
        let name = name.trim_end().trim_end_matches('/');
        let mut member = input.by_ref().take(packed);
        let (name, size) = if let Some(name) = name.strip_suffix(".xz") {
            let mut decoder = xz2::read::XzDecoder::new_multi_decoder(&mut member);
            (name, io::copy(&mut decoder, output)?)
        } else if let Some(name) = name.strip_suffix(".zst") {
            let mut decoder = zstd::Decoder::new(&mut member)?;
            (name, io::copy(&mut decoder, output)?)
        } else {
            (name, io::copy(&mut member, output)?)
        };
        if member.limit() > 0 {
            return Err(wrong("a member is not as long as its header says"));
        }
        // Members begin at even places.
        if packed % 2 == 1 {
            input.read_exact(&mut [0])?;
        }
        if size % 2 == 1 {
            output.write_all(b"\n")?;
        }
        header[NAME].copy_from_slice(format!("{name:<16}").as_bytes());
        let size = format!("{size:<10}");
        if size.len() > SIZE.len() {
            return Err(wrong("a member has more than 9,999,999,999 bytes"));
        }
        header[SIZE].copy_from_slice(size.as_bytes());
        let end = output.stream_position()?;
        output.seek(SeekFrom::Start(start))?;
        output.write_all(&header)?;
        output.seek(SeekFrom::Start(end))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// A package as dpkg-deb builds it, in that compression.
    fn package(dir: &Path, compression: &str) -> std::path::PathBuf {
        let tree = dir.join(compression);
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        fs::create_dir_all(tree.join("etc")).unwrap();
        let control = "Package: a\nVersion: 1\nArchitecture: all\n\
                       Maintainer: A <a@a.example>\nDescription: a\n";
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        fs::write(tree.join("etc/a"), "a line\n".repeat(1001)).unwrap();
        let deb = dir.join(format!("{compression}.deb"));
        let built = Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Z", compression, "--build"])
            .args([&tree, &deb])
            .output();
        assert!(built.unwrap().status.success());
        deb
    }

    fn out(arguments: &[&str], deb: &Path) -> Vec<u8> {
        let out = Command::new("dpkg-deb").args(arguments).arg(deb).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{arguments:?}: {out:?}");
        out.stdout
    }

    #[test]
    fn dpkg_reads_the_same_package() {
        let dir = tempfile::tempdir().unwrap();
        for compression in ["xz", "zstd", "gzip", "none"] {
            let deb = package(dir.path(), compression);
            let plain = dir.path().join("plain.deb");
            write(&deb, &plain).unwrap();
            for what in ["--ctrl-tarfile", "--fsys-tarfile"] {
                assert!(out(&[what], &deb) == out(&[what], &plain), "{compression}");
            }
            let packed = ["xz", "zstd"].contains(&compression);
            let longer = fs::metadata(&plain).unwrap().len() > fs::metadata(&deb).unwrap().len();
            assert_eq!(longer, packed, "{compression}");
        }
    }

    #[test]
    fn a_damaged_package_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let whole = fs::read(package(dir.path(), "xz")).unwrap();
        let (deb, plain) = (dir.path().join("deb"), dir.path().join("plain"));
        for len in [0, 4, 30, 100, whole.len() / 2, whole.len() - 3] {
            fs::write(&deb, &whole[..len]).unwrap();
            let error = write(&deb, &plain).unwrap_err().to_string();
            assert!(error.contains("cannot unpack"), "{len}: {error}");
        }
    }
}
