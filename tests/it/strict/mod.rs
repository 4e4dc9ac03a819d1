//! HTTP to the letter: what is refused, what is put straight, and that no bytes end up with another client.

mod corpus;
mod fields;
mod generated;
mod origin;
mod reader;
mod responses;
mod versions;
