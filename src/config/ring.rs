//! What `serin check` says of rings: shares that are coarse, and rings too large to be built.
//!
//! Both are allowed. A ring with few points splits by chance, and one that is too large is none: requests are
//! spread by round robin instead (`balance/ring.rs`).

use serde_json::Value;

use super::check::Checker;
use super::identity::Identities;
use super::rows::Row;
use crate::balance::{MAX_POINTS, points_per_weight};

/// With fewer points a target's share is off by more than a tenth of itself: 1/√100.
const FEW_POINTS: u64 = 100;

/// Warns of each Upstream's ring. The addresses that a name stands for are not known here: each Target counts
/// once.
pub(super) fn warn(rows: &[Row], identities: &Identities, checker: &mut Checker<'_>) {
    if rows.iter().all(|row| points_of(row).is_none()) {
        return;
    }
    let mut targets: Vec<Vec<(&Row, u64)>> = vec![Vec::new(); rows.len()];
    for (row, reference) in rows.iter().zip(&identities.references) {
        if let (Some(upstream), "targets") = (reference, row.entity.name)
            && let Some(weight @ 1..) = row.values.get("weight").and_then(Value::as_u64)
        {
            targets[*upstream].push((row, weight));
        }
    }
    for (row, targets) in rows.iter().zip(targets) {
        if let Some(points) = points_of(row) {
            warn_of_ring(row, &targets, points, checker);
        }
    }
}

/// Returns the points of each unit of weight, if this is an Upstream that has a ring.
fn points_of(row: &Row) -> Option<u64> {
    let text = |field: &str| row.values.get(field).and_then(Value::as_str);
    let is_ring = row.entity.name == "upstreams"
        && text("algorithm") == Some("consistent-hashing")
        && text("hash_on").is_some_and(|input| input != "none");
    if !is_ring {
        return None;
    }
    let slots = row.values.get("slots").and_then(Value::as_u64)?;
    Some(points_per_weight(u32::try_from(slots).unwrap_or(u32::MAX)).into())
}

fn warn_of_ring(row: &Row, targets: &[(&Row, u64)], points: u64, checker: &mut Checker<'_>) {
    let total = targets.iter().map(|(_, weight)| weight * points).sum::<u64>();
    if total > MAX_POINTS {
        checker.warn(
            row.span_of("name"),
            &row.path,
            format!("a ring of {total} points, {MAX_POINTS} is the most: requests are spread by round-robin"),
            Some("lower `slots`, or divide all weights by one number".to_owned()),
        );
        return;
    }
    // The first of the lightest. With one target there is nothing to share.
    let Some((lightest, weight)) = targets.iter().min_by_key(|(_, weight)| *weight) else {
        return;
    };
    let few = weight * points;
    if targets.len() < 2 || few >= FEW_POINTS {
        return;
    }
    let percent = (100.0 / (few as f64).sqrt()).round();
    let factor = FEW_POINTS.div_ceil(few);
    checker.warn(
        lightest.span_of("weight"),
        format!("{}.weight", lightest.path),
        format!("few points on the ring, {few}: this share will be off by about {percent} % of itself"),
        Some(format!(
            "multiply all weights of the upstream by {factor} or more; a unit of weight has `slots` / 625 points, here {points}"
        )),
    );
}
