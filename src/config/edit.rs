//! An edit within one entity, which costs what it changes.
//!
//! A reload compares the whole text with the last one, but reads again only the item of a top-level list in
//! which all differences lie: its lines mean by themselves what they mean in their file, as long as nothing repeats
//! what stands elsewhere (`&name`). The rows that they make take the places of those that were there.
//!
//! Everything else is read as if for the first time: edits of several items, items that come or go, entities
//! that change their names or what they refer to, certificates that have expired meanwhile, and whatever there is
//! something to say about. So nothing here explains a mistake, and what comes out is what a whole reading would
//! make.

use std::collections::BTreeMap;

use serde_json::Value;

use super::at::{At, Path};
use super::block::{Block, Item, Lines};
use super::check::{Checker, Found};
use super::identity;
use super::mark::{Shift, Sources, narrow};
use super::reading::Reading;
use super::rows::{Row, Written, collect_item};
use super::source::Source;
use super::yaml::{self, Document};

/// Kinds that the clock alone can make wrong.
const EXPIRING: [&str; 2] = ["certificates", "ca_certificates"];

/// An item in which a file has changed.
struct Place<'a> {
    source: u32,
    block: &'a Block,
    item: Item,
    /// Its lines now.
    text: &'a str,
    shift: Shift,
}

/// What an edit makes of an item.
struct Edit {
    source: u32,
    item: Item,
    rows: Vec<Row>,
    found: Found,
    shift: Shift,
}

