//! The one table of what may be written: every entity, every field.
//!
//! Each field is defined once, with its kind, range, default and a sentence of documentation. The
//! check, the defaults, `serin schema` and the settings' flags and variables are all read off this table,
//! so none of them can say something else than the others. Entities and fields are Kong's
//! (`kong/db/schema/entities` of Kong 3.x), `server` is our own.
//!
//! A field that Kong has and Serin does not act on yet is in the table all the same, with
//! [`Effect::None`]: it is checked like any other and earns a warning when it is set to something.

pub(crate) mod address;
pub(crate) mod certificate;
pub(crate) mod consumer;
pub(crate) mod credential;
pub(crate) mod format;
pub(crate) mod json;
mod path;
pub(crate) mod plugin;
pub(crate) mod route;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod tag;
pub(crate) mod target;
pub(crate) mod units;
pub(crate) mod upstream;

use std::time::Duration;

use serde_json::Value;

use self::format::Format;
use super::check::Scope;

/// A kind of thing that has an identity: a Service, a Route.
#[derive(Debug)]
pub(crate) struct Entity {
    /// Kong's name, in the plural: the key of its list.
    pub(crate) name: &'static str,
    /// The field that names one, besides `id`: the key of references, of Kong's ids and of duplicates.
    pub(crate) key: &'static str,
    /// One sentence.
    pub(crate) doc: &'static str,
    /// Its fields, in the order of Kong's manual.
    pub(crate) fields: &'static [Field],
    /// What no two of them may have in common.
    pub(crate) unique: &'static [Unique],
    /// Entities that may be nested in it.
    pub(crate) children: &'static [Child],
    /// Rules that look at several fields.
    pub(crate) check: fn(&mut Scope<'_, '_>),
}

/// Fields that are not the same, all of them, in two entities of one kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unique {
    pub(crate) fields: &'static [&'static str],
    /// Two entities that leave one of the fields out can be the same, as two global plugins of one name.
    pub(crate) counts_null: bool,
}

impl Unique {
    /// Says that a field is unique where it is given.
    pub(crate) const fn of(fields: &'static [&'static str]) -> Self {
        Self {
            fields,
            counts_null: false,
        }
    }
}

/// An entity nested in another.
#[derive(Debug)]
pub(crate) struct Child {
    /// What is nested; its name is the key of the list.
    pub(crate) entity: &'static Entity,
    /// The child's field that refers to the parent, and that a nested child must not give.
    pub(crate) parent: &'static str,
}

/// All entities that a file may list at its top level; what others refer to comes before them.
pub(crate) static ENTITIES: [&Entity; 15] = [
    &certificate::CA_CERTIFICATES,
    &certificate::CERTIFICATES,
    &certificate::SNIS,
    &service::SERVICES,
    &route::ROUTES,
    &upstream::UPSTREAMS,
    &target::TARGETS,
    &consumer::CONSUMERS,
    &consumer::CONSUMER_GROUPS,
    &consumer::MEMBERS,
    &credential::KEYAUTH_CREDENTIALS,
    &credential::BASICAUTH_CREDENTIALS,
    &credential::JWT_SECRETS,
    &credential::ACLS,
    &plugin::PLUGINS,
];

/// Kong's entities that Serin does not have, so that a message can tell them from typing errors.
pub(crate) const KONG_ONLY: [&str; 10] = [
    "filter_chains",
    "hmacauth_credentials",
    "key_sets",
    "keys",
    "licenses",
    "oauth2_credentials",
    "parameters",
    "tags",
    "vaults",
    "workspaces",
];

/// A field of an entity or of a record.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What stands for it when it is left out or null.
    pub(crate) default: Option<fn() -> Value>,
    pub(crate) is_required: bool,
    /// A field that can be given in its stead.
    pub(crate) stand_in: Option<&'static str>,
    /// Its value is never shown.
    pub(crate) is_secret: bool,
    /// What refers to an entity by this field is removed with it.
    pub(crate) is_cascaded: bool,
    pub(crate) effect: Effect,
    /// Former words of a choice, each with the one that took its place.
    pub(crate) renamed: &'static [(&'static str, &'static str)],
    /// A way out of a wrong value, where kind and range do not say enough.
    pub(crate) hint: Option<&'static str>,
    /// Where it may be written and is shown.
    pub(crate) presence: Presence,
    /// What the Admin API makes up when it is left out.
    pub(crate) made: Option<Made>,
    /// What a rule over several fields puts in its place where nothing else asks for another value.
    pub(crate) settles: Option<fn() -> Value>,
    /// What Kong's field refers to, where only null is taken here.
    pub(crate) only_null: Option<&'static str>,
    /// What it does, with the unit of a number.
    pub(crate) doc: &'static str,
}

/// Whether Serin acts on a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It does.
    Full,
    /// It accepts the field, as Kong would, and does nothing; the text says what that means.
    None(&'static str),
}

/// Where a field may be written and is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// In files, requests and answers.
    Everywhere,
    /// In files and requests; it is expanded into others, so no answer has it.
    Shorthand,
    /// In files only.
    FileOnly,
}

