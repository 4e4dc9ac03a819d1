//! A hash table of positions: what a directory of many finds its entries by.
//!
//! It holds neither keys nor values, only where in a list they stand: 8 to 16 bytes for each entry,
//! where a map of the standard library would hold every key a second time. The caller hashes (under a
//! key that nobody knows) and compares.

use std::num::NonZeroU32;

/// Positions in a list, found by hash. Open addressing, at most half full, so that a look-up ends
/// after one or two steps, however many entries there are.
#[derive(Default)]
pub struct Table {
    /// One more than a position; the length is 0 or a power of two.
    slots: Box<[Option<NonZeroU32>]>,
}

impl Table {
    /// Builds the table over a list, of whose entries these are the hashes, in order.
    ///
    /// # Panics
    ///
    /// With 2^32 - 1 entries or more: no configuration holds as many.
    pub fn build(hashes: impl ExactSizeIterator<Item = u64>) -> Self {
        if hashes.len() == 0 {
            return Self::default();
        }
        let mut slots = vec![None; (hashes.len() * 2).next_power_of_two()].into_boxed_slice();
        for (position, hash) in hashes.enumerate() {
            let mut slot = slot_of(hash, slots.len());
            while slots[slot].is_some() {
                slot = slot_of(slot as u64 + 1, slots.len());
            }
            let number = u32::try_from(position + 1).expect("fewer than 2^32 entries");
            slots[slot] = NonZeroU32::new(number);
        }
        Self { slots }
    }

    /// Returns the position of the first entry of this hash that `is_it`.
    pub fn find(&self, hash: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut slot = slot_of(hash, self.slots.len());
        // Half of the slots are empty, so this ends.
        while let Some(number) = self.slots[slot] {
            let position = number.get() as usize - 1;
            if is_it(position) {
                return Some(position);
            }
            slot = slot_of(slot as u64 + 1, self.slots.len());
        }
        None
    }
}

fn slot_of(hash: u64, count: usize) -> usize {
    hash as usize & (count - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hashes: &[u64]) {
        let table = Table::build(hashes.iter().copied());
        for (position, hash) in hashes.iter().enumerate() {
            assert_eq!(table.find(*hash, |found| found == position), Some(position));
            assert_eq!(table.find(*hash, |_| false), None);
        }
        assert_eq!(
            table.find(u64::MAX - 7, |found| hashes[found] == u64::MAX - 7),
            None
        );
    }

    #[test]
    fn every_entry_is_found() {
        check(&[]);
        check(&[0]);
        check(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        check(
            &(0..1000_u64)
                .map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
                .collect::<Vec<_>>(),
        );
    }

    #[test]
    fn entries_of_one_hash_stand_side_by_side_around_the_end() {
        check(&[7; 7]);
        check(&[u64::MAX, u64::MAX, 0, 1]);
    }

    #[test]
    fn of_equal_entries_the_first_is_found() {
        let table = Table::build([5, 5].into_iter());
        assert_eq!(table.find(5, |_| true), Some(0));
    }
}
