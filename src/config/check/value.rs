//! One value against its kind.

use serde_json::{Map, Value};

use super::Checker;
use crate::config::at::At;
use crate::config::schema::{Field, Kind, units};
use crate::config::suggest::nearest;

impl Checker<'_> {
    /// Looks at one value; `None` when it is wrong, which has been reported.
    pub(super) fn value(
        &mut self,
        kind: &'static Kind,
        field: Option<&'static Field>,
        at: At<'_>,
    ) -> Option<Value> {
        if at.is_unknown() {
            return None;
        }
        match kind {
            Kind::Any => Some(at.value.clone()),
            Kind::Boolean => match at.value {
                Value::Bool(_) => Some(at.value.clone()),
                _ => {
                    self.wrong(
                        at,
                        field,
                        "expected a boolean",
                        Some("true or false, without quotes".to_owned()),
                    );
                    None
                }
            },
            Kind::Text(format) => {
                let text = self.text(at, field)?;
                match (format.check)(text) {
                    Ok(()) => Some(at.value.clone()),
                    Err(fault) => {
                        self.wrong(at, field, fault.message, fault.hint);
                        None
                    }
                }
            }
            Kind::Choice { .. } => {
                let text = self.text(at, field)?;
                if let Some(word) = self.renamed(field, text, at) {
                    return Some(Value::from(word));
                }
                match refuse_choice(kind, text) {
                    None => Some(at.value.clone()),
                    Some((message, hint)) => {
                        self.wrong(at, field, message, hint);
                        None
                    }
                }
            }
            Kind::Count { .. } if at.value.as_str() == Some("unlimited") => Some(at.value.clone()),
            Kind::Count { max } => {
                let number = self.integer(at, field)?;
                if (1..=i128::from(*max)).contains(&number) {
                    return i64::try_from(number).ok().map(Value::from);
                }
                let message = format!("value should be between 1 and {max}");
                self.wrong(at, field, message, Some("or 'unlimited'".to_owned()));
                None
            }
            Kind::Integer { min, max } => {
                let number = self.integer(at, field)?;
                if (i128::from(*min)..=i128::from(*max)).contains(&number) {
                    return i64::try_from(number).ok().map(Value::from);
                }
                self.wrong(
                    at,
                    field,
                    format!("value should be between {min} and {max}"),
                    None,
                );
                None
            }
            Kind::Above { bound, max, is_whole } => self.above(at, field, *bound, *max, *is_whole),
            Kind::NumberChoice(numbers) => {
                let number = self.integer(at, field)?;
                if let Some(known) = numbers.iter().find(|known| i128::from(**known) == number) {
                    return Some(Value::from(*known));
                }
                let known: Vec<_> = numbers.iter().map(ToString::to_string).collect();
                self.wrong(at, field, format!("expected one of: {}", known.join(", ")), None);
                None
            }
            Kind::Number { min, max } => self.number(at, field, *min, *max),
            Kind::Duration {
                or_unlimited: true, ..
            } if at.value == "unlimited" => Some(at.value.clone()),
            Kind::Duration {
                min,
                max,
                or_unlimited,
            } => {
                let Some(duration) = units::parse_duration(at.value) else {
                    let hint = at
                        .value
                        .as_u64()
                        .map(|number| format!("add the unit: {number}s or {number}ms"))
                        .or_else(|| or_unlimited.then(|| "or 'unlimited'".to_owned()));
                    self.wrong(
                        at,
                        field,
                        "expected a duration, such as 10s, 500ms or 1m30s",
                        hint,
                    );
                    return None;
                };
                if (*min..=*max).contains(&duration) {
                    return Some(at.value.clone());
                }
                let message = format!(
                    "value should be between {} and {}",
                    units::show_duration(*min),
                    units::show_duration(*max)
                );
                let hint = or_unlimited.then(|| "or 'unlimited'".to_owned());
                self.wrong(at, field, message, hint);
                None
            }
            Kind::Size {
                min,
                max,
                or_unlimited,
            } => match units::parse_size(at.value) {
                Some(units::Size::Unlimited) if *or_unlimited => Some(at.value.clone()),
                Some(units::Size::Bytes(bytes)) if (*min..=*max).contains(&bytes) => Some(at.value.clone()),
                Some(_) => {
                    let range = format!(
                        "value should be between {} and {}",
                        units::show_size(*min),
                        units::show_size(*max)
                    );
                    self.wrong(
                        at,
                        field,
                        range,
                        or_unlimited.then(|| "or 'unlimited'".to_owned()),
                    );
                    None
                }
                None => {
                    let hint = "a number of bytes, or one with KiB (1024 bytes), MiB or GiB";
                    self.wrong(at, field, "expected a size, such as 32KiB", Some(hint.to_owned()));
                    None
                }
            },
            Kind::List { of, min, is_set } => self.list(of, *min, *is_set, field, at),
            Kind::Map { key, of } => {
                let Value::Object(map) = at.value else {
                    self.wrong(
                        at,
                        field,
                        "expected a map",
                        Some("a mapping of names to lists".to_owned()),
                    );
                    return None;
                };
                let mut result = Map::new();
                let mut is_right = true;
                for (index, (name, value)) in map.iter().enumerate() {
                    let marks = at.mark.and_then(|mark| mark.entry(index));
                    let here = At {
                        value,
                        mark: marks.map(|(_, mark)| mark).or(at.mark),
                        path: at.path.key(name),
                    };
                    if let Err(fault) = (key.check)(name) {
                        self.error(
                            marks.map(|(span, _)| span).or(at.span()),
                            here.path,
                            fault.message,
                            fault.hint,
                        );
                        is_right = false;
                    }
                    match self.value(of, field, here) {
                        Some(value) => drop(result.insert(name.clone(), value)),
                        None => is_right = false,
                    }
                }
                is_right.then_some(Value::Object(result))
            }
            Kind::RecordOrFalse(_) if at.value == &Value::Bool(false) => Some(Value::Bool(false)),
            Kind::RecordOrFalse(_) if !at.value.is_object() => {
                self.wrong(at, field, "expected a record, or false for none", None);
                None
            }
            Kind::Record(record) | Kind::RecordOrFalse(record) => {
                let checked = self.record(record, at)?;
                checked.wrong.is_empty().then_some(Value::Object(checked.values))
            }
            // Needs the fields beside it, so a record looks at it by itself.
            Kind::Chosen(_) => None,
            Kind::Reference(entity) => self.reference(entity, at, field),
        }
    }

    fn text<'v>(&mut self, at: At<'v>, field: Option<&Field>) -> Option<&'v str> {
        if let Value::String(text) = at.value {
            return Some(text);
        }
        let hint = match at.value {
            Value::Number(_) | Value::Bool(_) if field.is_some_and(|field| field.is_secret) => {
                Some("with quotes it is text".to_owned())
            }
            Value::Number(_) | Value::Bool(_) => Some(format!("with quotes it is text: \"{}\"", at.value)),
            _ => None,
        };
        self.wrong(at, field, "expected a string", hint);
        None
    }

    fn integer(&mut self, at: At<'_>, field: Option<&Field>) -> Option<i128> {
        let Value::Number(number) = at.value else {
            self.wrong(at, field, "expected an integer", unquote(at.value));
            return None;
        };
        let whole = number.as_i128().or_else(|| {
            // A whole number written with a point is one to Kong; beyond 2^53 a float is no exact number.
            let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
            (float.abs() < 9_007_199_254_740_992.0)
                .then_some(float as i128)
                .or(Some(if float < 0.0 { i128::MIN } else { i128::MAX }))
        });
        if whole.is_none() {
            self.wrong(at, field, "expected an integer", None);
        }
        whole
    }

    fn number(&mut self, at: At<'_>, field: Option<&Field>, min: i64, max: i64) -> Option<Value> {
        let Value::Number(number) = at.value else {
            self.wrong(at, field, "expected a number", unquote(at.value));
            return None;
        };
        let float = number.as_f64().unwrap_or(f64::NAN);
        if float >= min as f64 && float <= max as f64 {
            // Written as whole numbers where they are, so that 1.0 compares equal to a default of 1.
            let is_whole = float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0;
            return Some(if is_whole {
                Value::from(float as i64)
            } else {
                at.value.clone()
            });
        }
        self.wrong(
            at,
            field,
            format!("value should be between {min} and {max}"),
            None,
        );
        None
    }

    fn above(
        &mut self,
        at: At<'_>,
        field: Option<&Field>,
        bound: i64,
        max: i64,
        is_whole: bool,
    ) -> Option<Value> {
        let is_low = at.value.as_f64().is_some_and(|number| number <= bound as f64);
        if is_low {
            self.wrong(at, field, format!("value must be greater than {bound}"), None);
            return None;
        }
        if !is_whole {
            return self.number(at, field, bound, max);
        }
        let number = self.integer(at, field)?;
        if number <= i128::from(max) {
            return i64::try_from(number).ok().map(Value::from);
        }
        self.wrong(
            at,
            field,
            format!("value should be between {} and {max}", bound + 1),
            None,
        );
        None
    }

    /// Takes the word that took the place of a former one, with a warning.
    fn renamed(&mut self, field: Option<&'static Field>, text: &str, at: At<'_>) -> Option<&'static str> {
        let (former, word) = field?.renamed.iter().find(|(former, _)| *former == text)?;
        self.warn(
            at.span(),
            at.path,
            format!("'{former}' is now called '{word}'"),
            Some(format!("write '{word}'; it means the same")),
        );
        Some(word)
    }

    fn list(
        &mut self,
        of: &'static Kind,
        min: usize,
        is_set: bool,
        field: Option<&'static Field>,
        at: At<'_>,
    ) -> Option<Value> {
        let Value::Array(items) = at.value else {
            let hint = match at.value {
                Value::Object(_) | Value::Null => None,
                scalar => Some(format!(
                    "a list, even of one: [{}]",
                    scalar.as_str().map_or_else(|| scalar.to_string(), str::to_owned)
                )),
            };
            self.wrong(
                at,
                field,
                if is_set {
                    "expected a set"
                } else {
                    "expected an array"
                },
                hint,
            );
            return None;
        };
        if items.len() < min {
            self.wrong(at, field, format!("length must be at least {min}"), None);
            return None;
        }
        let mut result = Vec::with_capacity(items.len());
        for (index, value) in items.iter().enumerate() {
            let here = At {
                value,
                mark: at.mark.and_then(|mark| mark.item(index)).or(at.mark),
                path: at.path.index(index),
            };
            result.extend(self.value(of, field, here));
        }
        (result.len() == items.len()).then_some(Value::Array(result))
    }

    /// Takes a reference in any of its forms and returns the name or id as text.
    fn reference(&mut self, entity: &str, at: At<'_>, field: Option<&Field>) -> Option<Value> {
        let name_key = if entity == "consumers" { "username" } else { "name" };
        let name = match at.value {
            Value::String(name) if !name.is_empty() => Some(name.as_str()),
            Value::Object(map) if map.keys().all(|key| key == "id" || key == name_key) => {
                let given = |key: &str| {
                    map.get(key)
                        .and_then(Value::as_str)
                        .filter(|text| !text.is_empty())
                };
                given("id").or_else(|| given(name_key))
            }
            _ => None,
        };
        if name.is_none() {
            self.wrong(
                at,
                field,
                "expected a reference",
                Some(format!(
                    "a name or an id as text, or {{{name_key}: …}} or {{id: …}}"
                )),
            );
        }
        name.map(Value::from)
    }
}

/// Returns why a word is none of a choice, or `None` when it is one.
pub(crate) fn refuse_choice(kind: &Kind, text: &str) -> Option<(String, Option<String>)> {
    let Kind::Choice { known, kong_only } = kind else {
        return None;
    };
    if known.contains(&text) {
        return None;
    }
    let hint = if kong_only.contains(&text) {
        Some(format!("'{text}' is Kong's, but Serin does not have it yet"))
    } else {
        Some(match nearest(text, known.iter().copied()) {
            Some(word) => format!("did you mean '{word}'?"),
            None => format!("'{text}' is none of them"),
        })
    };
    Some((format!("expected one of: {}", known.join(", ")), hint))
}

fn unquote(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    text.parse::<i64>()
        .ok()
        .map(|number| format!("without quotes it is a number: {number}"))
}