/// What is made up for a field that a request leaves out, as Kong does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// A UUID.
    Id,
    /// The time in whole seconds since 1970.
    Seconds,
    /// The time in seconds since 1970, with milliseconds.
    Milliseconds,
    /// Random text that nobody guesses.
    Token,
}

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Text in a format.
    Text(&'static Format),
    /// A whole number in a range, both ends included.
    Integer { min: i64, max: i64 },
    /// A whole number from 1, or `unlimited`.
    Count { max: i64 },
    /// A number in a range, both ends included.
    Number { min: i64, max: i64 },
    /// A number above a bound, perhaps a whole one.
    Above { bound: i64, max: i64, is_whole: bool },
    /// `true` or `false`.
    Boolean,
    /// One of some words. Those that only Kong knows are refused, but by name.
    Choice {
        known: &'static [&'static str],
        kong_only: &'static [&'static str],
    },
    /// One of some numbers.
    NumberChoice(&'static [i64]),
    /// A list; Kong calls one without order a set.
    List {
        of: &'static Kind,
        min: usize,
        is_set: bool,
    },
    /// A mapping with keys of the author's choice.
    Map { key: &'static Format, of: &'static Kind },
    /// A mapping with fixed keys.
    Record(&'static Record),
    /// A mapping whose fixed keys depend on another field of the same entity; judged even if it is left out.
    Chosen(&'static Choices),
    /// Such a mapping, or `false` for "none".
    RecordOrFalse(&'static Record),
    /// The name or id of another entity, as text or as `{id: …}` or `{name: …}`.
    Reference(&'static str),
    /// A time such as `10s`, in a range.
    Duration {
        min: Duration,
        max: Duration,
        or_unlimited: bool,
    },
    /// A number of bytes such as `32KiB`, in a range; perhaps `unlimited`.
    Size { min: u64, max: u64, or_unlimited: bool },
    /// Anything.
    Any,
}

/// A mapping with fixed keys that is no entity.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) fields: &'static [Field],
    pub(crate) check: fn(&mut Scope<'_, '_>),
}

/// Records of which another field's value chooses one.
#[derive(Debug)]
pub(crate) struct Choices {
    /// The field that chooses.
    pub(crate) by: &'static str,
    /// Each of its values, with the record.
    pub(crate) records: &'static [(&'static str, &'static Record)],
}

impl Choices {
    /// Returns the record for an entity as written; `None` when what chooses is missing or wrong.
    pub(crate) fn record(&self, written: &serde_json::Map<String, Value>) -> Option<&'static Record> {
        let chosen = written.get(self.by)?.as_str()?;
        let mut records = self.records.iter();
        records.find_map(|(name, record)| (*name == chosen).then_some(*record))
    }
}

impl Field {
    /// Defines a field: optional, without default, acted on.
    pub(crate) const fn new(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self {
            name,
            kind,
            default: None,
            is_required: false,
            stand_in: None,
            is_secret: false,
            is_cascaded: false,
            effect: Effect::Full,
            renamed: &[],
            hint: None,
            presence: Presence::Everywhere,
            made: None,
            settles: None,
            only_null: None,
            doc,
        }
    }

    /// Gives a default.
    pub(crate) const fn or(mut self, default: fn() -> Value) -> Self {
        self.default = Some(default);
        self
    }

    /// Makes it an error to leave the field out.
    pub(crate) const fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    /// Makes it an error to leave out both the field and another that can stand in for it.
    pub(crate) const fn required_unless(mut self, stand_in: &'static str) -> Self {
        self.is_required = true;
        self.stand_in = Some(stand_in);
        self
    }

    /// Keeps the value out of messages.
    pub(crate) const fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }

    /// Removes the entity with the one that the field refers to.
    pub(crate) const fn cascades(mut self) -> Self {
        self.is_cascaded = true;
        self
    }

    /// Says that nothing is done with the field.
    pub(crate) const fn without_effect(mut self, reason: &'static str) -> Self {
        self.effect = Effect::None(reason);
        self
    }

    /// Names former words of a choice; they are accepted, with a warning.
    pub(crate) const fn renamed(mut self, words: &'static [(&'static str, &'static str)]) -> Self {
        self.renamed = words;
        self
    }

    /// Gives a way out of a wrong value.
    pub(crate) const fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Says that it is expanded into other fields.
    pub(crate) const fn shorthand(mut self) -> Self {
        self.presence = Presence::Shorthand;
        self
    }

    /// Says that the Admin API does not have it.
    pub(crate) const fn file_only(mut self) -> Self {
        self.presence = Presence::FileOnly;
        self
    }

    /// Says what the Admin API makes up when it is left out.
    pub(crate) const fn made(mut self, made: Made) -> Self {
        self.made = Some(made);
        self
    }

    /// Says what a rule over several fields makes of it when it is left out.
    pub(crate) const fn settles(mut self, value: fn() -> Value) -> Self {
        self.settles = Some(value);
        self
    }

    /// Says what Kong's field refers to, where only null is taken here.
    pub(crate) const fn only_null(mut self, entity: &'static str) -> Self {
        self.only_null = Some(entity);
        self
    }
}

impl Record {
    /// Defines a record without rules over several fields.
    pub(crate) const fn of(fields: &'static [Field]) -> Self {
        Self {
            fields,
            check: no_check,
        }
    }
}

/// For entities and records without rules over several fields.
pub(crate) fn no_check(_: &mut Scope<'_, '_>) {}

impl Kind {
    /// Any text.
    pub(crate) const TEXT: Self = Self::Text(&format::ANY);
    /// A port as Kong takes it.
    pub(crate) const PORT: Self = Self::Integer { min: 0, max: 65535 };
    /// A time in seconds since 1970, as `created_at` has it.
    pub(crate) const TIMESTAMP: Self = Self::Number { min: 0, max: 1 << 52 };
    /// Labels.
    pub(crate) const TAGS: Self = Self::List {
        of: &Self::Text(&format::TAG),
        min: 0,
        is_set: true,
    };

    /// Says whether a value is written as text, so that a flag's value is taken as it stands.
    pub(crate) fn is_text(&self) -> bool {
        matches!(
            self,
            Self::Text(_) | Self::Choice { .. } | Self::Duration { .. } | Self::Reference(_)
        )
    }

    /// Returns the kind of entity that a value refers to, by Kong's name in the plural.
    pub(crate) fn refers_to(&self) -> Option<&'static str> {
        match self {
            Self::Reference(entity) => Some(entity),
            _ => None,
        }
    }

    /// Says whether a value refers to an entity.
    pub(crate) fn is_reference(&self) -> bool {
        self.refers_to().is_some()
    }

    /// Returns the fields in it, if it has fixed ones.
    pub(crate) fn fields(&self) -> Option<&'static [Field]> {
        match self {
            Self::Record(record) | Self::RecordOrFalse(record) => Some(record.fields),
            _ => None,
        }
    }
}

