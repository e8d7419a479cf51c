//! Quality measures, each a pure function of counts or pairs of values.

use serde::Serialize;

use crate::nn::dropout::philox4x32;
use crate::prediction::AgeInterval;

/// Confusion matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// Labels in the model's order.
    pub labels: Vec<String>,
    /// Number of recordings, `counts[truth][prediction]`.
    pub counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// Creates a matrix of zeros.
    pub fn new(labels: &[String]) -> Self {
        Self {
            labels: labels.to_vec(),
            counts: vec![vec![0; labels.len()]; labels.len()],
        }
    }

    /// Counts one recording.
    ///
    /// # Panics
    /// When `truth` or `prediction` is not the index of a label.
    pub fn add(&mut self, truth: usize, prediction: usize) {
        self.counts[truth][prediction] += 1;
    }

    /// Adds the counts of another matrix of the same labels.
    pub fn add_all(&mut self, other: &Self) {
        for (row, others) in self.counts.iter_mut().zip(&other.counts) {
            for (count, other) in row.iter_mut().zip(others) {
                *count += other;
            }
        }
    }

    /// Returns the number of recordings.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Returns the number of recordings with the true label `truth`.
    pub fn count(&self, truth: usize) -> u64 {
        self.counts[truth].iter().sum()
    }

    /// Returns the recall of each true label; `None` for a label without recordings.
    pub fn recalls(&self) -> Vec<Option<f64>> {
        let recall = |truth: usize| ratio(self.counts[truth][truth], self.count(truth));
        (0..self.counts.len()).map(recall).collect()
    }

    /// Returns the unweighted average recall: the mean recall of the labels that occur.
    pub fn uar(&self) -> Option<f64> {
        let recalls: Vec<f64> = self.recalls().into_iter().flatten().collect();
        (!recalls.is_empty()).then(|| recalls.iter().sum::<f64>() / recalls.len() as f64)
    }

    /// Returns the share of correct predictions over all recordings (weighted accuracy).
    pub fn accuracy(&self) -> Option<f64> {
        let right = (0..self.counts.len()).map(|i| self.counts[i][i]).sum();
        ratio(right, self.total())
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Number of equal bins of the largest weight.
pub const BINS: usize = 15;

/// Agreement of the largest weight with the accuracy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error: the mean over all recordings of the distance between accuracy
    /// and mean weight in their bin (Guo et al., "On calibration of modern neural networks", ICML
    /// 2017).
    pub expected_error: f64,
    /// Mean largest weight over all recordings.
    pub confidence: f64,
    /// Share of correct predictions over all recordings.
    pub accuracy: f64,
    /// Reliability table.
    pub bins: Vec<Bin>,
}

/// Recordings whose largest weight is in `[from, to)`; the last bin includes 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bin {
    /// Lower bound.
    pub from: f64,
    /// Upper bound.
    pub to: f64,
    /// Number of recordings.
    pub count: u64,
    /// Mean largest weight; `None` for an empty bin.
    pub confidence: Option<f64>,
    /// Share of correct predictions; `None` for an empty bin.
    pub accuracy: Option<f64>,
}

/// Returns the calibration of pairs `(largest weight, is correct)`; `None` without pairs.
pub fn calibration(predictions: &[(f64, bool)]) -> Option<Calibration> {
    if predictions.is_empty() {
        return None;
    }
    let mut counts = [(0u64, 0.0f64, 0u64); BINS];
    for &(weight, right) in predictions {
        let bin = ((weight * BINS as f64) as usize).min(BINS - 1);
        let (count, weights, rights) = &mut counts[bin];
        *count += 1;
        *weights += weight;
        *rights += u64::from(right);
    }
    let n = predictions.len() as f64;
    let bins: Vec<Bin> = counts
        .iter()
        .enumerate()
        .map(|(i, &(count, weights, rights))| Bin {
            from: i as f64 / BINS as f64,
            to: (i + 1) as f64 / BINS as f64,
            count,
            confidence: (count > 0).then(|| weights / count as f64),
            accuracy: ratio(rights, count),
        })
        .collect();
    let gaps = counts
        .iter()
        .map(|&(_, weights, rights)| (rights as f64 - weights).abs());
    Some(Calibration {
        expected_error: gaps.sum::<f64>() / n,
        confidence: counts.iter().map(|c| c.1).sum::<f64>() / n,
        accuracy: counts.iter().map(|c| c.2).sum::<u64>() as f64 / n,
        bins,
    })
}

