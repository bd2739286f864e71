//! What cargo built becomes a list of tests, and the list is worked off side by side.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::Value;

use crate::Options;
use crate::report::{Outcome, Report};
use crate::sandbox::Scratch;

/// A test program as cargo describes it.
struct Program {
    /// `CRATE/TARGET`, such as `store/lib` or `verify/integration`.
    name: String,
    executable: PathBuf,
    /// The crate's directory, in which cargo runs its tests.
    directory: PathBuf,
}

/// One test of one program.
pub(crate) struct Test {
    /// `CRATE/TARGET::MODULE::NAME`.
    pub(crate) id: String,
    program: usize,
    name: String,
    /// Seconds that it took the last time, or is expected to take.
    cost: f64,
}

/// Tests that are expected to take long before any run has said so: those begin first.
const LONG: [(&str, f64); 14] = [
    ("::soak::", 1000.0),
    ("e2e::vm", 400.0),
    ("e2e::packages", 200.0),
    ("e2e::same_bytes", 150.0),
    ("e2e::rebuild", 120.0),
    ("e2e::shared", 120.0),
    ("e2e::promotion::from_a_build", 120.0),
    ("e2e::hermetic::killed", 100.0),
    ("e2e::archives", 60.0),
    ("e2e::python", 60.0),
    ("e2e::", 30.0),
    ("verify/integration::", 10.0),
    ("fuzz/", 8.0),
    ("/integration::", 2.0),
];

/// What `--quick` leaves out: what builds images or boots machines, and tests that start servers,
/// put load on programs or kill them at many moments.
const NOT_QUICK: [&str; 16] = [
    "tests/",
    "fuzz/",
    "::bucket::",
    "::buckets::",
    "::copying::",
    "::crash::",
    "::faults::",
    "::full::",
    "::handover::",
    "::killed::",
    "integration::needs::",
    "integration::processes::",
    "::service::",
    "integration::sessions::",
    "integration::timers::",
    "::web::",
];

/// The bound against hanging: far above what any test takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(45 * 60);
/// The same for the soak tier, whose tests take hours.
const SOAK_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs all tests that are wanted; whether none failed.
pub(crate) fn run(options: &Options) -> io::Result<bool> {
    let mut report = Report::new(&options.phase);
    let messages = fs::read_to_string(&options.messages)?;
    let programs = programs(&messages);
    let target = target_directory()?;
    let times_file = target.join("tests/seconds.json");
    let times = known_times(&times_file);
    let mut tests = Vec::new();
    for (index, program) in programs.iter().enumerate() {
        list(program, index, &times, &mut tests)?;
    }
    tests.retain(|test| wanted(test, &options.names));
    if options.quick {
        tests.retain(|test| !NOT_QUICK.iter().any(|part| test.id.contains(part)));
    }
    if tests.is_empty() {
        return Err(io::Error::other(format!(
            "no test has a name with {}",
            options.names.join(" or ")
        )));
    }
    tests.sort_by(|a, b| b.cost.total_cmp(&a.cost));

    let jobs = options
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(3, |count| 3 * count.get()));
    let scratch = Scratch::new()?;
    println!("{} tests, {jobs} at a time", tests.len());
    let begun = Instant::now();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = run_test(test, &programs, &scratch);
                    let mut results = lock(&results);
                    results.push(outcome);
                    let outcome = results.last().expect("it was just added");
                    outcome.announce(results.len(), tests.len());
                }
            });
        }
    });
    report.phase("tests", begun.elapsed());
    report.outcomes = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    remember(&times_file, times, &report.outcomes)?;
    Ok(report.print())
}

/// The programs in cargo's messages, but for benchmarks.
fn programs(messages: &str) -> Vec<Program> {
    let parsed = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let programs = parsed.filter_map(|message| {
        let text = |path: &str| message.pointer(path).and_then(Value::as_str);
        let is_test = message["profile"]["test"] == true;
        let kind = text("/target/kind/0")?;
        if text("/reason")? != "compiler-artifact" || !is_test || kind == "bench" {
            return None;
        }
        let directory = Path::new(text("/manifest_path")?).parent()?.to_owned();
        let package = directory.file_name()?.to_str()?.to_owned();
        let target = match kind {
            "lib" => "lib",
            _ => text("/target/name")?,
        };
        Some(Program {
            name: format!("{package}/{target}"),
            executable: PathBuf::from(text("/executable")?),
            directory,
        })
    });
    programs.collect()
}

