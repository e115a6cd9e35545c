//! `golden`: this implementation against each vector, a line each.

use std::path::Path;

use shop_wire::contracts::Contracts;
use shop_wire::golden;

use crate::Failure;

pub fn run(schemas: &Path) -> Result<(), Failure> {
    let contracts = Contracts::open(schemas)?;
    let mut wrong = 0;
    for vector in golden::load(schemas)? {
        let differences = vector.differences(&contracts);
        match differences.is_empty() {
            true => println!("ok   {}", vector.name),
            false => println!("DIFF {}: {}", vector.name, differences.join("; ")),
        }
        wrong += usize::from(!differences.is_empty());
    }
    match wrong {
        0 => Ok(()),
        _ => Err(Failure::new(format!("{wrong} golden vectors differ"))),
    }
}
