//! Settings from flags and variables: `--set server.threads=2`, `SERIN_SERVER_THREADS=2`.
//!
//! They are laid over the `server` key of the file before it is checked, each with a source of its own,
//! so that a wrong one is reported like a wrong line, but under the flag's or the variable's name. A flag
//! wins over a variable, a variable over the file.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::mark::{Inside, Mark, Sources, Span};
use super::problem::{Problem, Severity};
use super::schema::{Field, Kind, server::SERVER};
use super::source::Source;
use super::suggest::nearest;
use super::yaml;

const PREFIX: &str = "SERIN_SERVER_";
/// Bytes of a value that is shown with its name.
const LONGEST_SHOWN: usize = 60;

/// What is laid over the files, and the variables that `${NAME}` in them refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Values of `--set`, e.g. `server.status.address=127.0.0.1:0`; a later one wins.
    pub set: Vec<String>,
    /// Environment variables. Those that start with `SERIN_SERVER_` are settings too.
    pub environment: BTreeMap<String, String>,
}

impl Overrides {
    /// Takes flags as given and the environment of this process; what is not UTF-8 is left out.
    pub fn from_process(set: Vec<String>) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { set, environment }
    }

    /// Lays the settings over the value of the `server` key.
    pub(crate) fn apply(
        &self,
        server: &mut Value,
        mark: &mut Mark,
        sources: &mut Sources,
        problems: &mut Vec<Problem>,
    ) {
        let settings = Setting::all();
        // Their order in the environment, parents before what is in them, is that of their names.
        let variables = self
            .environment
            .range(PREFIX.to_owned()..)
            .take_while(|(name, _)| name.starts_with(PREFIX));
        let mut found: Vec<(&Setting, &str, String)> = Vec::new();
        for (name, text) in variables {
            match settings.iter().find(|setting| setting.variable == *name) {
                // A variable that is set to nothing counts as not set, as in most programs in containers.
                Some(_) if text.is_empty() => {}
                Some(setting) => found.push((setting, text, format!("environment {name}"))),
                None => problems.push(unknown_variable(name, &settings)),
            }
        }
        for flag in &self.set {
            let label = |name: &str| format!("--set {name}");
            let Some((name, text)) = flag.split_once('=') else {
                let hint = format!("write --set {flag}=VALUE");
                problems.push(Problem::about(label(flag), "no value given").with_hint(hint));
                continue;
            };
            match settings.iter().find(|setting| setting.path == name) {
                Some(setting) => found.push((setting, text, label(name))),
                None => problems.push(unknown_flag(label(name), name, &settings)),
            }
        }
        for (setting, text, label) in found {
            let index = sources.0.len();
            let source = Source::setting(setting.show(label, text), text);
            if let Some((value, value_mark)) = self.read(setting, &source, index, problems) {
                let steps: Vec<&str> = setting.path.split('.').skip(1).collect();
                put(server, mark, &steps, value, value_mark);
            }
            sources.0.push(source);
        }
    }

    /// Reads the text of a setting; `None` when it is no YAML, which has been reported.
    fn read(
        &self,
        setting: &Setting,
        source: &Source,
        index: usize,
        problems: &mut Vec<Problem>,
    ) -> Option<(Value, Mark)> {
        let mark = Mark::at(Span::start_of(index));
        if source.text.is_empty() {
            return Some((Value::Null, mark));
        }
        if setting.is_text {
            return Some((Value::String(source.text.clone()), mark));
        }
        let document = yaml::parse(source, index, &self.environment, problems)?;
        Some((document.value, document.mark))
    }
}

/// Puts a value at a path, making mappings on the way where there are none.
fn put(target: &mut Value, mark: &mut Mark, steps: &[&str], value: Value, value_mark: Mark) {
    let Some((step, rest)) = steps.split_first() else {
        *target = value;
        *mark = value_mark;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
        mark.inside = Inside::Map(Vec::new());
    }
    let Value::Object(map) = target else { return };
    // Marks must stay beside their values, so a mapping without any is given some.
    if !matches!(&mark.inside, Inside::Map(entries) if entries.len() == map.len()) {
        mark.inside = Inside::Map(map.keys().map(|_| (mark.span, Mark::at(mark.span))).collect());
    }
    let Inside::Map(entries) = &mut mark.inside else {
        return;
    };
    let index = map.keys().position(|key| key == step).unwrap_or_else(|| {
        map.insert((*step).to_owned(), Value::Null);
        entries.push((value_mark.span, Mark::at(value_mark.span)));
        entries.len() - 1
    });
    if let (Some((_, inner)), Some((_, inner_mark))) = (map.iter_mut().nth(index), entries.get_mut(index)) {
        put(inner, inner_mark, rest, value, value_mark);
    }
}

/// A field under `server`, by the names that it has outside a file.
struct Setting {
    /// `server.status.address`.
    path: String,
    /// `SERIN_SERVER_STATUS_ADDRESS`.
    variable: String,
    /// Its value is taken as it stands, not as YAML.
    is_text: bool,
    is_secret: bool,
}

impl Setting {
    /// Returns every field under `server`, records as well as what is in them.
    fn all() -> Vec<Self> {
        let mut settings = Vec::new();
        Self::add("server", SERVER.fields, &mut settings);
        settings
    }

    fn add(prefix: &str, fields: &'static [Field], settings: &mut Vec<Self>) {
        for field in fields {
            let path = format!("{prefix}.{}", field.name);
            let variable = format!("SERIN_{}", path.replace('.', "_").to_ascii_uppercase());
            if let Some(inner) = field.kind.fields() {
                Self::add(&path, inner, settings);
            }
            let is_text = field.kind.is_text() || matches!(field.kind, Kind::Size { .. });
            settings.push(Self {
                path,
                variable,
                is_text,
                is_secret: field.is_secret,
            });
        }
    }

