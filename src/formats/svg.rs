//! The answer for one recording as a picture that needs nothing besides itself: no script, no font,
//! no image from elsewhere. It follows the reader's choice of light or dark.

mod canvas;
mod style;
mod timeline;

use canvas::{Anchor, Canvas, escape, shorten, width, wrap};
use style::{COLOURS, SMALL_SIZE, STYLE, TEXT_SIZE, TITLE_SIZE};

use super::timeline::{Cell, cells, strongest};
use super::{Context, NOTICE, table};
use crate::prediction::{Prediction, Warning};

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;
/// The time axis' ends.
const LEFT: f64 = 104.0;
const RIGHT: f64 = WIDTH - MARGIN;
/// From one emotion's bar to the next.
const BAR_STEP: f64 = 22.0;
const BAR_HEIGHT: f64 = 14.0;
/// Where the bars end if a weight is 1, and where what is said besides them begins.
const BARS_END: f64 = 470.0;
const TEXT_LEFT: f64 = 610.0;
const LINE: f64 = 18.0;
/// Changes of the strongest emotion that the description lists.
const DESCRIBED: usize = 20;

/// The document of one recording.
pub fn document(context: &Context, file: &str, p: &Prediction) -> String {
    let mut canvas = Canvas::default();
    let title = shorten(file, TITLE_SIZE, RIGHT - MARGIN);
    canvas.text("title", Anchor::Start, MARGIN, 38.0, &title);
    let mut y = 50.0;
    for line in wrap(&table::voice(p), SMALL_SIZE, RIGHT - MARGIN) {
        y += 10.0;
        canvas.text("small", Anchor::Start, MARGIN, y, &line);
        y += LINE - 10.0;
    }
    y = timeline::draw(&mut canvas, context, p, y + 10.0);
    let below_bars = bars(&mut canvas, context, p, y);
    let below_text = sayings(&mut canvas, context, p, y);
    y = below_bars.max(below_text) + 20.0;
    for line in footer(context) {
        canvas.text("small", Anchor::Start, MARGIN, y, &line);
        y += LINE;
    }
    let height = (y + 4.0).ceil();
    let elements = canvas.finish();
    let name = escape(&format!("Voice-based estimate for {file}"));
    let description = escape(&description(context, p));
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" class="maeum" role="img" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">
<title>{name}</title>
<desc>{description}</desc>
<style>
{STYLE}</style>
<rect class="back" width="{WIDTH}" height="{height}"/>
{elements}</svg>
"#
    )
}

/// The merged weights, strongest first, each with a whisker of one deviation to both sides.
fn bars(canvas: &mut Canvas, context: &Context, p: &Prediction, top: f64) -> f64 {
    let uncertain = p.emotions.iter().any(|e| e.std > 0.0);
    let left = context.emotions.iter().map(|n| width(n, TEXT_SIZE));
    let left = MARGIN + left.fold(0.0, f64::max).min(160.0) + 12.0;
    let x = |share: f64| left + (BARS_END - left) * share.clamp(0.0, 1.0);
    let mut order: Vec<usize> = (0..p.emotions.len().min(context.emotions.len())).collect();
    order.sort_by(|&a, &b| p.emotions[b].mean.total_cmp(&p.emotions[a].mean));
    let mut y = top + TEXT_SIZE;
    canvas.text("head", Anchor::Start, MARGIN, y, "emotion, whole recording");
    y += 10.0;
    for i in order {
        let estimate = p.emotions[i];
        let middle = y + BAR_HEIGHT / 2.0;
        let name = shorten(&context.emotions[i], TEXT_SIZE, left - MARGIN - 10.0);
        canvas.text("name", Anchor::End, left - 8.0, middle + 4.5, &name);
        canvas.rect("plot", left, y, BARS_END - left, BAR_HEIGHT);
        let class = format!("c{}", i % COLOURS);
        canvas.rect(&class, left, y, x(estimate.mean) - left, BAR_HEIGHT);
        let mut said = format!("{:.1} %", estimate.mean * 100.0);
        if uncertain {
            let ends = [-estimate.std, estimate.std].map(|d| x(estimate.mean + d));
            for class in ["halo", "whisker"] {
                canvas.line(class, (ends[0], middle), (ends[1], middle));
                for end in ends {
                    canvas.line(class, (end, middle - 4.0), (end, middle + 4.0));
                }
            }
            said += &format!(" ± {:.1}", estimate.std * 100.0);
        }
        canvas.text("value", Anchor::Start, BARS_END + 10.0, middle + 4.5, &said);
        y += BAR_STEP;
    }
    if let Some(draws) = table::draws(p) {
        let said = format!("± over {draws} random draws of the network");
        canvas.text("small", Anchor::Start, MARGIN, y + 10.0, &said);
        y += LINE;
    }
    y
}

