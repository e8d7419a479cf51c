//! Pairwise summation in numpy's order, so that means and deviations match numpy to the last bit.
//!
//! Method: numpy `pairwise_sum_DOUBLE` (numpy/core/src/umath/loops.c.src, 1.16): up to 128 terms in
//! eight interleaved sums; longer ranges are halved at a multiple of eight.

/// Maximum number of terms that are summed without halving.
const BLOCK: usize = 128;
/// Number of interleaved sums within a block.
const LANES: usize = 8;

/// Largest number of nested halvings; no memory holds the 2^39 values that need more.
const MAX_DEPTH: usize = 32;

/// Returns the sum of `term(x)` over `values`. The error grows with the logarithm of their number.
#[inline(always)]
pub(super) fn sum<T: Copy>(values: &[T], term: impl Fn(T) -> f64 + Copy) -> f64 {
    if values.len() <= BLOCK {
        return sum_block(values, term);
    }
    // Not recursive, so that a kernel compiles it for its instruction set. The sums of finished
    // ranges, with their numbers of halvings; those of equal depth side by side are two halves.
    let mut sums = [(0.0, 0); MAX_DEPTH];
    let mut finished = 0;
    let mut waiting = [(values, 0); MAX_DEPTH];
    let mut remaining = 1;
    while remaining > 0 {
        let (mut part, mut depth) = waiting[remaining - 1];
        remaining -= 1;
        while part.len() > BLOCK {
            let half = part.len() / 2;
            let (left, right) = part.split_at(half - half % LANES);
            depth += 1;
            waiting[remaining] = (right, depth);
            remaining += 1;
            part = left;
        }
        let mut sum = sum_block(part, term);
        while finished > 0 && sums[finished - 1].1 == depth {
            sum += sums[finished - 1].0;
            finished -= 1;
            depth -= 1;
        }
        sums[finished] = (sum, depth);
        finished += 1;
    }
    sums[0].0
}

/// Returns the sum over at most [`BLOCK`] values.
#[inline(always)]
fn sum_block<T: Copy>(values: &[T], term: impl Fn(T) -> f64) -> f64 {
    if values.len() < LANES {
        let mut sum = 0.0;
        for &x in values {
            sum += term(x);
        }
        return sum;
    }
    let (groups, rest) = values.as_chunks::<LANES>();
    let mut r = [0.0; LANES];
    for group in groups {
        for (r, &x) in r.iter_mut().zip(group) {
            *r += term(x);
        }
    }
    let mut all = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    for &x in rest {
        all += term(x);
    }
    all
}

/// Returns the mean and population deviation of `values`, in numpy's order of operations.
#[inline(always)]
pub(super) fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = sum(values, |x| x) / n;
    let variance = sum(values, |x| (x - mean) * (x - mean)) / n;
    (mean, variance.sqrt())
}

/// Returns the common value of `values` if all are equal.
///
/// The deviation cannot show this: for equal values it may round to a tiny number instead of 0.
pub(super) fn constant<T: Copy + PartialEq>(values: &[T]) -> Option<T> {
    let (&first, rest) = values.split_first()?;
    rest.iter().all(|&x| x == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.sum` of the test's values for lengths around the block sizes, as bits. From 100 terms
    /// on, a sequential sum differs from each.
    const NUMPY_SUMS: [(usize, u64); 8] = [
        (5, 0x400a_4444_4444_4445),
        (8, 0x4013_457c_57c5_7c58),
        (100, 0x4041_57fb_fc8b_2249),
        (128, 0x4045_aaa4_905d_b6c8),
        (129, 0x4045_c53c_2def_6042),
        (300, 0x4057_fee3_f70b_3633),
        (1000, 0x4073_32f7_b04b_06cc),
        (4999, 0x4097_91fa_2c19_96c5),
    ];

    #[test]
    fn sums_like_numpy() {
        let x: Vec<f64> = (0..5000)
            .map(|i| 0.1 * f64::from(i % 7) + 1.0 / f64::from(i + 1))
            .collect();
        for (n, bits) in NUMPY_SUMS {
            assert_eq!(sum(&x[..n], |v| v).to_bits(), bits, "{n} terms");
        }
    }

    #[test]
    fn finds_the_common_value() {
        assert_eq!(constant::<f64>(&[]), None);
        assert_eq!(constant(&[0.1; 9]), Some(0.1));
        assert_eq!(constant(&[0.1, 0.1, 0.2]), None);
    }
}
