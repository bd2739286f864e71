//! `[[download]]` and `[[file]]`: files, directories and links, in the order of the recipe.

use std::fmt::Write as _;

use super::{Content, Locals, PARENTS, Phase, STEP_FILES, Step, parents_owner};
use crate::error::Result;
use crate::lockfile::LocalKind;
use crate::process::quote;
use crate::recipe::{FileKind, Recipe, Strip};

/// `unpack ARCHIVE DIRECTORY STRIP OWNER WORDS` fails with the words when nothing comes of it. A
/// directory that is there keeps its owner and mode; what else is in it is left alone.
const UNPACK: &str = r#"unpack() {
    into=$2
    [ ! -d "$2" ] || into=$2.unpacked
    mkdir -m 0755 -- "$into"
    (umask 022; tar --extract --file "$1" --directory "$into" --no-same-owner \
        --no-same-permissions --strip-components="$3")
    [ -n "$(ls -A -- "$into")" ] || { echo "$5" >&2; exit 1; }
    chown -Rh -- "$4" "$into"
    [ "$into" != "$2" ] || return 0
    owner=$(stat -L -c %u:%g -- "$2") mode=$(stat -L -c %a -- "$2")
    cp -a --link --remove-destination -- "$into/." "$2/"
    rm -rf -- "$into"
    chown -- "$owner" "$2"
    chmod -- "$mode" "$2"
}
"#;

/// The tree's own tar unpacks, in the sandbox: nothing in an archive leads out of it.
pub(super) fn downloads(recipe: &Recipe, epoch: u64) -> Option<Step> {
    if recipe.downloads.is_empty() {
        return None;
    }
    let mut step = Step::new(Phase::Configure, "downloads", epoch);
    let mut script = format!("{PARENTS}{UNPACK}");
    for (index, download) in recipe.downloads.iter().enumerate() {
        let path = quote(download.path.as_str());
        let parents_owner = parents_owner(recipe, download.path.as_path());
        let _ = writeln!(script, "parents {path} {parents_owner}");
        let handed = format!("download-{index}");
        let from = format!("{STEP_FILES}/{handed}");
        let owner = download.owner.as_ref();
        let owner = owner.map_or("root:root".to_owned(), |o| quote(&o.to_string()));
        if download.unpack {
            step.add_file(&handed, Content::Archive(download.digest()));
            let strip = download.strip.map_or(0, Strip::get);
            let nothing = quote(&format!(
                "nothing is left of the archive for {} without its first {strip} directories: \
                 correct `strip`",
                download.path
            ));
            let _ = writeln!(script, "unpack {from} {path} {strip} {owner} {nothing}");
        } else {
            step.add_file(&handed, Content::Input(download.digest()));
            let mode = download
                .mode
                .map_or("0644".to_owned(), |mode| mode.to_string());
            let _ = writeln!(
                script,
                "rm -f -- {path}\ncat {from} > {path}\nchown -- {owner} {path}\nchmod -- {mode} {path}"
            );
        }
    }
    step.script = script;
    Some(step)
}

pub(super) fn files(recipe: &Recipe, locals: &Locals<'_>) -> Result<Option<Step>> {
    if recipe.files.is_empty() {
        return Ok(None);
    }
    let mut step = Step::new(Phase::Configure, "files", locals.lock.epoch);
    let mut script = PARENTS.to_owned();
    for (index, file) in recipe.files.iter().enumerate() {
        let path = quote(file.path.as_str());
        let owner = file.owner.as_ref().map(|o| quote(&o.to_string()));
        let parents_owner = parents_owner(recipe, file.path.as_path());
        let _ = writeln!(script, "parents {path} {parents_owner}");
        let handed = format!("file-{index}");
        let from = format!("{STEP_FILES}/{handed}");
        let mut default_mode = "0644";
        match file.kind() {
            FileKind::Symlink(target) => {
                let target = quote(target.as_str());
                let _ = writeln!(script, "rm -f -- {path}\nln -sT -- {target} {path}");
                if let Some(owner) = &owner {
                    let _ = writeln!(script, "chown -h -- {owner} {path}");
                }
                continue;
            }
            FileKind::Content(text) => step.add_file(&handed, Content::Text(text.to_owned())),
            FileKind::Source(source) => {
                let found = locals.find(source.as_str())?;
                if found.kind == LocalKind::Directory {
                    step.add_file(&handed, Content::Tree(found.sha256));
                    copy_directory(&mut script, &from, &path, owner.as_deref());
                    if let Some(mode) = file.mode {
                        let _ = writeln!(script, "chmod -- {mode} {path}");
                    }
                    continue;
                }
                if found.kind == LocalKind::Executable {
                    default_mode = "0755";
                }
                step.add_file(&handed, Content::Input(found.sha256));
            }
        }
        if file.append {
            let _ = writeln!(script, "cat {from} >> {path}");
        } else {
            // A fresh file: never through a link that lies there already, and
            // never instead of a directory.
            let _ = writeln!(script, "rm -f -- {path}\ncat {from} > {path}");
        }
        if let Some(owner) = &owner {
            let _ = writeln!(script, "chown -- {owner} {path}");
        }
        if let Some(mode) = file.mode {
            let _ = writeln!(script, "chmod -- {mode} {path}");
        } else if !file.append {
            let _ = writeln!(script, "chmod -- {default_mode} {path}");
        }
    }
    step.script = script;
    Ok(Some(step))
}

/// What was there before keeps its owner and mode, the directory itself too.
fn copy_directory(script: &mut String, from: &str, path: &str, owner: Option<&str>) {
    let owner = owner.unwrap_or("root:root");
    let _ = writeln!(
        script,
        "[ -d {path} ] || {{ mkdir -m 0755 -- {path}; chown -- {owner} {path}; }}\n\
         mode=$(stat -L -c %a -- {path})\n\
         (cd {from} && find . -mindepth 1 -depth -print0 | sort -z) > /run/copied\n\
         cp -R --no-dereference --preserve=mode,links --remove-destination -- {from}/. {path}/\n\
         chmod -- \"$mode\" {path}\n\
         (cd {path} && xargs -0 -r chown -h -- {owner} < /run/copied)\n\
         # Another owner takes these bits away.\n\
         (cd {from} && find . -mindepth 1 ! -type l -perm /7000 -exec sh -euc '\
         to=$1; shift; for it; do chmod \"--reference=$it\" -- \"$to/$it\"; done' \
         sh {path} {{}} +)"
    );
}