/// Age, gender and warnings, beside the bars.
fn sayings(canvas: &mut Canvas, context: &Context, p: &Prediction, top: f64) -> f64 {
    let room = RIGHT - TEXT_LEFT;
    let mut y = top + TEXT_SIZE;
    let warnings: Vec<String> = p.warnings.iter().map(Warning::to_string).collect();
    let mut said = vec![
        ("age", "name", vec![table::age(p)]),
        ("gender", "name", vec![table::gender(context, p)]),
    ];
    if let Some(speaker) = &p.speaker {
        said.push(("speaker", "name", vec![table::relative(speaker)]));
    }
    if !warnings.is_empty() {
        said.push(("warnings", "warn", warnings));
    }
    for (heading, class, said) in said {
        canvas.text("head", Anchor::Start, TEXT_LEFT, y, heading);
        y += LINE;
        for line in said.iter().flat_map(|s| wrap(s, TEXT_SIZE, room)) {
            canvas.text(class, Anchor::Start, TEXT_LEFT, y, &line);
            y += LINE;
        }
        y += 6.0;
    }
    y
}

/// What the picture may be used for.
fn footer(context: &Context) -> Vec<String> {
    let model = format!("model {}, sha256 {}", context.model, context.identity);
    let licences = table::licences(context);
    let lines = licences.lines().chain([NOTICE, &model]);
    let lines = lines.flat_map(|line| wrap(line, SMALL_SIZE, RIGHT - MARGIN));
    lines.collect()
}

/// The picture in words.
fn description(context: &Context, p: &Prediction) -> String {
    let mut order: Vec<_> = context.emotions.iter().zip(&p.emotions).collect();
    order.sort_by(|a, b| b.1.mean.total_cmp(&a.1.mean));
    let emotions = order
        .iter()
        .map(|(name, e)| format!("{name} {:.1} %", e.mean * 100.0));
    let emotions: Vec<String> = emotions.collect();
    let mut text = format!(
        "Emotion: {}. Age: {}. Gender: {}. Voice: {}.",
        emotions.join(", "),
        table::age(p),
        table::gender(context, p),
        table::voice(p)
    );
    let runs = runs(context, &cells(p));
    let mut said: Vec<String> = runs
        .iter()
        .take(DESCRIBED)
        .map(|(name, start, end)| format!("{name} from {start:.1} to {end:.1} s"))
        .collect();
    if runs.len() > DESCRIBED {
        said.push(format!("and {} more changes", runs.len() - DESCRIBED));
    }
    if !said.is_empty() {
        text += &format!(" Strongest over time: {}.", said.join(", "));
    }
    for warning in &p.warnings {
        text += &format!(" Warning: {warning}.");
    }
    text + " " + NOTICE
}

/// The strongest emotion and from when to when it stays the strongest.
fn runs<'a>(context: &'a Context, cells: &[Cell]) -> Vec<(&'a str, f64, f64)> {
    let mut runs: Vec<(&str, f64, f64)> = Vec::new();
    for cell in cells {
        let Some((name, _)) = strongest(&context.emotions, &cell.emotions) else {
            continue;
        };
        match runs.last_mut() {
            Some((last, _, end)) if *last == name && *end == cell.time.start => {
                *end = cell.time.end;
            }
            _ => runs.push((name, cell.time.start, cell.time.end)),
        }
    }
    runs
}
