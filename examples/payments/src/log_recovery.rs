//! Reading the log at start: every whole line must be an entry; half a line at the end is cut off.

use std::io::{BufRead, BufReader, Read};

use crate::effect_log::Entry;

/// What was found in a log.
#[derive(Debug, Default, PartialEq)]
pub struct Recovered {
    pub entries: Vec<Entry>,
    /// Length of the whole lines.
    pub valid_bytes: u64,
    /// Length of the half line after them, which the caller cuts off.
    pub cut_bytes: u64,
}

/// Reads a log from its start. A line that is whole but wrong is an error naming it: that is damage, not a crash,
/// and going on would forget which keys were served.
pub fn read(log: impl Read) -> Result<Recovered, String> {
    let mut reader = BufReader::new(log);
    let mut found = Recovered::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).map_err(|error| format!("cannot read: {error}"))?;
        if line.last() != Some(&b'\n') {
            found.cut_bytes = length as u64;
            return Ok(found);
        }
        found.entries.push(parse(&line, found.entries.len() as u64 + 1)?);
        found.valid_bytes += length as u64;
    }
}

fn parse(line: &[u8], number: u64) -> Result<Entry, String> {
    let damaged = |what: String| format!("line {number} {what}; restore the file, or start with a new one");
    let entry: Entry =
        serde_json::from_slice(line).map_err(|error| damaged(format!("is not an entry ({error})")))?;
    if entry.seq != number {
        return Err(damaged(format!("has seq {}: lines are missing or repeated", entry.seq)));
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seq: u64) -> String {
        format!(
            r#"{{"seq":{seq},"kind":"applied","key":"k","ce_id":"o","order_id":"o","customer_id":"c","amount_cents":1,"currency":"EUR","attempt":1,"crashes":0,"token":1,"replay_id":null,"origin":"t/0/0","at_ms":1}}"#
        ) + "\n"
    }

    #[test]
    fn every_cut_of_the_last_line_leaves_the_lines_before_it() {
        let whole = line(1) + &line(2);
        let first = line(1).len();
        for end in first..whole.len() {
            let found = read(&whole.as_bytes()[..end]).expect("half a line is not damage");
            let (kept, cut) = (found.valid_bytes as usize, found.cut_bytes as usize);
            assert_eq!((found.entries.len(), kept, cut), (1, first, end - first), "cut at {end}");
        }
        assert_eq!(read(whole.as_bytes()).unwrap().entries.len(), 2);
        assert_eq!(read(&b""[..]).unwrap(), Recovered::default());
    }

    #[test]
    fn damage_before_the_end_is_refused_and_the_line_is_named() {
        let garbled = line(1) + "{\"seq\":2}\n" + &line(3);
        assert!(read(garbled.as_bytes()).unwrap_err().contains("line 2 is not an entry"));
        let gap = line(1) + &line(3);
        assert!(read(gap.as_bytes()).unwrap_err().contains("line 2 has seq 3"));
    }
}
