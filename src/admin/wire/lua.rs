//! Values as Kong's messages print them: tables of Lua, on one line.
//!
//! The shape is that of Penlight's `pretty.write(value, "")`: `{name="x",service={id="…"}}`, keys sorted.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Prints a value.
pub(super) fn show(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

/// Prints a map.
pub(super) fn show_map(map: &Map<String, Value>) -> String {
    let mut out = String::new();
    write_map(&mut out, map);
    out
}

fn write(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            out.push('{');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                write(out, item);
            }
            out.push('}');
        }
        Value::Object(map) => write_map(out, map),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            let _ = write!(out, "{value}");
        }
    }
}

fn write_map(out: &mut String, map: &Map<String, Value>) {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    out.push('{');
    for (index, (key, value)) in entries.into_iter().enumerate() {
        out.push_str(if index == 0 { "" } else { "," });
        if is_name(key) {
            out.push_str(key);
        } else {
            out.push('[');
            write_text(out, key);
            out.push(']');
        }
        out.push('=');
        write(out, value);
    }
    out.push('}');
}

/// Quotes a text; control characters are escaped, so that a message stays one line.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(out, "\\{}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Says whether a key needs no quotes.
fn is_name(key: &str) -> bool {
    !key.starts_with(|c: char| c.is_ascii_digit())
        && !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_is_one_line_with_sorted_keys() {
        let value = json!({"name": "a\"b", "list": [1, true, null], "x-y": {"2": "\n"}});
        assert_eq!(
            show(&value),
            r#"{list={1,true,null},name="a\"b",["x-y"]={["2"]="\n"}}"#
        );
    }
}
