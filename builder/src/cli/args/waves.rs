//! The waves of `imgbuild promote`, as typed.

use clap::Args;
use store::tuf::waves::Stage;

use super::ReceiptsFrom;

/// The waves of a release.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag")]
pub struct WaveArgs {
    /// Let it reach nodes in stages: groups of nodes (`+` between several) and percentages
    #[arg(
        long = "waves",
        help_heading = "Waves",
        value_name = "STAGE",
        value_delimiter = ',',
        conflicts_with_all = ["sign", "widen", "halt", "resume"]
    )]
    pub stages: Vec<Stage>,
    /// State the rule of --if-clean: a stage lasts at least this long (30min, 2h, 3d)
    #[arg(
        long,
        help_heading = "Waves",
        value_name = "TIME",
        value_parser = minutes,
        requires = "stages"
    )]
    pub widen_after: Option<u32>,
    /// State the rule of --if-clean: so many nodes run it, 1 when left out, and none has failed
    #[arg(
        long,
        help_heading = "Waves",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..),
        requires = "stages"
    )]
    pub widen_nodes: Option<u32>,
    /// Take the newest release of NAME to its next stage
    #[arg(
        long,
        help_heading = "Waves",
        conflicts_with_all = ["sign", "from", "source", "min_seq", "halt", "resume"]
    )]
    pub widen: bool,
    /// Only where the receipts of its nodes meet the rule that was signed with it
    #[arg(long, help_heading = "Waves", requires = "widen")]
    pub if_clean: bool,
    /// Keep the newest release of NAME from everybody who does not have it
    #[arg(
        long,
        help_heading = "Waves",
        conflicts_with_all = ["sign", "from", "source", "min_seq", "resume"],
        requires = "reason"
    )]
    pub halt: bool,
    /// Why; it is public, and nodes say it
    #[arg(long, help_heading = "Waves", value_name = "TEXT", requires = "halt")]
    pub reason: Option<String>,
    /// End the halt; the stage begins anew
    #[arg(
        long,
        help_heading = "Waves",
        conflicts_with_all = ["sign", "from", "source", "min_seq"]
    )]
    pub resume: bool,
    /// Where receipts are.
    #[command(flatten)]
    pub from: ReceiptsFrom,
}

/// Minutes, typed with a unit.
fn minutes(text: &str) -> Result<u32, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "min" => Some(1),
        "h" => Some(60),
        "d" => Some(24 * 60),
        _ => None,
    };
    let number: Option<u32> = number.parse().ok();
    let minutes = number.zip(factor).and_then(|(n, by)| n.checked_mul(by));
    minutes.ok_or_else(|| "not a time such as 30min, 2h or 3d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, expected) in [("30min", 30), ("2h", 120), ("3d", 4320), ("0h", 0)] {
            assert_eq!(minutes(text), Ok(expected));
        }
        for bad in ["", "2", "h", "-1h", "2 weeks", "99999999d", "1.5h"] {
            assert!(minutes(bad).is_err(), "{bad}");
        }
    }
}
