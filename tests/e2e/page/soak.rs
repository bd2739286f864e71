//! The pages in a browser: headless Chromium, which takes orders through a pipe.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tests::fixtures::scratch;

use super::html::files;
use super::{Bench, nodes};

/// Chromium, as its debugging protocol has it: JSON with a zero behind each message.
struct Browser {
    child: Child,
    orders: File,
    answers: BufReader<File>,
    number: u64,
    session: Option<String>,
    /// What it told without being asked.
    events: Vec<Value>,
    _room: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Browser {
    fn start() -> Self {
        let room = scratch();
        let script = "exec chromium --headless --no-sandbox --disable-gpu \
            --disable-quic --no-first-run --disable-background-networking \
            --disable-component-update --disable-sync --user-data-dir=\"$PWD/user\" \
            --remote-debugging-pipe about:blank 3< orders 4> answers";
        let mkfifo = Command::new("mkfifo")
            .args(["orders", "answers"])
            .current_dir(room.path())
            .status();
        assert!(mkfifo.unwrap().success());
        let child = Command::new("sh")
            .args(["-c", script])
            .current_dir(room.path())
            .env("HOME", room.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let orders = File::options()
            .write(true)
            .open(room.path().join("orders"))
            .unwrap();
        let answers = BufReader::new(File::open(room.path().join("answers")).unwrap());
        let mut browser = Self {
            child,
            orders,
            answers,
            number: 0,
            session: None,
            events: Vec::new(),
            _room: room,
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", &attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Log.enable", "Runtime.enable"] {
            browser.call(domain, &json!({}));
        }
        browser
    }

    fn read(&mut self) -> Value {
        let mut message = Vec::new();
        self.answers.read_until(0, &mut message).unwrap();
        assert!(
            message.pop().is_some(),
            "chromium ended: tests/run --soak installs it, with the Debian package `chromium`"
        );
        serde_json::from_slice(&message).unwrap()
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.number += 1;
        let mut order = json!({ "id": self.number, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            order["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&order).unwrap();
        bytes.push(0);
        self.orders.write_all(&bytes).unwrap();
        loop {
            let mut message = self.read();
            if message["id"] == self.number {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
            self.events.push(message);
        }
    }

    /// Opens a page and waits until it is there.
    fn open(&mut self, url: &str) {
        self.events.clear();
        self.call("Page.navigate", &json!({ "url": url }));
        let is_there = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.events.iter().any(is_there) {
            let event = self.read();
            self.events.push(event);
        }
    }

    /// What an expression of JavaScript comes to. The page itself may run none.
    fn ask(&mut self, expression: &str) -> Value {
        let order = json!({ "expression": expression, "returnByValue": true });
        self.call("Runtime.evaluate", &order)["result"]["value"].take()
    }

    fn press(&mut self, key: &str, code: u64) {
        for kind in ["rawKeyDown", "keyUp"] {
            let order = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code,
            });
            self.call("Input.dispatchKeyEvent", &order);
        }
    }

    /// A window of this width, in dark or light mode.
    fn window(&mut self, width: u64, mode: &str) {
        let metrics =
            json!({ "width": width, "height": 844, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let features = json!([{ "name": "prefers-color-scheme", "value": mode }]);
        self.call(
            "Emulation.setEmulatedMedia",
            &json!({ "features": features }),
        );
    }
}

/// What of a page is to be seen.
const SEEN: &str = "(() => {
    const root = document.documentElement, style = getComputedStyle(root);
    const shown = one => getComputedStyle(one).display !== 'none';
    const boxes = [...document.querySelectorAll('.box')];
    const script = document.createElement('script');
    script.textContent = 'window.ran = true';
    document.head.append(script);
    return {
        ground: style.backgroundColor, wide: root.scrollWidth, window: root.clientWidth,
        boxes: boxes.length, outside: boxes.filter(b => b.getBoundingClientRect().right > root.clientWidth).length,
        scrolling: boxes.filter(b => b.scrollWidth > b.clientWidth).length,
        maps: [...document.querySelectorAll('svg')].filter(shown).length,
        ran: window.ran === true,
    };
})()";

#[test]
fn a_browser_shows_them_on_phones_in_the_dark_and_on_paper() {
    let bench = Bench::new();
    nodes::write(&bench);
    bench.ann(&["page", "--out", "www", "--receipts", "receipts"]);
    let mut browser = Browser::start();
    for (name, path) in files(&bench.team.path("www")) {
        let url = format!("file://{}", fs::canonicalize(path).unwrap().display());
        for (width, mode, ground) in [
            (390, "light", "rgb(255, 255, 255)"),
            (1280, "light", "rgb(255, 255, 255)"),
            (390, "dark", "rgb(22, 24, 27)"),
            (1280, "dark", "rgb(22, 24, 27)"),
        ] {
            let what = format!("{name}, {width} wide, {mode}");
            browser.window(width, mode);
            browser.open(&url);
            let blocked = |event: &&Value| event["method"] == "Log.entryAdded";
            let said: Vec<&Value> = browser.events.iter().filter(blocked).collect();
            assert!(said.is_empty(), "{what}: {said:?}");
            let seen = browser.ask(SEEN);
            assert_eq!(seen["ground"], ground, "{what}: {seen}");
            assert_eq!(
                seen["wide"], seen["window"],
                "it scrolls sideways: {what}: {seen}"
            );
            assert_eq!(seen["outside"], 0, "{what}: {seen}");
            assert_eq!(seen["ran"], false, "a script ran: {what}");
            if width == 390 && name == "index.html" {
                assert!(seen["scrolling"].as_u64() > Some(0), "{what}: {seen}");
            }
            let maps = u64::from(name.starts_with("image/"));
            assert_eq!(seen["maps"], maps, "{what}: {seen}");
        }
        // The first stop of the keyboard is the way to the content.
        browser.press("Tab", 9);
        let stop = "(() => { const one = document.activeElement, at = one.getBoundingClientRect();
            return [one.className, at.left >= 0 && at.top >= 0]; })()";
        assert_eq!(browser.ask(stop), json!(["skip", true]), "{name}");
        let mut stops = Vec::new();
        for _ in 0..60 {
            browser.press("Tab", 9);
            let stop = "(() => { const style = getComputedStyle(document.activeElement);
                return [document.activeElement.tagName, style.outlineStyle, style.outlineWidth]; })()";
            stops.push(browser.ask(stop));
        }
        let seen = |stop: &&Value| stop[0] != "BODY" && (stop[1] == "none" || stop[2] == "0px");
        let unseen: Vec<_> = stops.iter().filter(seen).collect();
        assert!(unseen.is_empty(), "{name}: {unseen:?}");
        assert!(
            stops.iter().any(|stop| stop[0] == "DIV"),
            "a table cannot be scrolled: {stops:?}"
        );
        let pdf = browser.call("Page.printToPDF", &json!({}));
        // `%PDF` in base64.
        assert!(pdf["data"].as_str().unwrap().starts_with("JVBER"), "{name}");
    }
}