/// Errors of predicted ages, in years.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgeError {
    /// Number of recordings.
    pub recordings: u64,
    /// Mean absolute error.
    pub mean_absolute: f64,
    /// Median absolute error.
    pub median_absolute: f64,
    /// Mean of prediction minus truth; positive if speakers are estimated too old.
    pub bias: f64,
    /// 95 % bootstrap interval of `mean_absolute` over speakers; `None` for fewer than two.
    pub mean_absolute_interval: Option<[f64; 2]>,
}

/// Returns the errors of `(true, predicted)` ages; `None` without pairs.
pub fn age_error(ages: &[(f64, f64)]) -> Option<AgeError> {
    if ages.is_empty() {
        return None;
    }
    let n = ages.len();
    let mut distances: Vec<f64> = ages.iter().map(|(t, e)| (e - t).abs()).collect();
    distances.sort_by(f64::total_cmp);
    Some(AgeError {
        recordings: n as u64,
        mean_absolute: distances.iter().sum::<f64>() / n as f64,
        median_absolute: (distances[(n - 1) / 2] + distances[n / 2]) / 2.0,
        bias: ages.iter().map(|(t, e)| e - t).sum::<f64>() / n as f64,
        mean_absolute_interval: None,
    })
}

/// Shares of the recordings with the most confident predictions.
const COVERAGES: [f64; 4] = [0.5, 0.7, 0.9, 1.0];

/// Accuracy of the most confident predictions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CoveragePoint {
    /// Share of the recordings.
    pub coverage: f64,
    /// Number of recordings.
    pub recordings: u64,
    /// Smallest of their largest weights.
    pub least_weight: f64,
    /// Share of correct predictions among them.
    pub accuracy: f64,
}

/// Returns the accuracy at each coverage of pairs `(largest weight, is correct)`; empty without
/// pairs. Earlier pairs rank first among equal weights.
pub fn coverage(predictions: &[(f64, bool)]) -> Vec<CoveragePoint> {
    let mut order = predictions.to_vec();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let at = |coverage: f64| {
        let count = (coverage * order.len() as f64).ceil() as usize;
        let most_confident = &order[..count];
        Some(CoveragePoint {
            coverage,
            recordings: count as u64,
            least_weight: most_confident.last()?.0,
            accuracy: most_confident.iter().filter(|a| a.1).count() as f64 / count as f64,
        })
    };
    COVERAGES.into_iter().filter_map(at).collect()
}

/// Coverage and width of predicted age intervals.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IntervalQuality {
    /// Number of recordings.
    pub recordings: u64,
    /// Share of true ages inside their intervals.
    pub coverage: f64,
    /// Coverage that the model claims.
    pub stated: f64,
    /// Mean width in years.
    pub mean_width: f64,
}

/// Returns the quality of the intervals of true ages; `None` without ages.
pub fn interval_quality(ages: &[(f64, AgeInterval)]) -> Option<IntervalQuality> {
    let n = ages.len() as f64;
    let inside = ages.iter().filter(|(t, i)| (i.low..=i.high).contains(t));
    let inside = inside.count();
    let stated = ages.first()?.1.coverage;
    Some(IntervalQuality {
        recordings: ages.len() as u64,
        coverage: inside as f64 / n,
        stated,
        mean_width: ages.iter().map(|(_, i)| i.high - i.low).sum::<f64>() / n,
    })
}

/// Number of bootstrap samples.
const RESAMPLES: u32 = 2_000;
/// Philox key of the bootstrap, fixed for reproducible intervals on every machine.
const KEY: [u32; 2] = [2_020, 95];

/// Returns the 95 % interval of the unweighted average recall over speakers; `None` for fewer than
/// two.
///
/// The method is a percentile bootstrap that draws speakers with replacement. A speaker's recordings stay
/// together because they are correlated.
pub fn uar_interval(speakers: &[Confusion]) -> Option<[f64; 2]> {
    interval(speakers, |drawn| {
        let mut all = Confusion::new(&speakers[0].labels);
        drawn.for_each(|confusion| all.add_all(confusion));
        all.uar()
    })
}

