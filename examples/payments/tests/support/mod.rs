//! A real service process on a free loopback port, and the smallest HTTP client that can talk to it.
#![allow(dead_code)] // each test file uses its own part of this

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

/// Nothing in these tests takes this long; a hang becomes a failure.
const DEADLINE: Duration = Duration::from_secs(20);

/// A folder of its own, gone afterwards.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("payments-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new folder");
        Self(path)
    }

    pub fn log(&self) -> PathBuf {
        self.0.join("effects.ndjson")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The program. The kernel ends it with the thread that started it, so that nothing is left behind when a test is
/// killed; and after a minute, so that a program that hangs fails its test.
pub fn payments(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_payments"));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: alarm and prctl are async-signal-safe, and the closure does nothing else.
    unsafe {
        command.pre_exec(|| {
            libc::alarm(60);
            #[cfg(target_os = "linux")]
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    command
}

/// Runs the program to its end.
pub fn run(args: &[&str]) -> Output {
    payments(args).output().expect("the program runs")
}

/// A running `payments serve`.
pub struct Service {
    child: Child,
    pub address: SocketAddr,
    /// What it said when it was ready.
    pub ready_line: String,
}

impl Service {
    /// Starts it on a free port and waits until it says that it listens.
    pub fn start(log: &Path, options: &[&str]) -> Self {
        let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--log", log.to_str().expect("a UTF-8 path")];
        args.extend(options);
        Self::wait_until_ready(payments(&args))
    }

    /// The same on a disk that is full once the log has this length: the kernel then writes half a line, or none.
    pub fn start_with_file_limit(log: &Path, bytes: u64) -> Self {
        let log = log.to_str().expect("a UTF-8 path");
        let mut command = payments(&["serve", "--listen", "127.0.0.1:0", "--log", log]);
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: both calls are async-signal-safe. SIGXFSZ is ignored so that `write` returns the error.
        unsafe {
            command.pre_exec(move || {
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        Self::wait_until_ready(command)
    }

    fn wait_until_ready(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let mut ready_line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut ready_line).expect("a line");
        let address = ready_line.split("http://").nth(1).and_then(|rest| rest.split(',').next());
        let address =
            address.unwrap_or_else(|| panic!("not ready: {ready_line:?}")).parse().expect("an address");
        Self { child, address, ready_line }
    }

    /// Sends a signal and waits for the end; the exit status, None if the signal ended it.
    pub fn end_with(mut self, signal: i32) -> Option<i32> {
        // SAFETY: the child is ours and not waited for yet, so the id is still its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
        self.child.wait().expect("it ends").code()
    }

    pub fn connect(&self) -> Connection {
        let stream = TcpStream::connect_timeout(&self.address, DEADLINE).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Connection(BufReader::new(stream))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One keep-alive connection.
pub struct Connection(BufReader<TcpStream>);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of a problem, after checking that it is one.
    pub fn problem_code(&self) -> String {
        assert_eq!(self.content_type, "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        for member in ["type", "title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
        problem["code"].as_str().expect("a code").into()
    }
}

impl Connection {
    pub fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    pub fn post(&mut self, path: &str, headers: &[(String, String)], body: &[u8]) -> Answer {
        self.request("POST", path, headers, body)
    }

    pub fn deliver(&mut self, delivery: &Delivery) -> Answer {
        self.post("/payments", &delivery.headers(), &delivery.body())
    }

    pub fn switch(&mut self, switches: Value) -> Answer {
        self.post("/control", &[], switches.to_string().as_bytes())
    }

    pub fn request(&mut self, method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> Answer {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nhost: payments\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let request = [head.as_bytes(), b"\r\n", body].concat();
        self.0.get_mut().write_all(&request).expect("the request is sent");
        self.answer()
    }

    fn answer(&mut self) -> Answer {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a status line");
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status: {line:?}"));
        let (mut content_type, mut length) = (String::new(), 0);
        loop {
            line.clear();
            self.0.read_line(&mut line).expect("a header");
            match line.trim_end().split_once(": ") {
                Some(("content-type", value)) => content_type = value.into(),
                Some(("content-length", value)) => length = value.parse().expect("a length"),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("the whole body");
        Answer { status, content_type, body }
    }
}

/// A delivery as the buffer makes it; tests change what they are about.
#[derive(Clone)]
pub struct Delivery {
    pub order: Value,
    pub headers: Vec<(String, String)>,
}

impl Delivery {
    pub fn of(order_id: &str) -> Self {
        let order = json!({
            "order_id": order_id, "customer_id": "customer-17", "amount_cents": 1299, "currency": "EUR",
            "placed_at": 1_790_000_000_000_i64, "note": null, "lines": [{"sku": "SKU-1", "quantity": 2}],
        });
        let headers = [
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", order_id),
            ("ce-source", "/shop/orders"),
            ("ce-type", "shop.OrderPlaced"),
            ("ce-time", "2026-09-21T14:13:20.000Z"),
            ("ce-subject", "customer-17"),
            ("idempotency-key", &format!("/shop/orders#{order_id}")),
            ("bridge-attempt", "1"),
            ("bridge-crashes", "0"),
            ("bridge-token", "7"),
            ("bridge-origin", "orders.placed/2/41"),
        ];
        Self { order, headers: headers.map(|(name, value)| (name.into(), value.into())).into() }
    }

    /// With this field of the order.
    pub fn order(mut self, field: &str, value: Value) -> Self {
        self.order[field] = value;
        self
    }

    /// With this header instead of the usual one.
    pub fn header(self, name: &str, value: &str) -> Self {
        let mut delivery = self.without(name);
        delivery.headers.push((name.into(), value.into()));
        delivery
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(present, _)| present != name);
        self
    }

    fn headers(&self) -> Vec<(String, String)> {
        self.headers.clone()
    }

    fn body(&self) -> Vec<u8> {
        self.order.to_string().into_bytes()
    }
}

/// The whole lines of a log.
pub fn lines(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).expect("the log");
    assert!(text.is_empty() || text.ends_with('\n'), "half a line at the end of {text:?}");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// What became of each delivery, in the order of the log.
pub fn kinds(log: &Path) -> Vec<String> {
    lines(log).iter().map(|line| line["kind"].as_str().expect("a kind").into()).collect()
}
