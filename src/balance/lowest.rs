//! The candidate with the lowest score, where equals take turns.

use std::cmp::Ordering;

use super::{Candidate, Index};

/// Returns the candidate with the lowest score; none when none has a score.
///
/// Of `ties` candidates that share the lowest score, the one is picked that stands at `position`
/// modulo `ties` among them: positions in a row with the same ties give each the same number of
/// picks. Merely starting the search elsewhere would not: of three candidates of which the first and
/// the last are tied, the last would also be met from the second's place.
///
/// One pass over the candidates, and a second one up to the pick where several are tied. Scores may
/// change between the two (loads are read live); the answer then had the lowest score a moment ago.
pub(super) fn pick_lowest<S: Ord + Copy>(
    candidates: &[Candidate],
    position: u64,
    score: impl Fn(&Candidate) -> Option<S>,
) -> Option<Index> {
    let mut best: Option<(S, Index)> = None;
    let mut ties: u64 = 0;
    for candidate in candidates {
        let Some(score) = score(candidate) else { continue };
        match best.map_or(Ordering::Less, |(lowest, _)| score.cmp(&lowest)) {
            Ordering::Less => {
                best = Some((score, candidate.index));
                ties = 1;
            }
            Ordering::Equal => ties += 1,
            Ordering::Greater => {}
        }
    }
    let (lowest, first) = best?;
    let turn = position.checked_rem(ties).filter(|turn| *turn > 0);
    let Some(turn) = turn else { return Some(first) };
    candidates
        .iter()
        .filter(|candidate| score(candidate) == Some(lowest))
        .map(|candidate| candidate.index)
        .take(usize::try_from(turn).unwrap_or(usize::MAX).saturating_add(1))
        .last()
        .or(Some(first))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::candidates;
    use super::*;

    /// Picks at each position; a score of `None` takes the candidate out.
    fn check(scores: &[Option<u32>], positions: std::ops::Range<u64>, expected: &[Index]) {
        let all = candidates(&vec![1; scores.len()]);
        let picks: Vec<_> = positions
            .filter_map(|position| pick_lowest(&all, position, |candidate| scores[candidate.index]))
            .collect();
        assert_eq!(picks, expected, "{scores:?}");
    }

    #[test]
    fn the_lowest_is_picked_at_every_position() {
        check(&[Some(2), Some(1), Some(3)], 0..3, &[1, 1, 1]);
        check(&[None, Some(9), None], 5..7, &[1, 1]);
        check(&[None, None], 0..2, &[]);
        check(&[], 0..2, &[]);
    }

    #[test]
    fn equals_take_turns_whoever_stands_between_them() {
        check(&[Some(1), Some(1), Some(1)], 0..6, &[0, 1, 2, 0, 1, 2]);
        check(&[Some(1), Some(2), Some(1)], 0..4, &[0, 2, 0, 2]);
        check(&[None, Some(1), Some(7), Some(1)], 0..4, &[1, 3, 1, 3]);
    }

    #[test]
    fn a_score_that_changes_meanwhile_does_not_leave_the_request_without_a_pick() {
        let all = candidates(&[1, 1, 1]);
        let asked = Cell::new(0);
        let rising = |_: &Candidate| {
            asked.set(asked.get() + 1);
            Some(if asked.get() <= 3 { 0 } else { asked.get() })
        };
        assert_eq!(pick_lowest(&all, 2, rising), Some(0));
    }
}
