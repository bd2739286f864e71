//! A program on a terminal, and the keys that are typed there.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::bench::wait_for;

/// A running program whose terminal is ours; ended when dropped.
#[derive(Debug)]
pub struct Terminal {
    script: Child,
    keyboard: Option<ChildStdin>,
    screen: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    seen: usize,
}

impl Terminal {
    /// Starts a command line by script(1), which gives it a terminal; directory and environment are
    /// those of `model`.
    pub fn start(line: &str, model: &Command) -> Self {
        let mut command = Command::new("script");
        // Whoever runs the tests in the background hands down an ignored Ctrl-C.
        let line = format!("env --default-signal=INT,QUIT,TERM,HUP {line}");
        command.args(["-qec", &line, "/dev/null"]);
        if let Some(directory) = model.get_current_dir() {
            command.current_dir(directory);
        }
        for (name, value) in model.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut script = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script(1) is there");
        let keyboard = script.stdin.take();
        let mut output = script.stdout.take().expect("it is piped");
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = output.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..len]);
                lock(&shown).push_str(&text);
            }
        });
        Self {
            script,
            keyboard,
            screen,
            reader: Some(reader),
            seen: 0,
        }
    }

    /// Types these keys.
    pub fn type_keys(&mut self, keys: &str) {
        let keyboard = self.keyboard.as_mut().expect("it is open");
        keyboard.write_all(keys.as_bytes()).expect("it is read");
    }

    /// Waits until this appears after what was waited for before; whether it did before the
    /// program ended.
    #[track_caller]
    pub fn shows(&mut self, text: &str) -> bool {
        let mut found = None;
        wait_for(text, || {
            let over = self.reader.as_ref().is_none_or(JoinHandle::is_finished);
            found = lock(&self.screen)[self.seen..].find(text);
            found.is_some() || over
        });
        if let Some(at) = found {
            self.seen += at + text.len();
        }
        found.is_some()
    }

    /// Waits for its end; the exit code and all that appeared.
    pub fn end(mut self) -> (i32, String) {
        let code = self.script.wait().expect("it is our child").code();
        if let Some(reader) = self.reader.take() {
            reader.join().expect("it only reads");
        }
        (code.unwrap_or(-1), lock(&self.screen).clone())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

fn lock(screen: &Mutex<String>) -> std::sync::MutexGuard<'_, String> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}
