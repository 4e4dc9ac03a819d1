//! Numbers with a range, parsed once so that nobody has to check them again.

use std::num::NonZeroU16;

/// The weight of a Target: 0 to 65535, default 100 (Kong's `targets.weight`).
///
/// Weight 0 means "out of rotation", not "very rarely". A selector therefore never takes a
/// `Weight`: it takes what [`Weight::active`] returns, and a zero cannot reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u16);

impl Weight {
    /// Takes any `u16`: the whole range of the type is the range of a weight.
    pub const fn new(weight: u16) -> Self {
        Self(weight)
    }

    /// Returns the weight a selector may use, or `None` when the Target is out of rotation.
    pub const fn active(self) -> Option<NonZeroU16> {
        NonZeroU16::new(self.0)
    }

    /// Returns the number as configured, zero included.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(100)
    }
}