    /// Returns a flag or variable with its value, where that may be shown and is short: there is no line to show.
    fn show(&self, label: String, text: &str) -> String {
        if self.is_secret || text.len() > LONGEST_SHOWN {
            label
        } else {
            format!("{label}={text}")
        }
    }
}

/// Names a variable that is no setting. It is an error only when a setting was meant: Kubernetes puts
/// variables of this shape (`SERIN_SERVER_PORT`) into every container beside a Service called `serin-server`.
fn unknown_variable(name: &str, settings: &[Setting]) -> Problem {
    let mut problem = Problem::about(format!("environment {name}"), "no such setting");
    match nearest(name, settings.iter().map(|setting| setting.variable.as_str())) {
        Some(candidate) => problem.hint = Some(format!("did you mean {candidate}?")),
        None => {
            problem.severity = Severity::Warning;
            problem.hint =
                Some("it has no effect; 'serin schema' lists what there is under 'server'".to_owned());
        }
    }
    problem
}

fn unknown_flag(label: String, name: &str, settings: &[Setting]) -> Problem {
    let hint = if let Some(candidate) = nearest(name, settings.iter().map(|setting| setting.path.as_str())) {
        format!("did you mean '{candidate}'?")
    } else if name.starts_with("server.listeners.") {
        "set the whole list: --set 'server.listeners=[{address: 127.0.0.1:8000}]'".to_owned()
    } else {
        let known: Vec<_> = SERVER
            .fields
            .iter()
            .map(|field| format!("server.{}", field.name))
            .collect();
        format!("known settings: {}", known.join(", "))
    };
    Problem::about(label, "no such setting").with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn apply(file: Value, set: &[&str], environment: &[(&str, &str)]) -> (Value, Vec<String>) {
        let overrides = Overrides {
            set: set.iter().map(ToString::to_string).collect(),
            environment: environment
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
        };
        let (mut server, mut mark) = (file, Mark::at(Span::start_of(0)));
        let mut problems = Vec::new();
        overrides.apply(&mut server, &mut mark, &mut Sources::default(), &mut problems);
        (server, problems.iter().map(ToString::to_string).collect())
    }

    fn check(file: Value, set: &[&str], environment: &[(&str, &str)], expected: Value) {
        let (server, problems) = apply(file, set, environment);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(server, expected);
    }

    #[test]
    fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
        let file = json!({"threads": 1, "status": {"address": "127.0.0.1:1"}});
        check(
            file.clone(),
            &[],
            &[("SERIN_SERVER_THREADS", "2")],
            json!({"threads": 2, "status": {"address": "127.0.0.1:1"}}),
        );
        check(
            file,
            &["server.threads=3", "server.status=false"],
            &[("SERIN_SERVER_THREADS", "2"), ("OTHER", "x")],
            json!({"threads": 3, "status": false}),
        );
    }

    #[test]
    fn values_are_yaml_except_where_text_is_wanted() {
        check(
            json!({}),
            &[
                "server.listeners=[{address: 127.0.0.1:0}]",
                "server.status.address=127.0.0.1:0",
                "server.limits.body_bytes=1024",
            ],
            &[],
            json!({"listeners": [{"address": "127.0.0.1:0"}], "status": {"address": "127.0.0.1:0"}, "limits": {"body_bytes": "1024"}}),
        );
        check(
            json!({}),
            &[],
            &[
                ("SERIN_SERVER_SECRET", "12345"),
                ("SERIN_SERVER_TRUSTED_IPS", "[10.0.0.0/8]"),
                ("SERIN_SERVER_SECRET_FILE", ""),
            ],
            json!({"secret": "12345", "trusted_ips": ["10.0.0.0/8"]}),
        );
        check(
            json!({"status": false}),
            &["server.status.address=127.0.0.1:0"],
            &[],
            json!({"status": {"address": "127.0.0.1:0"}}),
        );
    }

    #[test]
    fn a_name_that_is_no_setting_is_a_problem() {
        let problems = |set: &[&str], environment: &[(&str, &str)]| apply(json!({}), set, environment).1;
        assert_eq!(
            problems(&["server.thread=2"], &[]),
            ["--set server.thread: no such setting\n  hint: did you mean 'server.threads'?"]
        );
        assert_eq!(
            problems(&["server.threads"], &[]),
            ["--set server.threads: no value given\n  hint: write --set server.threads=VALUE"]
        );
        assert!(problems(&["server.listeners.0.address=x"], &[])[0].contains("set the whole list"));
        assert!(problems(&["threads=2"], &[])[0].contains("known settings: server.threads"));
        assert!(
            problems(&[], &[("SERIN_SERVER_THREAD", "2")])[0].ends_with("did you mean SERIN_SERVER_THREADS?")
        );
        assert!(
            problems(&[], &[("SERIN_SERVER_PORT_8000_TCP_ADDR", "2")])[0]
                .contains("warning: no such setting")
        );
        assert_eq!(problems(&["server.listeners=[{"], &[]).len(), 1);
    }

    #[test]
    fn no_two_settings_share_a_variable() {
        let mut variables: Vec<_> = Setting::all()
            .into_iter()
            .map(|setting| setting.variable)
            .collect();
        let all = variables.len();
        variables.sort();
        variables.dedup();
        assert_eq!(variables.len(), all);
    }
}
