//! How bad something is: words of trackers, and scores of CVSS as words.

pub use store::audit::Severity;

/// A word of a tracker's: Debian's urgencies and what databases of OSV say.
pub(super) fn of_word(word: &str) -> Severity {
    match word.trim_end_matches('*').to_ascii_lowercase().as_str() {
        "unimportant" | "negligible" | "none" => Severity::Negligible,
        "low" => Severity::Low,
        "medium" | "moderate" => Severity::Medium,
        "high" | "important" => Severity::High,
        "critical" => Severity::Critical,
        _ => Severity::Unknown,
    }
}

/// The base score of a vector of CVSS 3.0 or 3.1, or a plain score, as a word.
pub(super) fn of_cvss(text: &str) -> Severity {
    let score = text.parse().ok().or_else(|| base_score(text));
    match score {
        Some(score) if !(0.0..=10.0).contains(&score) => Severity::Unknown,
        Some(score) if score >= 9.0 => Severity::Critical,
        Some(score) if score >= 7.0 => Severity::High,
        Some(score) if score >= 4.0 => Severity::Medium,
        Some(score) if score > 0.0 => Severity::Low,
        Some(_) => Severity::Negligible,
        None => Severity::Unknown,
    }
}

/// The base score of a vector (CVSS 3.1, 7.1). 4.0 has a table in place of a formula, which is
/// not here: its vectors have no severity of ours.
fn base_score(vector: &str) -> Option<f64> {
    let metrics = vector
        .strip_prefix("CVSS:3.1/")
        .or(vector.strip_prefix("CVSS:3.0/"))?;
    let metric = |name: &str| {
        let mut metrics = metrics.split('/').filter_map(|m| m.split_once(':'));
        metrics.find(|(known, _)| *known == name).map(|m| m.1)
    };
    let changed = match metric("S")? {
        "C" => true,
        "U" => false,
        _ => return None,
    };
    let impact_of = |name: &str| match metric(name)? {
        "H" => Some(0.56),
        "L" => Some(0.22),
        "N" => Some(0.0),
        _ => None,
    };
    let vector = match metric("AV")? {
        "N" => 0.85,
        "A" => 0.62,
        "L" => 0.55,
        "P" => 0.2,
        _ => return None,
    };
    let complexity = match metric("AC")? {
        "L" => 0.77,
        "H" => 0.44,
        _ => return None,
    };
    let privileges = match (metric("PR")?, changed) {
        ("N", _) => 0.85,
        ("L", false) => 0.62,
        ("L", true) => 0.68,
        ("H", false) => 0.27,
        ("H", true) => 0.5,
        _ => return None,
    };
    let interaction = match metric("UI")? {
        "N" => 0.85,
        "R" => 0.62,
        _ => return None,
    };
    let kept = (1.0 - impact_of("C")?) * (1.0 - impact_of("I")?) * (1.0 - impact_of("A")?);
    let sub: f64 = 1.0 - kept;
    let impact = if changed {
        7.52 * (sub - 0.029) - 3.25 * (sub - 0.02).powi(15)
    } else {
        6.42 * sub
    };
    if impact <= 0.0 {
        return Some(0.0);
    }
    let exploitability = 8.22 * vector * complexity * privileges * interaction;
    let sum = impact + exploitability;
    let sum = if changed { 1.08 * sum } else { sum };
    Some(round_up(sum.min(10.0)))
}

/// Upwards to one decimal, as the standard rounds (CVSS 3.1, appendix A).
fn round_up(score: f64) -> f64 {
    let scaled = (score * 100_000.0).round();
    if scaled % 10_000.0 == 0.0 {
        scaled / 100_000.0
    } else {
        ((scaled / 10_000.0).floor() + 1.0) / 10.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores of the examples of FIRST and of NVD.
    #[test]
    fn vectors_have_the_scores_of_the_standard() {
        for (vector, score) in [
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 7.5),
            ("CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
            ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 7.8),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0),
            ("CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N", 3.1),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0),
        ] {
            let found = base_score(vector).unwrap();
            assert!((found - score).abs() < 0.001, "{vector}: {found}");
        }
        for odd in [
            "",
            "CVSS:3.1/AV:N",
            "CVSS:4.0/AV:N/AC:L",
            "CVSS:3.1/AV:X/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
            "11",
            "NaN",
        ] {
            assert_eq!(of_cvss(odd), Severity::Unknown, "{odd}");
        }
    }

    #[test]
    fn words_of_trackers_are_severities() {
        assert_eq!(of_word("low**"), Severity::Low);
        assert_eq!(of_word("MODERATE"), Severity::Medium);
        assert_eq!(of_word("not yet assigned"), Severity::Unknown);
    }
}
