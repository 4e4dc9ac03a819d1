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

/// A part of the traffic in basis points: 0 to 10 000, that is 0 % to 100 % in steps of 0.01 %.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u16);

impl Share {
    /// Basis points of the whole.
    pub const WHOLE: u16 = 10_000;
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// Everybody.
    pub const ALL: Self = Self(Self::WHOLE);

    /// Takes basis points, or `None` when there are more than [`Share::WHOLE`].
    pub const fn new(basis_points: u16) -> Option<Self> {
        match basis_points {
            0..=Self::WHOLE => Some(Self(basis_points)),
            _ => None,
        }
    }

    /// Returns the basis points.
    pub const fn basis_points(self) -> u16 {
        self.0
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, hundredths) = (self.0 / 100, self.0 % 100);
        match (hundredths, hundredths % 10) {
            (0, _) => write!(f, "{whole} %"),
            (_, 0) => write!(f, "{whole}.{} %", hundredths / 10),
            _ => write!(f, "{whole}.{hundredths:02} %"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_at_most_the_whole_and_prints_in_percent() {
        assert_eq!(Share::new(10_001), None);
        for (basis_points, text) in [
            (0, "0 %"),
            (1, "0.01 %"),
            (50, "0.5 %"),
            (2500, "25 %"),
            (9999, "99.99 %"),
            (10_000, "100 %"),
        ] {
            assert_eq!(Share::new(basis_points).unwrap().to_string(), text);
        }
    }
}