impl Reading {
    /// Returns what the files now say, from what they said in a reading without errors.
    ///
    /// # Errors
    /// The files, when they have to be read as if for the first time.
    pub(super) fn edited(
        mut self,
        files: Vec<Source>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, Vec<Source>> {
        let before = &self.sources.0[..self.files];
        let names = before.iter().map(|file| &file.name);
        if !names.eq(files.iter().map(|file| &file.name)) || self.has_expired() {
            return Err(files);
        }
        let mut changed = (0..files.len()).filter(|index| before[*index].text != files[*index].text);
        match (changed.next(), changed.next()) {
            (None, _) => {}
            (Some(index), None) => match self.edit(index, &files[index], environment) {
                Some(edit) => self.take(edit),
                None => return Err(files),
            },
            _ => return Err(files),
        }
        for (before, file) in self.sources.0.iter_mut().zip(files) {
            *before = file;
        }
        Ok(self)
    }

    /// Says whether there is something to say that only the clock has changed.
    fn has_expired(&self) -> bool {
        let sources = Sources::default();
        let mut checker = Checker::going_on(&sources, Found::default());
        for row in self.rows.iter().filter(|row| EXPIRING.contains(&row.entity.name)) {
            let at = At {
                value: &row.written,
                mark: Some(&row.mark),
                path: Path::ROOT,
            };
            checker.entity(row.entity, None, at);
        }
        !checker.into_found().is_empty()
    }

    /// Reads the item in which a file has changed; `None` when it is not just one, or has to be read with the rest.
    fn edit(&self, index: usize, now: &Source, environment: &BTreeMap<String, String>) -> Option<Edit> {
        let Place {
            source,
            block,
            item,
            text,
            shift,
        } = self.place_of_change(index, now)?;
        let mut written = read_alone(block, text, index, environment)?;
        // From the second line to where it stands.
        let below = Shift(i64::from(item.lines.start) - 2);
        written.mark.shift(source, 0, below);

        let old = &self.rows[item.rows.clone()];
        let sources = Sources::default();
        let mut checker = Checker::going_on(&sources, Found::default());
        let is_transformed = old.first()?.is_transformed;
        let mut rows = collect_item(block.entity, item.index, written, is_transformed, &mut checker);
        for row in &mut rows {
            row.parent = row.parent.map(|parent| item.rows.start + parent);
        }
        let found = checker.into_found();
        let are_alike = |(old, now): (&Row, &Row)| identity::are_alike(old, now);
        let is_same = old.len() == rows.len() && old.iter().zip(&rows).all(are_alike);
        (found.is_empty() && is_same).then_some(Edit {
            source,
            item,
            rows,
            found,
            shift,
        })
    }

    /// Finds the one item in which all changes of a file lie.
    fn place_of_change<'a>(&'a self, index: usize, now: &'a Source) -> Option<Place<'a>> {
        let before = &self.sources.0[index];
        let (head, tail) = common(before.text.as_bytes(), now.text.as_bytes());
        // Lines that are added behind an item belong to it.
        let is_added = head + tail == before.text.len();
        let first = if is_added { head.saturating_sub(1) } else { head };
        let (source, line) = (narrow(index), narrow(before.line_at(first)));
        let mut blocks = self.blocks.iter();
        let (block, item) = blocks.find_map(|block| Some((block, block.item_at(source, line)?)))?;
        let start = before.start_of(item.lines.start as usize);
        let end = before.start_of(item.lines.end as usize);
        let end_now = (now.text.len() + end).checked_sub(before.text.len())?;
        let text = now.text.get(start..end_now)?;
        let is_within = before.text.len() - tail <= end;
        // What follows begins a line, as it did.
        let is_whole = text.ends_with('\n') || end_now == now.text.len();

        let lines = |text: &str| text.bytes().filter(|byte| *byte == b'\n').count() as i64;
        let shift = Shift(lines(text) - lines(&before.text[start..end]));
        // What is told of lines that move would have to be told anew.
        let is_moving = shift != Shift(0);
        let touched = item.lines.start..if is_moving { u32::MAX } else { item.lines.end };
        let is_silent = !self.found.is_about(&before.name, touched);
        (is_within && is_whole && is_silent).then_some(Place {
            source,
            block,
            item,
            text,
            shift,
        })
    }

    fn take(&mut self, edit: Edit) {
        let Edit {
            source,
            item,
            rows,
            found,
            shift,
        } = edit;
        let end = item.lines.end;
        self.found.replace(source, &item.lines, shift, found);
        if shift != Shift(0) {
            let behind = self.rows.iter_mut();
            behind.for_each(|row| row.mark.shift(source, end, shift));
            self.given.1.shift(source, end, shift);
            self.blocks
                .iter_mut()
                .for_each(|block| block.shift(source, end, shift));
        }
        self.rows.splice(item.rows, rows);
    }
}

/// Reads the lines of one item of a block below its key, from the second line on; `None` if they are anything else or
/// there is something to say about them.
fn read_alone(
    block: &Block,
    text: &str,
    source: usize,
    environment: &BTreeMap<String, String>,
) -> Option<Written> {
    let key = block.entity.name;
    let alone = Source::file("", format!("{key}:\n{text}"));
    let mut problems = Vec::new();
    let Document {
        value,
        mark,
        has_anchors,
    } = yaml::parse(&alone, source, environment, &mut problems)?;
    let (Value::Object(mut map), (_, mark)) = (value, mark.into_entries().next()?) else {
        return None;
    };
    let lines = Lines::of(&mark, narrow(alone.line_count() + 1), &alone)?;
    let (Some(Value::Array(mut items)), Some(mark)) = (map.remove(key), mark.into_items().next()) else {
        return None;
    };
    let is_only = problems.is_empty() && map.is_empty() && lines.are_one_item_of(block);
    let can_stand_alone = !has_anchors && !alone.has_lone_returns();
    let value = items.pop()?;
    (is_only && can_stand_alone).then_some(Written { value, mark })
}

/// Returns how many bytes two texts have in common at their beginnings, and how many of the rest at their ends.
fn common(one: &[u8], other: &[u8]) -> (usize, usize) {
    let is_same = |(one, other): &(&u8, &u8)| one == other;
    let head = one.iter().zip(other).take_while(is_same).count();
    let rest = one[head..].iter().rev().zip(other[head..].iter().rev());
    (head, rest.take_while(is_same).count())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;
    use serde_json::json;

    use super::super::source::Files;
    use super::super::{Known, Loaded, Overrides, Problem, Report, check_and_build};
    use super::*;
    use crate::tls::tests::made_until;

    const WHOLE: &str = r#"_format_version: "3.0"
services:
# The shop.
- name: shop
  host: shop
  retries: 1
  routes:
  - name: cart
    paths: [/cart]
  - name: item
    paths:
    - /item
    strip_path: false
  plugins:
  - name: canary
    config: {percentage: 5, upstream_host: next, upstream_fallback: true}

- {name: admin, url: "http://127.0.0.1:80", read_timeout: 1000}
- name: old
  host: old # gone soon
  client_certificate: null
upstreams:
- name: shop
  algorithm: consistent-hashing
  hash_on: path
  targets:
  - {target: "10.0.0.1:80", weight: 100}
  - target: 10.0.0.2:80
    weight: 1
- name: next
  healthchecks: {active: {healthy: {interval: 0}}}
  targets: [{target: "10.0.0.3:80"}]
routes:
- {service: old, paths: [/old]}
- service: old
  paths: [/older]
  request_buffering: false
consumers:
- username: anna
  groups: [beta]
  keyauth_credentials:
  - key: secret-of-anna
    tags: [a, b]
- username: bert
  tags:
  - >-
    folded
    text
consumer_groups:
- name: beta
server:
  threads: 1
  underscores_in_headers: drop
plugins:
- name: key-auth
  config: {key_names: [api_key], anonymous: nobody}
"#;

    fn source(text: &str) -> Vec<Source> {
        vec![Source::file("f.yaml", text)]
    }

    fn load(text: &str, known: &mut Known) -> Result<Loaded, Report> {
        let files = Files {
            sources: source(text),
            paths: vec![PathBuf::from("f.yaml")],
            hash: 7,
        };
        check_and_build(files, &Overrides::default(), Vec::new(), known)
    }

    /// Says whether an edit of the whole text is taken as one.
    fn is_taken(from: &str, to: &str) -> bool {
        assert_eq!(WHOLE.matches(from).count(), 1, "{from:?}");
        let mut known = Known::default();
        load(WHOLE, &mut known).unwrap();
        let reading = known.reading.unwrap();
        reading
            .edited(source(&WHOLE.replace(from, to)), &BTreeMap::new())
            .is_ok()
    }

    /// Checks that a load after others comes to what a first one would.
    fn check(text: &str, known: &mut Known) {
        let (later, first) = (load(text, known), load(text, &mut Known::default()));
        match (later, first) {
            (Ok(later), Ok(first)) => {
                assert_eq!(later.entities, first.entities, "{text}");
                assert_eq!(later.configuration, first.configuration, "{text}");
                assert_eq!(later.warnings, first.warnings, "{text}");
            }
            (Err(later), Err(first)) => assert_eq!(later, first, "{text}"),
            (later, first) => panic!("{later:?} instead of {first:?}: {text}"),
        }
    }

    #[test]
    fn an_edit_within_one_entity_is_taken() {
        for (from, to) in [
            ("weight: 100", "weight: 7"),
            ("weight: 1\n", "weight: 0\n"),
            ("weight: 1\n", "weight: 1 # one\n"),
            ("percentage: 5", "percentage: 50"),
            ("  retries: 1\n", "  retries: 3\n"),
            ("read_timeout: 1000", "read_timeout: 2000, retries: 2"),
            ("host: old # gone soon", "host: \"old\""),
            ("# gone soon", "# gone"),
            ("    folded\n", "    folded\n    twice\n"),
            ("    folded\n", ""),
            ("    text\n", "    text\n\n  # none\n\n"),
            ("tags: [a, b]", "tags: [a]"),
            ("[api_key]", "[apikey]"),
        ] {
            assert!(is_taken(from, to), "{from:?} to {to:?}");
        }
        assert!(is_taken("_format_version", "_format_version"), "nothing changed");
    }

    #[test]
    fn every_other_edit_is_read_as_if_for_the_first_time() {
        for (from, to) in [
            // Names, ids and references.
            ("- name: old", "- name: older"),
            ("target: 10.0.0.2:80", "target: 10.0.0.4:80"),
            ("groups: [beta]", "groups: []"),
            ("paths: [/old]", "paths: [/olden]"),
            ("{service: old, paths: [/old]}", "{service: shop, paths: [/old]}"),
            ("key: secret-of-anna", "key: other"),
            // Items that come, go or are taken apart.
            ("- name: beta", "- name: beta\n- name: gamma"),
            ("- name: old\n", "- name: old\n- name: new\n"),
            ("  - target: 10.0.0.2:80\n    weight: 1\n", ""),
            ("- {service: old, paths: [/old]}\n", ""),
            ("- name: old\n", "-\n  name: old\n"),
            ("weight: 1\n- name: next", "weight: 1- name: next"),
            ("- name: beta", "  - name: beta"),
            // What is not within an item.
            ("threads: 1", "threads: 2"),
            ("consumer_groups:", "consumer_groups: # none"),
            ("# The shop.\n", ""),
            ("# The shop.", "# The shop"),
            ("  retries: 1\n", "  retries: 1\ncertificates: []\n"),
            ("  retries: 1\n", "  retries: 1\n---\n"),
            // What there is something to say about.
            ("weight: 1\n", "weight: 1\n    tags: [a]\n"),
            ("  request_buffering: false\n", ""),
            ("weight: 100", "weight: many"),
            ("weight: 100", "weigth: 100"),
            ("# gone soon", "# gone\rsoon"),
            ("  retries: 1\n", "  retries: [1\n"),
            ("  retries: 1\n", "  tags: [&a x]\n"),
            ("  retries: 1\n", "  tags: [*a]\n"),
            ("  host: old # gone soon\n", "  host: ${NONE}\n"),
        ] {
            assert!(!is_taken(from, to), "{from:?} to {to:?}");
            let mut known = Known::default();
            load(WHOLE, &mut known).unwrap();
            check(&WHOLE.replace(from, to), &mut known);
        }
    }

    /// A whole reading would warn of it: such a certificate may have been good in the last one.
    #[test]
    fn beside_a_certificate_that_has_expired_nothing_is_taken() {
        for (year, is_taken) in [(2020, false), (4000, true)] {
            let (cert, key) = made_until(year, &["shop.example"]);
            let certificate = json!([{"cert": cert, "key": key}]);
            let text = format!("{WHOLE}certificates: {certificate}\n");
            let mut known = Known::default();
            let loaded = load(&text, &mut known).unwrap();
            let has_warned = |warning: &Problem| warning.message == "the certificate has expired";
            assert_eq!(loaded.warnings.iter().any(has_warned), !is_taken);
            let files = source(&text.replace("weight: 100", "weight: 7"));
            let edited = known.reading.unwrap().edited(files, &BTreeMap::new());
            assert_eq!(edited.is_ok(), is_taken, "{year}");
        }
    }

    /// One step away from a text: in some line, something else.
    fn edits() -> impl Strategy<Value = Vec<(usize, usize, &'static str)>> {
        let line = prop::sample::select(vec![
            "  retries: 3",
            "    weight: 0",
            "  - {target: \"10.0.0.9:80\"}",
            "- name: x",
            "- {name: y, host: shop}",
            "routes:",
            "  tags: [a",
            "  tags: ['b\u{e9}', \"c]",
            "  host: |",
            "    more",
            "    # remark",
            "",
            "---",
            "\t",
            "  # remark\r",
            "  # remark\r  retries: 2",
            "  <<: *a",
            "  path: /p_q",
            "  ca_certificates: []",
            "  hash_on_header: x_y",
            "  hash_on: header",
        ]);
        prop::collection::vec((0..60_usize, 0..7_usize, line), 1..5)
    }

    fn edited(text: &str, (at, how, line): (usize, usize, &str)) -> String {
        let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
        let at = at % lines.len();
        match how {
            0 => lines.insert(at, line.to_owned()),
            1 => drop(lines.remove(at)),
            2 => line.clone_into(&mut lines[at]),
            3 => lines[at] = lines[at].replace('1', "2").replace("true", "false"),
            4 => lines[at].push_str(line),
            5 if at + 1 < lines.len() => {
                let next = lines.remove(at + 1);
                lines[at].push_str(&next);
            }
            _ => lines[at] = lines[at].replace("shop", "old").replace("a", "b"),
        }
        lines.join("\n")
    }

    proptest! {
        #[test]
        fn whatever_is_edited_comes_to_what_a_first_load_would(edits in edits()) {
            let mut known = Known::default();
            let mut text = WHOLE.to_owned();
            check(&text, &mut known);
            for edit in edits {
                text = edited(&text, edit);
                check(&text, &mut known);
            }
        }
    }
}
