//! Means and standard deviations.

use crate::prediction::Estimate;

/// Mean of each of `width` columns, summed in `f64` in row order.
pub fn column_means(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; width];
    for row in rows.chunks_exact(width) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum += f64::from(x);
        }
    }
    let count = (rows.len() / width) as f64;
    sums.into_iter().map(|s| (s / count) as f32).collect()
}

/// Mean and sample standard deviation of each of `width` columns.
pub fn estimates<T: Copy + Into<f64>>(rows: &[T], width: usize) -> Vec<Estimate> {
    (0..width)
        .map(|c| {
            let column: Vec<f64> = rows.chunks_exact(width).map(|row| row[c].into()).collect();
            Estimate {
                mean: mean(&column),
                std: sample_deviation(&column),
            }
        })
        .collect()
}

/// Arithmetic mean.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample standard deviation, with divisor `n - 1`; 0 for a single value.
pub fn sample_deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}
