//! What fits on a label.

use super::timeline::strongest;
use super::{Context, group_name};
use crate::prediction::{Prediction, Segment, Window};

/// The strongest of `names` and its weight: `neutral 0.42`.
pub fn weight(names: &[String], weights: &[f64]) -> Option<String> {
    strongest(names, weights).map(|(name, weight)| format!("{name} {weight:.2}"))
}

/// The answer for the whole recording: `neutral 0.26, 28.8 years (20-29), female 1.00`.
pub fn answer(context: &Context, p: &Prediction) -> String {
    let emotions: Vec<f64> = p.emotions.iter().map(|e| e.mean).collect();
    let age = format!("{:.1} years ({})", p.age.years, group_name(p.age));
    let parts = [
        weight(&context.emotions, &emotions),
        Some(age),
        weight(&context.genders, &p.gender),
    ];
    join(parts)
}

/// What one window says: `neutral 0.42, 28.5 years, female 0.88`, or less if the model says less.
pub fn window(context: &Context, window: &Window) -> String {
    join([
        weight(&context.emotions, &window.emotions),
        window.age.map(|years| format!("{years:.1} years")),
        weight(&context.genders, &window.gender),
    ])
}

/// The answer for one stretch of speech: `neutral 0.42, 28.5 years, female 0.88`.
pub fn segment(context: &Context, segment: &Segment) -> String {
    let emotions: Vec<f64> = segment.emotions.iter().map(|e| e.mean).collect();
    join([
        weight(&context.emotions, &emotions),
        Some(format!("{:.1} years", segment.age.years)),
        weight(&context.genders, &segment.gender),
    ])
}

fn join(parts: [Option<String>; 3]) -> String {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(", ")
}
