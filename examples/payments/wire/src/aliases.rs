//! Fields that a reader knows under another name than the writer.
//!
//! `apache-avro` 0.22 does not look at the aliases of fields when it resolves a `Value`: a field that was renamed is
//! missing, or, worse, silently takes the reader's default. So fields get their new names before they are resolved.

use apache_avro::Schema;
use apache_avro::schema::{NamesRef, ResolvedSchema};
use apache_avro::types::Value;

use crate::error::WireError;

/// The value with its fields called as the reader calls them.
pub fn follow(reader: &Schema, value: Value) -> Result<Value, WireError> {
    let resolved = ResolvedSchema::new(reader).map_err(|error| WireError::contract(error.to_string()))?;
    Ok(rename(resolved.get_names(), reader, value))
}

fn rename(names: &NamesRef<'_>, reader: &Schema, value: Value) -> Value {
    match (reader, value) {
        (Schema::Ref { name }, value) => match names.get(name) {
            Some(definition) => rename(names, definition, value),
            None => value,
        },
        (Schema::Record(record), Value::Record(mut fields)) => {
            for field in &record.fields {
                let is_there = fields.iter().any(|(name, _)| *name == field.name);
                let found = fields.iter_mut().find(|(name, _)| match is_there {
                    true => *name == field.name,
                    false => field.aliases.contains(name),
                });
                if let Some((name, value)) = found {
                    name.clone_from(&field.name);
                    *value = rename(names, &field.schema, std::mem::replace(value, Value::Null));
                }
            }
            Value::Record(fields)
        }
        (Schema::Array(array), Value::Array(items)) => {
            Value::Array(items.into_iter().map(|item| rename(names, &array.items, item)).collect())
        }
        (Schema::Map(map), Value::Map(entries)) => {
            let entries = entries.into_iter();
            Value::Map(entries.map(|(key, entry)| (key, rename(names, &map.types, entry))).collect())
        }
        (reader, Value::Union(index, value)) => Value::Union(index, Box::new(rename(names, reader, *value))),
        // A branch of another type leaves the value alone.
        (Schema::Union(union), value) => {
            union.variants().iter().fold(value, |value, branch| rename(names, branch, value))
        }
        (_, value) => value,
    }
}

#[cfg(test)]
mod tests {
    use apache_avro::reader::datum::GenericDatumReader;
    use serde_json::json;

    use super::*;
    use crate::{codec, json_form};

    #[test]
    fn a_renamed_field_keeps_its_value() {
        let line = |name: &str, aliases: &[&str]| {
            json!({"type": "record", "name": "Line", "fields": [
                {"name": name, "type": "int", "default": 0, "aliases": aliases}]})
        };
        let order = |line| {
            let lines = json!(["null", {"type": "array", "items": line}]);
            let order =
                json!({"type": "record", "name": "Order", "fields": [{"name": "lines", "type": lines}]});
            Schema::parse(&order).unwrap()
        };
        let (writer, reader) = (order(line("count", &[])), order(line("pieces", &["count"])));
        let body = codec::encode(&writer, &json!({"lines": [{"count": 7}]})).unwrap();
        let read = codec::decode_as(&writer, &reader, &body).unwrap();
        assert_eq!(read, json!({"lines": [{"pieces": 7}]}));
        let bare = GenericDatumReader::builder(&writer).build().unwrap();
        let alone = bare.read_value(&mut &*body).unwrap().resolve(&reader).unwrap();
        let taken = json!({"lines": [{"pieces": 0}]});
        assert_eq!(json_form::to_json(&reader, alone).unwrap(), taken, "fixed upstream: this could go");
    }
}
