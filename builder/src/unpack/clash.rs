//! Packages that do not go together: `Conflicts` and `Breaks` (deb-control(5)).

use std::cmp::Ordering;

use crate::debian_version;
use crate::dpkg_status::field;

/// Whether one of the packages with these control files may not be there with another.
pub(super) fn any(controls: &[&str]) -> bool {
    controls.iter().any(|control| {
        let relations = ["Conflicts", "Breaks"];
        let relations = relations.iter().filter_map(|name| field(control, name));
        let mut wanted = relations.flat_map(|relation| relation.split([',', '|']));
        wanted.any(|relation| {
            let mut others = controls.iter().filter(|other| *other != control);
            others.any(|other| is_met(relation, other))
        })
    })
}

/// Whether the package is what the relation names: itself, or what it provides.
fn is_met(relation: &str, control: &str) -> bool {
    let (name, wanted) = parts(relation);
    let own =
        field(control, "Package") == Some(name) && is_version(wanted, field(control, "Version"));
    let provided = field(control, "Provides").unwrap_or_default();
    own || provided.split(',').map(parts).any(|(provided, version)| {
        provided == name && is_version(wanted, version.map(|(_, version)| version))
    })
}

/// `NAME[:ARCHITECTURE] [(OPERATOR VERSION)]`: the name, the operator and the version.
fn parts(relation: &str) -> (&str, Option<(&str, &str)>) {
    let (name, version) = relation.split_once('(').unwrap_or((relation, ""));
    let name = name.trim();
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    let version = version.trim().trim_end_matches(')').trim();
    let digits = version.trim_start_matches(['<', '=', '>']);
    let operator = &version[..version.len() - digits.len()];
    let wanted = (!version.is_empty()).then(|| (operator, digits.trim()));
    (name, wanted)
}

fn is_version(wanted: Option<(&str, &str)>, version: Option<&str>) -> bool {
    let Some((operator, wanted)) = wanted else {
        return true;
    };
    let Some(version) = version else { return false };
    let order = debian_version::compare(version, wanted);
    match operator {
        "<<" => order == Ordering::Less,
        "<=" | "<" => order != Ordering::Greater,
        ">=" | ">" => order != Ordering::Less,
        ">>" => order == Ordering::Greater,
        _ => order == Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_clash_by_version_and_by_what_they_provide() {
        let a = |field: &str| format!("Package: a\nVersion: 1.0-1\n{field}\n");
        let b = "Package: b\nVersion: 2.0\nProvides: mail, spool (= 3)\n";
        for (field, expected) in [
            ("Conflicts: c, b", true),
            ("Breaks: b (<< 2.0)", false),
            ("Breaks: b (<< 2.0~), b:any (<= 2.0)", true),
            ("Breaks: b (>> 1.9)", true),
            ("Breaks: b (= 2.0-1)", false),
            ("Conflicts: mail", true),
            ("Conflicts: mail (<< 9)", false),
            ("Conflicts: spool (<< 4)", true),
            ("Conflicts: spool (<< 3)", false),
            ("Depends: b (<< 1)", false),
            // Only others count.
            ("Provides: x\nConflicts: x, a", false),
        ] {
            assert_eq!(any(&[&a(field), b]), expected, "{field}");
            assert_eq!(any(&[b, &a(field)]), expected, "{field}");
        }
    }
}