/// Returns the 95 % interval of the mean absolute age error over speakers, as [`uar_interval`]
/// does; each speaker has pairs of true and predicted ages.
pub fn age_error_interval(speakers: &[Vec<(f64, f64)>]) -> Option<[f64; 2]> {
    let sums = speakers.iter().filter(|ages| !ages.is_empty()).map(|ages| {
        let sum: f64 = ages.iter().map(|(t, e)| (e - t).abs()).sum();
        (sum, ages.len() as f64)
    });
    interval(&sums.collect::<Vec<_>>(), |drawn| {
        let (sum, count) = drawn.fold((0.0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1));
        Some(sum / count)
    })
}

/// Returns the central 95 % of a statistic over bootstrap samples of the speakers.
fn interval<T>(
    speakers: &[T],
    statistic: impl Fn(&mut dyn Iterator<Item = &T>) -> Option<f64>,
) -> Option<[f64; 2]> {
    if speakers.len() < 2 {
        return None;
    }
    let mut values: Vec<f64> = (0..RESAMPLES)
        .filter_map(|sample| {
            let mut drawn = (0..speakers.len()).map(|place| {
                let counter = [place as u32, sample, 0, 0];
                let word = u64::from(philox4x32(counter, KEY)[0]);
                &speakers[((word * speakers.len() as u64) >> 32) as usize]
            });
            statistic(&mut drawn)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[(share * (values.len() - 1) as f64).round() as usize];
    (!values.is_empty()).then(|| [at(0.025), at(0.975)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounding error of a sum of few values around 1.
    const ROUNDING: f64 = 1e-12;

    fn labels(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("label {i}")).collect()
    }

    fn confusion(counts: &[&[u64]]) -> Confusion {
        Confusion {
            labels: labels(counts.len()),
            counts: counts.iter().map(|row| row.to_vec()).collect(),
        }
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < ROUNDING, "{a} {b}");
    }

    #[test]
    fn unweighted_average_recall_counts_labels_not_recordings() {
        // The recalls are 3/4, 1/2, none and 0; 4 of 7 recordings are correct.
        let c = confusion(&[&[3, 1, 0, 0], &[0, 1, 1, 0], &[0, 0, 0, 0], &[0, 0, 1, 0]]);
        assert_eq!(c.recalls(), [Some(0.75), Some(0.5), None, Some(0.0)]);
        close(c.uar().unwrap(), 1.25 / 3.0);
        close(c.accuracy().unwrap(), 4.0 / 7.0);
        assert_eq!(Confusion::new(&labels(3)).uar(), None);
        assert_eq!(Confusion::new(&labels(3)).accuracy(), None);
    }

    #[test]
    fn rows_of_the_confusion_are_the_truth() {
        let mut c = Confusion::new(&labels(2));
        for (truth, prediction) in [(0, 1), (0, 1), (1, 1), (0, 0)] {
            c.add(truth, prediction);
        }
        assert_eq!(c.counts, [[1, 2], [0, 1]]);
        let mut twice = c.clone();
        twice.add_all(&c);
        assert_eq!(twice.counts, [[2, 4], [0, 2]]);
        assert_eq!((twice.total(), twice.count(0)), (8, 6));
    }

    #[test]
    fn calibration_weighs_bins_by_their_recordings() {
        // Bin 9 is [0.6, 0.666..) with weights 0.61 and 0.65, one correct: gap |1 - 1.26|. The last
        // bin holds 1.0 (correct) and 0.95 (wrong): gap |1 - 1.95|.
        let c = calibration(&[(0.61, true), (1.0, true), (0.65, false), (0.95, false)]).unwrap();
        close(c.expected_error, (0.26 + 0.95) / 4.0);
        close(c.confidence, 3.21 / 4.0);
        close(c.accuracy, 0.5);
        assert_eq!(c.bins.len(), BINS);
        let counts: Vec<(usize, u64)> = c.bins.iter().map(|b| b.count).enumerate().collect();
        for (i, count) in counts {
            assert_eq!(count, if i == 9 || i == 14 { 2 } else { 0 }, "bin {i}");
        }
        close(c.bins[9].confidence.unwrap(), 0.63);
        assert_eq!(c.bins[9].accuracy, Some(0.5));
        assert_eq!(c.bins[0].confidence, None);
        assert_eq!((c.bins[0].from, c.bins[14].to), (0.0, 1.0));
        assert_eq!(calibration(&[]), None);
    }

    #[test]
    fn calibration_takes_its_edges() {
        // A sum of 32-bit weights can exceed 1.
        let c = calibration(&[(0.0, false), (1.0, true), (1.0 + 1e-7, true)]).unwrap();
        assert_eq!((c.bins[0].count, c.bins[14].count), (1, 2));
        assert!(c.expected_error < 1e-7, "{}", c.expected_error);
        let sure_and_wrong = calibration(&[(1.0, false)]).unwrap();
        assert_eq!(sure_and_wrong.expected_error, 1.0);
    }

    #[test]
    fn age_errors_have_a_size_and_a_direction() {
        let e = age_error(&[(30.0, 32.0), (40.0, 35.0), (20.0, 20.5)]).unwrap();
        close(e.mean_absolute, 7.5 / 3.0);
        close(e.median_absolute, 2.0);
        close(e.bias, -2.5 / 3.0);
        assert_eq!(e.recordings, 3);
        let e = age_error(&[(30.0, 32.0), (40.0, 35.0)]).unwrap();
        close(e.median_absolute, 3.5);
        assert_eq!(age_error(&[]), None);
    }

    #[test]
    fn the_interval_covers_resampled_speakers() {
        let good = confusion(&[&[10, 0], &[0, 10]]);
        let bad = confusion(&[&[0, 10], &[10, 0]]);
        assert_eq!(uar_interval(std::slice::from_ref(&good)), None);
        assert_eq!(uar_interval(&vec![good.clone(); 3]), Some([1.0, 1.0]));
        // A quarter of the samples holds only the bad one and a quarter only the
        // good one.
        assert_eq!(uar_interval(&[good.clone(), bad.clone()]), Some([0.0, 1.0]));
        let many = [vec![good; 50], vec![bad; 50]].concat();
        let [low, high] = uar_interval(&many).unwrap();
        // The share of good speakers among 100 has a standard deviation of 0.05; 95 % lie within
        // 1.96 of it.
        assert!((low - 0.402).abs() < 0.02, "{low}");
        assert!((high - 0.598).abs() < 0.02, "{high}");
    }

    #[test]
    fn coverage_starts_with_the_most_confident_predictions() {
        let predictions = [(0.9, true), (0.2, false), (0.8, true), (0.4, false)];
        let points = coverage(&predictions);
        let numbers: Vec<(f64, u64, f64, f64)> = points
            .iter()
            .map(|p| (p.coverage, p.recordings, p.least_weight, p.accuracy))
            .collect();
        let wanted = [
            (0.5, 2, 0.8, 1.0),
            (0.7, 3, 0.4, 2.0 / 3.0),
            (0.9, 4, 0.2, 0.5),
            (1.0, 4, 0.2, 0.5),
        ];
        assert_eq!(numbers, wanted);
        assert_eq!(coverage(&[]), []);
    }

    #[test]
    fn intervals_of_ages_hold_their_ends() {
        let of = |low: f64, high: f64| AgeInterval {
            low,
            high,
            coverage: 0.8,
        };
        let ages = [
            (30.0, of(30.0, 40.0)),
            (40.0, of(30.0, 40.0)),
            (29.0, of(30.0, 34.0)),
        ];
        let quality = interval_quality(&ages).unwrap();
        close(quality.coverage, 2.0 / 3.0);
        close(quality.mean_width, 8.0);
        assert_eq!((quality.recordings, quality.stated), (3, 0.8));
        assert_eq!(interval_quality(&[]), None);
    }

    #[test]
    fn age_errors_of_alike_speakers_have_no_interval_to_speak_of() {
        let speaker = vec![(30.0, 33.0), (20.0, 18.0)];
        let none: Vec<(f64, f64)> = Vec::new();
        assert_eq!(age_error_interval(&[speaker.clone(), none]), None);
        assert_eq!(age_error_interval(&vec![speaker; 3]), Some([2.5, 2.5]));
    }
}
