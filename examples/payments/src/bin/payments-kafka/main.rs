//! The wire contract over a real Kafka, for the interoperability tests: what other languages wrote is read here, and
//! the golden vectors are written here for them.

mod command_line;
mod conformance;
mod consume;
mod golden_check;
mod produce_golden;
mod registry;
mod topics;

use std::process::ExitCode;

use command_line::{Command, HELP};

const EXIT_USAGE: u8 = 2;

/// Why a command did not do what was asked: one line for stderr and the exit status.
pub struct Failure {
    pub message: String,
    pub exit_code: u8,
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

impl Failure {
    /// Exit status 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_code: 1 }
    }
}

fn main() -> ExitCode {
    let result = match command_line::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            println!("{HELP}");
            Ok(())
        }
        Ok(Command::Consume(options)) => consume::run(&options),
        Ok(Command::ProduceGolden(options)) => produce_golden::run(&options),
        Ok(Command::RegistryProduce(options)) => registry::produce(&options),
        Ok(Command::RegistryConsume(options)) => registry::consume(&options),
        Ok(Command::Golden { schemas }) => golden_check::run(&schemas),
        Ok(Command::Conformance) => conformance::run(),
        Err(message) => Err(Failure { message, exit_code: EXIT_USAGE }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("payments-kafka: {}", failure.message);
            ExitCode::from(failure.exit_code)
        }
    }
}
