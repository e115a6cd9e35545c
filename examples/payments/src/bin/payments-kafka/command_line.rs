//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub const HELP: &str = "\
payments-kafka: the shop's wire contract over a real Kafka

usage: payments-kafka consume --brokers LIST --topic T [--topic T …] --schemas DIR --max N --timeout-s S [--group G]
       payments-kafka produce-golden --brokers LIST --topic T --schemas DIR
       payments-kafka golden --schemas DIR
       payments-kafka conformance
       payments-kafka registry-produce --brokers LIST --topic T --registry URL --schemas DIR --subject S
       payments-kafka registry-consume --brokers LIST --topic T --registry URL --max N --timeout-s S

consume         one JSON object a record on stdout, from the beginning; with --group, from the group's offsets, which
                are committed at the end. The topics must exist.
produce-golden  writes the record of each golden vector, its value encoded here
golden          compares this implementation with each golden vector; needs no Kafka
conformance     answers the questions of `broker-bridge schemas conformance` on stdin; needs no Kafka
registry-…      with ids and schemas from a schema registry: writes the golden vectors of a contract; prints values

exit status: 0 done · 1 failed, or a difference was found · 2 usage · 3 fewer than --max records before --timeout-s";

pub enum Command {
    Help,
    Consume(ConsumeOptions),
    ProduceGolden(ProduceOptions),
    Golden { schemas: PathBuf },
    Conformance,
    RegistryProduce(RegistryProduceOptions),
    RegistryConsume(RegistryConsumeOptions),
}

pub struct ConsumeOptions {
    pub brokers: String,
    pub topics: Vec<String>,
    pub schemas: PathBuf,
    pub max: usize,
    pub timeout: Duration,
    pub group: Option<String>,
}

pub struct RegistryProduceOptions {
    pub brokers: String,
    pub topic: String,
    pub registry: String,
    pub schemas: PathBuf,
    pub subject: String,
}

pub struct RegistryConsumeOptions {
    pub brokers: String,
    pub topic: String,
    pub registry: String,
    pub max: usize,
    pub timeout: Duration,
}

pub struct ProduceOptions {
    pub brokers: String,
    pub topic: String,
    pub schemas: PathBuf,
}

/// Reads the arguments after the program's name; an error is one line for stderr.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut args = args.into_iter();
    let command = args.next().ok_or("no command given; try: payments-kafka --help")?;
    let allowed: &[&str] = match command.as_str() {
        "consume" => &["--brokers", "--topic", "--schemas", "--max", "--timeout-s", "--group"],
        "produce-golden" => &["--brokers", "--topic", "--schemas"],
        "golden" => &["--schemas"],
        "conformance" => &[],
        "registry-produce" => &["--brokers", "--topic", "--registry", "--schemas", "--subject"],
        "registry-consume" => &["--brokers", "--topic", "--registry", "--max", "--timeout-s"],
        "--help" | "-h" | "help" => return Ok(Command::Help),
        _ => return Err(format!("unknown command {command:?}; try: payments-kafka --help")),
    };
    let Some(given) = Given::collect(args, allowed)? else { return Ok(Command::Help) };
    Ok(match command.as_str() {
        "consume" => Command::Consume(ConsumeOptions {
            brokers: given.one("--brokers")?,
            topics: given.at_least_one("--topic")?,
            schemas: given.one("--schemas")?,
            max: given.one("--max")?,
            timeout: Duration::from_secs(given.one("--timeout-s")?),
            group: given.all("--group").last().cloned(),
        }),
        "produce-golden" => Command::ProduceGolden(ProduceOptions {
            brokers: given.one("--brokers")?,
            topic: given.one("--topic")?,
            schemas: given.one("--schemas")?,
        }),
        "registry-produce" => Command::RegistryProduce(RegistryProduceOptions {
            brokers: given.one("--brokers")?,
            topic: given.one("--topic")?,
            registry: given.one("--registry")?,
            schemas: given.one("--schemas")?,
            subject: given.one("--subject")?,
        }),
        "registry-consume" => Command::RegistryConsume(RegistryConsumeOptions {
            brokers: given.one("--brokers")?,
            topic: given.one("--topic")?,
            registry: given.one("--registry")?,
            max: given.one("--max")?,
            timeout: Duration::from_secs(given.one("--timeout-s")?),
        }),
        "conformance" => Command::Conformance,
        _ => Command::Golden { schemas: given.one("--schemas")? },
    })
}

/// Options and their values, in the order given.
struct Given(Vec<(String, String)>);

impl Given {
    /// None: help is asked for.
    fn collect(mut args: impl Iterator<Item = String>, allowed: &[&str]) -> Result<Option<Self>, String> {
        let mut given = Vec::new();
        while let Some(option) = args.next() {
            if option == "--help" || option == "-h" {
                return Ok(None);
            }
            if !allowed.contains(&option.as_str()) {
                return Err(format!("unknown option {option:?}; try: payments-kafka --help"));
            }
            let value = args.next().ok_or_else(|| format!("{option} needs a value"))?;
            given.push((option, value));
        }
        Ok(Some(Self(given)))
    }

    fn all(&self, option: &str) -> Vec<String> {
        self.0.iter().filter(|(name, _)| name == option).map(|(_, value)| value.clone()).collect()
    }

    fn at_least_one(&self, option: &str) -> Result<Vec<String>, String> {
        let all = self.all(option);
        if all.is_empty() { Err(format!("{option} is missing; try: payments-kafka --help")) } else { Ok(all) }
    }

    fn one<T: FromStr>(&self, option: &str) -> Result<T, String> {
        let all = self.at_least_one(option)?;
        let last = all.last().expect("at least one");
        last.parse().map_err(|_| format!("{option} {last:?} is not valid"))
    }
}
