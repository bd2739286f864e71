//! Which Debian package a file of an installed tree belongs to.
//!
//! dpkg keeps a list of paths per package in the tree itself. The lists are read only when
//! something differs, and only as a help for the operator: they are as trustworthy as the tree.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Dir, OFlags};

use super::compare::Difference;
use super::openat;

const INFO: &str = "var/lib/dpkg/info";
/// The longest list that is read; linux-headers has about 2 MB.
const LIMIT: u64 = 64 << 20;

/// Fills in the package of each difference, where dpkg's lists know it.
pub fn name_packages(root: &OwnedFd, differences: &mut [Difference]) {
    let mut wanted: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, difference) in differences.iter().enumerate() {
        for name in spellings(&difference.path) {
            wanted.entry(name).or_default().push(index);
        }
    }
    if wanted.is_empty() {
        return;
    }
    for (package, list) in lists(root) {
        for line in BufReader::new(list.take(LIMIT))
            .lines()
            .map_while(Result::ok)
        {
            for index in wanted.get(line.as_str()).into_iter().flatten() {
                differences[*index]
                    .package
                    .get_or_insert_with(|| package.clone());
            }
        }
    }
}

/// dpkg may know `/usr/bin/ls` as `/bin/ls`: the merge of /usr came after many packages.
fn spellings(path: &str) -> Vec<String> {
    let short = path.strip_prefix("/usr").filter(|rest| {
        ["/bin/", "/sbin/", "/lib"]
            .iter()
            .any(|top| rest.starts_with(top))
    });
    std::iter::once(path)
        .chain(short)
        .map(str::to_owned)
        .collect()
}

fn lists(root: &OwnedFd) -> Vec<(String, File)> {
    let Ok(info) = openat::open_directory(root, INFO.as_bytes(), OFlags::RDONLY) else {
        return Vec::new();
    };
    let mut names: Vec<String> = Dir::read_from(&info)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned))
        .collect();
    names.sort();
    names
        .into_iter()
        .filter_map(|name| {
            let package = name.strip_suffix(".list")?;
            // `libc6:amd64.list` is the package libc6.
            let package = package.split(':').next().unwrap_or(package).to_owned();
            let list = openat::open_file(info.as_fd(), name.as_bytes()).ok()?;
            Some((package, File::from(list)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn packages_by_either_spelling() {
        let directory = tempfile::tempdir().unwrap();
        let info = directory.path().join(INFO);
        fs::create_dir_all(&info).unwrap();
        fs::write(info.join("coreutils.list"), "/.\n/bin\n/bin/ls\n").unwrap();
        fs::write(
            info.join("libc6:amd64.list"),
            "/usr/lib/x86_64-linux-gnu/libc.so.6\n",
        )
        .unwrap();
        let root = File::open(directory.path()).unwrap().into();
        let different = |path: &str| Difference {
            path: path.to_owned(),
            how: vec![],
            package: None,
        };
        let mut all = [
            different("/usr/bin/ls"),
            different("/usr/lib/x86_64-linux-gnu/libc.so.6"),
            different("/srv/x"),
        ];
        name_packages(&root, &mut all);
        let packages: Vec<_> = all.iter().map(|one| one.package.as_deref()).collect();
        assert_eq!(packages, [Some("coreutils"), Some("libc6"), None]);
    }
}
