//! Kong's Admin API as it is on the wire: bodies, answers, errors, pages, schemas.
//!
//! Everything here is read off the one table in [`crate::config::schema`], and nothing here keeps state,
//! routes a request or asks for the time. An entity is a map in the form in which the check returns it:
//! defaults filled in, nothing null, a reference the id as text.

pub(crate) mod body;
pub(crate) mod form;
mod lua;
pub(crate) mod openapi;
pub(crate) mod page;
mod problems;
pub(crate) mod refusal;
pub(crate) mod schemas;
