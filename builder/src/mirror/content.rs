//! Files of a package, read without unpacking it (deb(5)).

use std::io::{self, Read};
use std::path::Path;

use crate::deb;
use crate::error::{Context, Result};

/// No package is larger, unpacked.
const MAX_PACKAGE: u64 = 16 << 30;

/// No file that is read here is larger, decompressed.
const MAX_FILE: u64 = 64 << 20;

/// What a package has at a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A file, decompressed if its name ends with `.gz`.
    File(Vec<u8>),
    /// A symbolic link to that.
    Link(String),
}

/// The first of these that the package has, in its own order. Paths are those of the tree, without
/// a slash before them.
pub(crate) fn content_of(deb: &Path, paths: &[String]) -> Result<Option<Content>> {
    let failed = || format!("cannot read the package {}", deb.display());
    let data = deb::member(deb, deb::DATA).context(failed)?;
    in_tar(data, paths).context(failed)
}

fn in_tar(data: impl Read, paths: &[String]) -> io::Result<Option<Content>> {
    for entry in tar::Archive::new(data.take(MAX_PACKAGE)).entries()? {
        let entry = entry?;
        let bytes = entry.path_bytes().into_owned();
        let path = String::from_utf8_lossy(&bytes);
        let path = path.trim_start_matches("./");
        if !paths.iter().any(|wanted| wanted == path) {
            continue;
        }
        let kind = entry.header().entry_type();
        if kind.is_symlink()
            && let Some(target) = entry.link_name_bytes()
        {
            let target = String::from_utf8_lossy(&target).into_owned();
            return Ok(Some(Content::Link(target)));
        }
        if !kind.is_file() {
            continue;
        }
        let mut text = Vec::new();
        if Path::new(path).extension() == Some("gz".as_ref()) {
            let mut decoder = flate2::read::MultiGzDecoder::new(entry).take(MAX_FILE);
            decoder.read_to_end(&mut text)?;
        } else {
            entry.take(MAX_FILE).read_to_end(&mut text)?;
        }
        return Ok(Some(Content::File(text)));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    #[test]
    fn files_are_read_whatever_the_compression() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        let doc = tree.join("usr/share/doc/a");
        fs::create_dir_all(&doc).unwrap();
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        let control = "Package: a\nVersion: 1\nArchitecture: all\n\
                       Maintainer: A <a@a.example>\nDescription: a\n";
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        fs::write(doc.join("changelog"), "a (1)\n").unwrap();
        let gzip = Command::new("gzip").arg(doc.join("changelog")).status();
        assert!(gzip.unwrap().success());
        std::os::unix::fs::symlink("changelog.gz", doc.join("link")).unwrap();
        fs::write(doc.join("plain"), "plain\n").unwrap();
        let deb = dir.path().join("a.deb");
        for compression in ["xz", "zstd", "gzip", "none"] {
            let built = Command::new("dpkg-deb")
                .args(["--root-owner-group", "-Z", compression, "--build"])
                .args([&tree, &deb])
                .output();
            assert!(built.unwrap().status.success());
            let read = |name: &str| {
                let paths = [format!("usr/share/doc/a/{name}")];
                content_of(&deb, &paths).unwrap()
            };
            let file = |text: &str| Some(Content::File(text.as_bytes().to_vec()));
            assert_eq!(read("changelog.gz"), file("a (1)\n"), "{compression}");
            assert_eq!(read("plain"), file("plain\n"));
            assert_eq!(read("link"), Some(Content::Link("changelog.gz".into())));
            assert_eq!(read("changelog"), None);
        }
        let whole = fs::read(&deb).unwrap();
        for len in [0, 5, 40, 200] {
            fs::write(&deb, &whole[..len]).unwrap();
            assert!(content_of(&deb, &["x".into()]).is_err(), "{len}");
        }
    }
}
