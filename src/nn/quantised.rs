//! Symmetric 8-bit quantisation per output channel, the format in which bundles store kernels that it
//! represents exactly: element = level * scale of its channel, with whole levels from -127 to 127. The
//! channel is the last axis of a kernel, as in Keras.

/// Largest magnitude of a level. It leaves out -128, so that the levels are symmetric.
const LARGEST: f32 = i8::MAX as f32;

/// The levels of a tensor and the scales of its channels.
#[derive(Debug, PartialEq)]
pub struct Quantised {
    /// One per element, in the order of the elements.
    pub levels: Vec<i8>,
    /// One per channel: the channel's largest magnitude divided by 127.
    pub scales: Vec<f32>,
}

/// Returns the elements, `levels[i] * scales[i % scales.len()]`; none if there is no scale.
pub fn widen(levels: impl ExactSizeIterator<Item = i8>, scales: &[f32]) -> Vec<f32> {
    let mut elements = Vec::with_capacity(levels.len());
    elements.extend(
        levels
            .zip(scales.iter().cycle())
            .map(|(level, scale)| f32::from(level) * scale),
    );
    elements
}

/// Returns the levels and scales that give exactly these elements, including the sign of zero, or `None`.
/// `channels` is the length of the last axis.
pub fn narrow(elements: &[f32], channels: usize) -> Option<Quantised> {
    if channels == 0 || !elements.len().is_multiple_of(channels) {
        return None;
    }
    // The compiler vectorises the loops over a row: they have no early end, and no call of a rounding function.
    let rows = || elements.chunks_exact(channels);
    let mut scales = vec![0f32; channels];
    for row in rows() {
        for (scale, x) in scales.iter_mut().zip(row) {
            *scale = scale.max(x.abs());
        }
    }
    scales.iter_mut().for_each(|scale| *scale /= LARGEST);
    let is_exact = |row: &[f32]| {
        let elements = row.iter().zip(&scales);
        elements.fold(true, |all, (&x, &scale)| {
            let product = (biased_level(x, scale) - BIAS) * scale;
            // `==` refuses NaN; the comparison of bits also refuses a zero of the other sign.
            all & (product == x) & (product.to_bits() == x.to_bits())
        })
    };
    if !rows().all(is_exact) {
        return None;
    }
    let mut levels = Vec::with_capacity(elements.len());
    for row in rows() {
        let row = row.iter().zip(&scales);
        // The last bits of the sum are those of the level.
        levels.extend(row.map(|(&x, &scale)| biased_level(x, scale).to_bits() as i8));
    }
    Some(Quantised { levels, scales })
}

/// 1.5 * 2^23. Floats between 2^23 and 2^24 have no fractional bits, so a sum with it is rounded to a whole number.
const BIAS: f32 = 12_582_912.0;

/// Returns [`BIAS`] plus the whole number of scales that is nearest to `x`, whose magnitude is at most 127 scales.
#[inline(always)]
fn biased_level(x: f32, scale: f32) -> f32 {
    // A channel of zeros has the scale 0. Any other number in its place gives the level 0.
    let scale = if scale == 0.0 { 1.0 } else { scale };
    x / scale + BIAS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The product of a scale of 17 significant bits and a level of 7 is exact.
        #[test]
        fn levels_of_short_scales_come_back(
            scales in prop::collection::vec((1u32..1 << 17, -140i32..80), 1..5),
            rows in prop::collection::vec(prop::collection::vec(-127i8..=127, 5), 0..9),
        ) {
            let scales: Vec<f32> = scales.iter().map(|&(m, e)| m as f32 * (e as f32).exp2()).collect();
            let channels = scales.len();
            let mut levels: Vec<i8> = rows.iter().flat_map(|row| &row[..channels]).copied().collect();
            // Every channel uses the largest level.
            levels.extend(vec![-127; channels]);
            let elements = widen(levels.iter().copied(), &scales);
            prop_assert_eq!(narrow(&elements, channels), Some(Quantised { levels, scales }));
        }

        /// [`widen`] gives the bits that [`narrow`] read.
        #[test]
        fn nothing_is_lost(bits in prop::collection::vec(any::<u32>(), 0..9), channels in 0usize..4) {
            let elements: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
            if let Some(Quantised { levels, scales }) = narrow(&elements, channels) {
                let back = widen(levels.into_iter(), &scales);
                prop_assert_eq!(back.len(), elements.len());
                for (a, b) in elements.iter().zip(back) {
                    prop_assert_eq!(a.to_bits(), b.to_bits());
                }
            }
        }
    }

    #[test]
    fn other_elements_have_no_levels() {
        for x in [
            [1.0, 0.1],
            [127.0, 0.5],
            [f32::INFINITY, 1.0],
            [f32::NAN, 1.0],
            [127.0, -0.0],
        ] {
            assert_eq!(narrow(&x, 1), None, "{x:?}");
        }
    }

    #[test]
    fn channels_of_zeros_have_scale_zero() {
        let quantised = narrow(&[0.0, 127.0, 0.0, -3.0], 2).unwrap();
        assert_eq!(quantised.levels, [0, 127, 0, -3]);
        assert_eq!(quantised.scales, [0.0, 1.0]);
    }

    #[test]
    fn a_number_of_elements_must_fit_the_channels() {
        assert_eq!(narrow(&[1.0, 2.0, 3.0], 2), None);
        assert_eq!(narrow(&[1.0], 0), None);
    }
}
