//! How a change takes effect: the one door through which files, signals and the Admin API come.
//!
//! A change is a plan made on the entities in force. Plans that wait together become one candidate; it is
//! built, then committed to the store, then published, in this order, so that nothing is served that does
//! not last and nothing lasts that cannot be served. A plan that is refused, by itself or because the
//! candidate cannot be built, changes nothing and takes no other with it.
//!
//! Left to others: what a file says (`config`), what clients of the Admin API want (`admin`), where
//! entities outlive the process (`store`).

mod difference;
mod door;
mod fit;
mod gather;
mod keeper;
mod merge;
mod record;
mod refused;

pub(crate) use self::difference::differences;
pub(crate) use self::door::{Author, Door, Paused, WriteError};
pub use self::keeper::{Keeper, View};
pub use self::refused::{RefusedError, Unbuildable};
