//! Crash, restart, orderly stop, and the ways a start can fail.

mod support;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::TcpListener;

use serde_json::json;
use support::{Delivery, Folder, Service, kinds, lines, run};

#[test]
fn the_keys_survive_sigkill_and_a_half_written_line_is_cut_off_and_said() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &[]);
    let mut connection = service.connect();
    let first = connection.deliver(&Delivery::of("o-1"));
    connection
        .deliver(&Delivery::of("o-2").order("note", json!("card-declined")).header("bridge-token", "9"));
    assert_eq!(service.end_with(libc::SIGKILL), None);
    OpenOptions::new().append(true).open(folder.log()).unwrap().write_all(b"{\"seq\":3,\"ki").unwrap();

    let service = Service::start(&folder.log(), &[]);
    assert!(service.ready_line.contains("last line of 12 bytes was cut off"), "{}", service.ready_line);
    let mut connection = service.connect();
    assert_eq!(connection.deliver(&Delivery::of("o-1")).body, first.body);
    assert_eq!(connection.deliver(&Delivery::of("o-2").header("bridge-token", "8")).status, 409);
    assert_eq!(connection.deliver(&Delivery::of("o-3")).json()["sequence"], 5);
    assert_eq!(kinds(&folder.log()), ["applied", "refused", "repeat", "fenced", "applied"]);
    let seqs: Vec<_> = lines(&folder.log()).iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
}

#[test]
fn a_request_in_flight_is_answered_before_an_orderly_stop() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let folder = Folder::new();
        let service = Service::start(&folder.log(), &[]);
        service.connect().switch(json!({"latency_ms": 600}));
        let (mut idle, mut busy) = (service.connect(), service.connect());
        assert_eq!(idle.get("/health").status, 200);
        let in_flight = std::thread::spawn(move || busy.deliver(&Delivery::of("o-1")));
        // The effect is made half way through the latency: from then on the request is certainly in flight.
        while lines(&folder.log()).is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(service.end_with(signal), Some(0));
        assert_eq!(in_flight.join().unwrap().status, 200);
    }
}

#[test]
fn a_start_that_cannot_work_says_why_in_one_line() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let holder = Service::start(&folder.log(), &[]);
    holder.connect().deliver(&Delivery::of("o-1"));
    let damaged = Folder::new();
    fs::write(damaged.log(), "not an entry\n").unwrap();
    let log = folder.log().display().to_string();

    for (args, status, said) in [
        (vec!["--listen", &taken, "--log", "/dev/full"], 2, "taken by another process"),
        (vec!["--listen", "127.0.0.1:0", "--log", "/nowhere/effects.ndjson"], 1, "/nowhere/effects.ndjson"),
        (vec!["--listen", "127.0.0.1:0", "--log", &log], 1, "in use by another process"),
        (
            vec!["--listen", "127.0.0.1:0", "--log", damaged.log().to_str().unwrap()],
            1,
            "line 1 is not an entry",
        ),
        (vec!["--listen", "127.0.0.1:0", "--log", "/dev/full"], 1, "not a regular file"),
        (vec!["--log", &log], 2, "--listen is missing"),
    ] {
        let output = run(&[&["serve"], &args[..]].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{args:?}: {stderr}");
        assert!(stderr.contains(said) && stderr.trim_end().lines().count() == 1, "{args:?}: {stderr:?}");
    }
    assert_eq!(lines(&folder.log()).len(), 1, "the log in use was left alone");
}

#[test]
fn a_full_disk_is_an_error_and_half_a_line_is_taken_back() {
    let folder = Folder::new();
    let service = Service::start_with_file_limit(&folder.log(), 700);
    let mut connection = service.connect();
    let mut answers = Vec::new();
    for number in 1..=4 {
        answers.push(connection.deliver(&Delivery::of(&format!("o-{number}"))));
    }
    let (paid, failed) = (&answers[..2], &answers[2..]);
    assert!(paid.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert!(failed.iter().all(|answer| answer.status == 503 && answer.problem_code() == "log_failed"));
    assert_eq!(connection.get("/health").json()["applied"], 2);
    assert_eq!(kinds(&folder.log()), ["applied", "applied"]);
}

#[test]
fn help_and_version_are_for_stdout() {
    assert!(String::from_utf8(run(&["--help"]).stdout).unwrap().contains("payments serve"));
    assert!(String::from_utf8(run(&["--version"]).stdout).unwrap().starts_with("payments "));
}
