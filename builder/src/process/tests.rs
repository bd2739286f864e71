use std::io::Write;
use std::time::{Duration, Instant};

use super::text::{TAIL, plain};
use super::*;
use crate::error::Context;

#[test]
fn what_went_wrong_first_is_told_of_a_program_that_is_fed() {
    let feed = |script: &str, write: &mut dyn FnMut(&mut dyn Write) -> Result<()>| {
        Tool::new("sh").args(["-c", script]).feed(write)
    };
    let all = |input: &mut dyn Write| {
        let failed = || "cannot write".to_owned();
        (0..512).try_for_each(|_| input.write_all(&[0; 1 << 13]).context(failed))
    };
    feed("cat > /dev/null", &mut |input| all(input)).unwrap();
    let ours = feed("cat > /dev/null; exit 3", &mut |_| {
        Err(Error::failed("damaged"))
    });
    assert_eq!(ours.unwrap_err().to_string(), "damaged");
    let its = feed("echo full >&2; exit 3", &mut |input| all(input)).unwrap_err();
    assert_eq!(its.causes(), ["full"], "{its}");
    // What it did not want is not taken for read.
    let enough = feed("exit 0", &mut |input| all(input)).unwrap_err();
    assert_eq!(enough.to_string(), "cannot write");
}

#[test]
fn quoting_survives_sh() {
    for word in [
        "",
        "plain",
        "two words",
        "it's",
        "$HOME `x` \"y\"",
        "a\nb",
        "--flag=é",
    ] {
        let out = Tool::new("sh")
            .args(["-c", &format!("printf %s {}", quote(word))])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), word);
    }
}

#[test]
fn a_failure_names_the_program_and_its_last_lines() {
    let mut heard = Vec::new();
    let failure = Tool::new("sh")
        .args(["-c", "seq 1 40; echo oops >&2; exit 7"])
        .run(Output {
            log: None,
            listen: &mut |l| heard.push(l.to_owned()),
        })
        .unwrap()
        .unwrap_err();
    assert_eq!(failure.what, "sh failed with exit code 7");
    assert_eq!(failure.tail.len(), TAIL);
    assert_eq!(failure.tail.last().unwrap(), "oops");
    assert_eq!(heard.len(), 41);
}

#[test]
fn escape_sequences_do_not_reach_a_terminal() {
    assert_eq!(plain("\x1b[1;31mred\x1b[0m\tx\x07\n"), "red\tx");
    assert_eq!(plain("\x1b]0;title\x07text"), "text");
    assert_eq!(plain("10%\r20%\r\n"), "20%");
    assert_eq!(plain("cut \x1b[3"), "cut ");
}

#[test]
fn a_program_that_prints_for_ever_is_ended_at_its_time_limit() {
    let failure = Tool::new("yes")
        .timeout(Duration::from_millis(300))
        .run(Output {
            log: None,
            listen: &mut |_| {},
        })
        .unwrap()
        .unwrap_err();
    assert!(failure.what.contains("time limit"), "{}", failure.what);
}

#[test]
fn a_hanging_program_is_ended_at_its_time_limit() {
    let started = Instant::now();
    let failure = Tool::new("sh")
        .args(["-c", "echo begun; sleep 600"])
        .timeout(Duration::from_millis(300))
        .run(Output {
            log: None,
            listen: &mut |_| {},
        })
        .unwrap()
        .unwrap_err();
    assert!(failure.what.contains("time limit"), "{}", failure.what);
    assert!(started.elapsed() < Duration::from_secs(20));
}
