//! Locale, time zone and users, without a dialog.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Content, Locals, PARENTS, Phase, STEP_FILES, Step};
use crate::error::Result;
use crate::process::quote;
use crate::recipe::{Recipe, System};

pub(super) fn settings(recipe: &Recipe, epoch: u64) -> Vec<Step> {
    // A base has them, until the recipe says otherwise.
    if recipe.bootstrap.base.is_some() && recipe.system == System::default() {
        return Vec::new();
    }
    let mut step = Step::new(Phase::Configure, "locale and time zone", epoch);
    let mut script = String::new();
    let system = &recipe.system;
    if !system.locales.is_empty() {
        script.push_str(
            "command -v locale-gen >/dev/null || {\n\
             echo 'locales other than C.UTF-8 need the package locales: add it to [bootstrap] include' >&2\n\
             exit 1; }\n",
        );
        for locale in &system.locales {
            // SUPPORTED maps a locale to its character set.
            let _ = writeln!(
                script,
                "grep -m1 -E -- '^'{name}'(\\.[^ ]+)? ' /usr/share/i18n/SUPPORTED >> /etc/locale.gen || {{\n\
                 echo 'the suite has no locale {raw}' >&2; exit 1; }}",
                name = quote(&locale.as_str().replace('.', "\\.")),
                raw = locale,
            );
        }
        script.push_str("locale-gen\n");
    }
    let _ = writeln!(
        script,
        "printf 'LANG=%s\\n' {} > /etc/default/locale",
        quote(system.locale.as_str())
    );
    let zone = quote(system.timezone.as_str());
    let _ = writeln!(
        script,
        "zone={zone}\n\
         if [ -e /usr/share/zoneinfo/\"$zone\" ]; then\n\
         ln -sfn /usr/share/zoneinfo/\"$zone\" /etc/localtime\n\
         elif [ \"$zone\" = Etc/UTC ]; then rm -f /etc/localtime\n\
         else echo \"the time zone $zone needs the package tzdata: add it to [bootstrap] include\" >&2; exit 1; fi\n\
         printf '%s\\n' \"$zone\" > /etc/timezone\n\
         if dpkg-query -W -f '${{Status}}' tzdata 2>/dev/null | grep -q '^install ok installed'; then\n\
         dpkg-reconfigure -f noninteractive tzdata; fi"
    );
    step.script = script;
    vec![step]
}

/// What the recipe says to apt, for apt in the image.
pub(super) fn preferences(recipe: &Recipe, epoch: u64) -> Option<Step> {
    let text = recipe.apt_preferences();
    if text.trim().is_empty() {
        return None;
    }
    let mut step = Step::new(Phase::Configure, "apt preferences", epoch);
    step.add_file("preferences", Content::Text(format!("{}\n", text.trim())));
    step.script = format!(
        "cat {STEP_FILES}/preferences > /etc/apt/preferences.d/{}\n",
        recipe.name
    );
    Some(step)
}

pub(super) fn users(recipe: &Recipe, locals: &Locals<'_>) -> Result<Option<Step>> {
    if recipe.users.is_empty() {
        return Ok(None);
    }
    let mut step = Step::new(Phase::Configure, "users", locals.lock.epoch);
    let mut script = PARENTS.to_owned();
    for user in &recipe.users {
        let name = quote(user.name.as_str());
        let home = quote(user.home().as_str());
        let skeleton = match &user.skeleton {
            None => String::new(),
            Some(path) => {
                let dir = format!("skel-{}", user.name);
                step.add_file(&dir, Content::Tree(locals.digest(path.as_str())?));
                format!("--skel {STEP_FILES}/{dir} ")
            }
        };
        let comment = user
            .comment
            .as_ref()
            .map_or(String::new(), |c| quote(c.as_str()));
        let comment = if comment.is_empty() {
            "''".to_owned()
        } else {
            comment
        };
        let groups = user
            .groups
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",");
        let groups = if groups.is_empty() {
            groups
        } else {
            format!("--groups {} ", quote(&groups))
        };
        let _ = writeln!(
            script,
            "! getent passwd {name} >/dev/null || {{\n\
             echo 'a package has made the user {raw}: leave out its [[user]], and use it as it is' >&2\n\
             exit 1; }}\n\
             getent group {gid} >/dev/null || groupadd --gid {gid} {name}\n\
             parents {home} root:root\n\
             useradd --uid {uid} --gid {gid} --shell {shell} --home-dir {home} --create-home \
             {skeleton}{groups}--comment {comment} --no-log-init {name}",
            raw = user.name,
            gid = user.gid(),
            uid = user.uid,
            shell = quote(user.shell.as_str()),
        );
    }
    step.script = script;
    Ok(Some(step))
}

/// Looks whether packages made the owners that the recipe names.
pub(super) fn owners(recipe: &Recipe, epoch: u64) -> Option<Step> {
    let files = recipe.files.iter().filter_map(|file| {
        let owner = file.owner.as_ref()?;
        Some((owner, format!("[[file]] {}", file.path)))
    });
    let downloads = recipe.downloads.iter().filter_map(|download| {
        let owner = download.owner.as_ref()?;
        Some((owner, format!("[[download]] {}", download.path)))
    });
    let virtualenvs = recipe.virtualenvs.iter();
    let virtualenvs = virtualenvs.map(|v| (&v.owner, format!("[[virtualenv]] {}", v.path)));
    let mut script = String::new();
    let mut asked = BTreeSet::new();
    for (owner, section) in downloads.chain(files).chain(virtualenvs) {
        for (database, what, name) in [
            ("passwd", "user", &owner.user),
            ("group", "group", &owner.group),
        ] {
            let own = recipe.users.iter().any(|user| user.name == *name);
            if own || name.as_str() == "root" || !asked.insert((database, name)) {
                continue;
            }
            let words = format!(
                "no package made the {what} `{name}`, which owns {section}: \
                 correct `owner`, make it with [[user]], or install the package that makes it"
            );
            let _ = writeln!(
                script,
                "getent {database} {} >/dev/null || {{ echo {} >&2; exit 1; }}",
                quote(name.as_str()),
                quote(&words),
            );
        }
    }
    if script.is_empty() {
        return None;
    }
    let mut step = Step::new(Phase::Configure, "owners", epoch);
    step.script = script;
    Some(step)
}