/// The field that every entity has: its identity.
pub(crate) const ID: Field = Field::new(
    "id",
    Kind::Text(&format::UUID),
    "Identity. When left out it follows from the name (UUID version 5, by Kong's scheme), so it stays the same over reloads.",
)
.made(Made::Id);
/// Labels.
pub(crate) const TAGS: Field = Field::new(
    "tags",
    Kind::TAGS,
    "Labels for the operator's use; Serin does not read them.",
);
/// When the entity was made.
pub(crate) const CREATED_AT: Field = Field::new(
    "created_at",
    Kind::TIMESTAMP,
    "When the entity was made, in seconds since 1970.",
)
.made(Made::Seconds);
/// When the entity was last changed.
pub(crate) const UPDATED_AT: Field = Field::new(
    "updated_at",
    Kind::TIMESTAMP,
    "When the entity was last changed, in seconds since 1970.",
)
.made(Made::Seconds);

/// Keys that may stand at the top of a file, besides the entities.
pub(crate) static TOP_LEVEL: [Field; 6] = [
    Field::new(
        "_format_version",
        Kind::TEXT,
        "Version of the format; \"3.0\", with quotes.",
    )
    .required(),
    Field::new(
        "_transform",
        Kind::Boolean,
        "Whether the passwords of basicauth_credentials are still to be hashed, as in a file written by hand; with false they are SHA-1 hashes already, as Kong stores them.",
    )
    .or(|| Value::Bool(true)),
    Field::new("_info", Kind::Any, "decK's notes about the file; not read."),
    COMMENT,
    IGNORE,
    Field::new(
        "server",
        Kind::Record(&server::SERVER),
        "Settings of the process: listeners, limits, timeouts.",
    ),
];
/// A remark; allowed wherever an entity is.
pub(crate) const COMMENT: Field = Field::new("_comment", Kind::TEXT, "A remark; not read.");
/// A place for things Kong shall not read; allowed wherever an entity is.
pub(crate) const IGNORE: Field = Field::new(
    "_ignore",
    Kind::List {
        of: &Kind::Any,
        min: 0,
        is_set: false,
    },
    "Anything at all; not read.",
);
/// The two fields that every entity may have without being part of it.
pub(crate) static REMARKS: [Field; 2] = [COMMENT, IGNORE];

/// Checks an entity by itself, for tests elsewhere: its canonical values, or what is wrong.
#[cfg(test)]
pub(crate) fn canonical(
    entity: &'static Entity,
    value: &Value,
) -> Result<serde_json::Map<String, Value>, Vec<super::Problem>> {
    let sources = super::mark::Sources(Vec::new());
    let mut checker = super::check::Checker::new(&sources, Vec::new());
    let at = super::at::At {
        value,
        mark: None,
        path: super::at::Path::ROOT,
    };
    let checked = checker.entity(entity, None, at);
    match checked {
        Some(checked) if !checker.has_errors() => Ok(checked.values),
        _ => Err(checker.finish()),
    }
}
