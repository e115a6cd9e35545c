//! `payments serve`: see [`payments::command_line::HELP`].

use std::process::ExitCode;

use payments::command_line::{self, Command};
use payments::server;

fn main() -> ExitCode {
    match command_line::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => print_line(command_line::HELP),
        Ok(Command::Version) => print_line(concat!("payments ", env!("CARGO_PKG_VERSION"))),
        Ok(Command::Serve(options)) => match server::run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => fail(&failure.to_string(), failure.exit_code()),
        },
        Err(usage) => fail(&usage, command_line::EXIT_USAGE),
    }
}

fn print_line(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}

fn fail(message: &str, exit_code: u8) -> ExitCode {
    eprintln!("payments: {message}");
    ExitCode::from(exit_code)
}
