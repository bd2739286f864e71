//! `[[file]]`: files, directories and links, in the order of the recipe.

use std::fmt::Write as _;

use super::{Content, HANDED, Locals, PARENTS, Phase, Step};
use crate::error::Result;
use crate::lock::LocalKind;
use crate::process::quote;
use crate::recipe::{FileKind, Recipe};

pub(super) fn files(recipe: &Recipe, locals: &Locals<'_>) -> Result<Option<Step>> {
    if recipe.files.is_empty() {
        return Ok(None);
    }
    let mut step = Step::new(Phase::Configure, "files", locals.lock.epoch);
    let mut script = PARENTS.to_owned();
    for (index, file) in recipe.files.iter().enumerate() {
        let path = quote(file.path.as_str());
        let owner = file.owner.as_ref().map(|o| quote(&o.to_string()));
        let parents_owner = owner.as_deref().unwrap_or("root:root");
        let _ = writeln!(script, "parents {path} {parents_owner}");
        let handed = format!("file-{index}");
        let from = format!("{HANDED}/{handed}");
        let mut default_mode = "0644";
        match file.kind() {
            FileKind::Symlink(target) => {
                let _ = writeln!(script, "ln -sfn -- {} {path}", quote(target.as_str()));
                if let Some(owner) = &owner {
                    let _ = writeln!(script, "chown -h -- {owner} {path}");
                }
                continue;
            }
            FileKind::Content(text) => step.hand(&handed, Content::Text(text.to_owned())),
            FileKind::Source(source) => {
                let found = locals.find(source.as_str())?;
                if found.kind == LocalKind::Directory {
                    step.hand(&handed, Content::Tree(found.sha256));
                    copy_directory(&mut script, &from, &path, owner.as_deref());
                    if let Some(mode) = file.mode {
                        let _ = writeln!(script, "chmod -- {mode} {path}");
                    }
                    continue;
                }
                if found.kind == LocalKind::Executable {
                    default_mode = "0755";
                }
                step.hand(&handed, Content::Input(found.sha256));
            }
        }
        if file.append {
            let _ = writeln!(script, "cat {from} >> {path}");
        } else {
            // A fresh file: never through a link that lies there already.
            let _ = writeln!(script, "rm -rf -- {path}\ncat {from} > {path}");
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

fn copy_directory(script: &mut String, from: &str, path: &str, owner: Option<&str>) {
    let _ = writeln!(script, "mkdir -p -- {path}");
    let owner = owner.unwrap_or("root:root");
    // Only what is copied changes its owner, not what was there before.
    let _ = writeln!(
        script,
        "(cd {from} && find . -depth -print0 | sort -z) > /run/copied\n\
         cp -R --no-dereference --preserve=mode,links --remove-destination -- {from}/. {path}/\n\
         (cd {path} && xargs -0 -r chown -h -- {owner} < /run/copied)"
    );
}
