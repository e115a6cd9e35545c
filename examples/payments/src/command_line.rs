//! The command line: a handful of options, read by hand to keep the build small.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Exit status of a command line that makes no sense.
pub const EXIT_USAGE: u8 = 2;

/// What `--help` prints.
pub const HELP: &str = "\
payments: takes the money for an order, once per idempotency key

usage: payments serve --listen HOST:PORT --log FILE [options]

  --listen HOST:PORT   address to serve on; port 0 takes a free one and prints it
  --log FILE           effects, one JSON object a line, append-only; created if missing
  --accept-declined    take orders whose note is \"card-declined\" instead of refusing them
  --no-dedupe          apply every delivery: no idempotency keys, no fencing (to see what they are good for)
  --fsync              answer only after fdatasync: the log then survives power loss too
  --fault-seed N       seed of the errors asked for through POST /control (default 1)
  --help, --version

exit status: 0 stopped by SIGTERM or SIGINT · 1 the log cannot be used · 2 usage, or the address cannot be bound";

/// What the user asked for.
#[derive(Debug, PartialEq)]
pub enum Command {
    Help,
    Version,
    Serve(ServeOptions),
}

/// Options of `payments serve`.
#[derive(Debug, PartialEq)]
pub struct ServeOptions {
    pub listen: SocketAddr,
    pub log: PathBuf,
    pub accept_declined: bool,
    pub dedupe: bool,
    pub fsync: bool,
    pub fault_seed: u64,
}

/// Reads the arguments after the program's name; an error is one line for stderr.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut args = args.into_iter();
    match args.next().as_deref() {
        Some("serve") => parse_serve(args),
        Some("--help" | "-h" | "help") => Ok(Command::Help),
        Some("--version" | "-V") => Ok(Command::Version),
        Some(other) => Err(format!("unknown command {other:?}; try: payments --help")),
        None => Err("no command given; try: payments --help".into()),
    }
}

fn parse_serve(mut args: impl Iterator<Item = String>) -> Result<Command, String> {
    let (mut listen, mut log) = (None, None);
    let (mut accept_declined, mut dedupe, mut fsync, mut fault_seed) = (false, true, false, 1);
    while let Some(option) = args.next() {
        match option.as_str() {
            "--listen" => listen = Some(parsed(&option, args.next(), "an address such as 127.0.0.1:9100")?),
            "--log" => log = Some(parsed(&option, args.next(), "a file name")?),
            "--fault-seed" => fault_seed = parsed(&option, args.next(), "a whole number")?,
            "--accept-declined" => accept_declined = true,
            "--no-dedupe" => dedupe = false,
            "--fsync" => fsync = true,
            "--help" | "-h" => return Ok(Command::Help),
            _ => return Err(format!("unknown option {option:?}; try: payments --help")),
        }
    }
    Ok(Command::Serve(ServeOptions {
        listen: listen.ok_or("--listen is missing; try: payments --help")?,
        log: log.ok_or("--log is missing; try: payments --help")?,
        accept_declined,
        dedupe,
        fsync,
        fault_seed,
    }))
}

fn parsed<T: std::str::FromStr>(option: &str, value: Option<String>, expected: &str) -> Result<T, String> {
    match value {
        None => Err(format!("{option} needs {expected}")),
        Some(text) => text.parse().map_err(|_| format!("{option} {text:?} is not {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn defaults_are_the_safe_ones() {
        let Ok(Command::Serve(options)) = parse_line("serve --listen 127.0.0.1:0 --log a.ndjson") else {
            panic!("not parsed")
        };
        assert!(options.dedupe && !options.accept_declined && !options.fsync);
    }

    #[test]
    fn a_wrong_command_line_names_the_option() {
        for (line, named) in [
            ("serve --log a", "--listen"),
            ("serve --listen 127.0.0.1:1", "--log"),
            ("serve --listen nowhere --log a", "nowhere"),
            ("serve --listen", "--listen needs"),
            ("serve --lisen 127.0.0.1:1", "--lisen"),
            ("srve", "srve"),
        ] {
            let message = parse_line(line).expect_err(line);
            assert!(message.contains(named), "{line}: {message}");
        }
    }
}