/// Adds the tests of a program.
fn list(
    program: &Program,
    index: usize,
    times: &BTreeMap<String, f64>,
    tests: &mut Vec<Test>,
) -> io::Result<()> {
    let listed = Command::new(&program.executable)
        .current_dir(&program.directory)
        .args(["--list", "--format", "terse"])
        .output()?;
    if !listed.status.success() {
        let said = String::from_utf8_lossy(&listed.stderr).into_owned();
        return Err(io::Error::other(format!("{}: {said}", program.name)));
    }
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    for name in text.lines().filter_map(|line| line.strip_suffix(": test")) {
        let id = format!("{}::{name}", program.name);
        let guess = LONG.iter().find(|(part, _)| id.contains(part));
        let cost = times.get(&id).copied();
        tests.push(Test {
            cost: cost.unwrap_or_else(|| guess.map_or(0.1, |(_, seconds)| *seconds)),
            id,
            program: index,
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// Tests in modules of the name `soak` take hours: they run in that tier, or when a name says so.
fn wanted(test: &Test, names: &[String]) -> bool {
    let soak = std::env::var_os("IMGBUILD_SOAK").is_some();
    let now = |name: &str| soak || name.contains("soak") || !test.id.contains("::soak::");
    match names {
        [] => now(""),
        names => names
            .iter()
            .any(|name| test.id.contains(name.as_str()) && now(name)),
    }
}

fn run_test(test: &Test, programs: &[Program], scratch: &Scratch) -> Outcome {
    let program = &programs[test.program];
    let log = std::env::temp_dir().join(format!(
        "imgbuild-test-{}-{}.log",
        std::process::id(),
        test.id.replace(['/', ':'], "-")
    ));
    let begun = Instant::now();
    let run = || -> io::Result<Ended> {
        let mut command = scratch.command()?;
        command
            .arg(&program.executable)
            .args(["--exact", &test.name, "--nocapture", "--test-threads=1"])
            .current_dir(&program.directory)
            .stdin(Stdio::null());
        for program in programs {
            let name = program.name.replace(['/', '-'], "_");
            command.env(format!("TEST_PROGRAM_{name}"), &program.executable);
        }
        let output = File::create(&log)?;
        command.stdout(output.try_clone()?).stderr(output);
        let soak = std::env::var_os("IMGBUILD_SOAK").is_some();
        let patience = if soak { SOAK_PATIENCE } else { PATIENCE };
        wait(&mut command.spawn()?, patience)
    };
    let ended = run();
    let passed = matches!(&ended, Ok(Ended { status: Some(status), .. }) if status.success());
    let mut output = String::new();
    if !passed {
        let bytes = fs::read(&log).unwrap_or_default();
        output = String::from_utf8_lossy(&bytes).into_owned();
        match &ended {
            Ok(Ended { status: None, .. }) => output.push_str("\nit hung and was ended\n"),
            Err(error) => {
                output.push_str("\nit could not be run: ");
                output.push_str(&error.to_string());
            }
            Ok(_) => {}
        }
    }
    let _ = fs::remove_file(&log);
    Outcome {
        id: test.id.clone(),
        seconds: begun.elapsed().as_secs_f64(),
        processor_seconds: ended.map_or(0.0, |ended| ended.processor_seconds),
        passed,
        output,
    }
}

/// How a process ended.
struct Ended {
    /// None if it had to be killed.
    status: Option<ExitStatus>,
    /// What it and those that it waited for took of a processor.
    processor_seconds: f64,
}

/// Waits for the end of a process.
fn wait(child: &mut Child, patience: Duration) -> io::Result<Ended> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    let pid = Pid::from_child(child);
    // As long as it was not waited for, the kernel says what it took.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let mut hangs = false;
    while waitid(WaitId::Pid(pid), look)?.is_none() {
        if Instant::now() > deadline && !hangs {
            hangs = true;
            child.kill()?;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    let processor_seconds = processor_seconds(pid);
    let status = child.wait()?;
    Ok(Ended {
        status: (!hangs).then_some(status),
        processor_seconds,
    })
}

/// Ticks of a second as Linux tells them to programs, on every architecture of Debian (`USER_HZ`).
const TICKS: f64 = 100.0;

/// `utime` to `cstime` of `proc_pid_stat(5)`, in seconds.
fn processor_seconds(pid: Pid) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let stat = stat.unwrap_or_default();
    // What comes after the name begins with field 3.
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let ticks = fields
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where cargo builds: this program lies in `TARGET/PROFILE`.
fn target_directory() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent);
    Ok(target.unwrap_or(Path::new("target")).to_owned())
}

/// Seconds by test, from earlier runs.
fn known_times(file: &Path) -> BTreeMap<String, f64> {
    let text = fs::read(file).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn remember(file: &Path, mut times: BTreeMap<String, f64>, outcomes: &[Outcome]) -> io::Result<()> {
    for outcome in outcomes.iter().filter(|outcome| outcome.passed) {
        times.insert(outcome.id.clone(), outcome.seconds);
    }
    fs::create_dir_all(file.parent().unwrap_or(file))?;
    fs::write(file, serde_json::to_vec_pretty(&times)?)
}
